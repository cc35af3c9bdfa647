//! What /proc says about a process.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

/// Its user and its command line; `None` when it has ended.
pub(crate) fn describe(pid: i32) -> Option<(u32, String)> {
    let directory = PathBuf::from("/proc").join(pid.to_string());
    let uid = fs::metadata(&directory).ok()?.uid();
    let arguments = fs::read(directory.join("cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    let command = arguments.trim_end_matches('\0').replace('\0', " ");
    if !command.is_empty() {
        return Some((uid, command));
    }
    // A kernel thread or a zombie has no command line, only a name.
    let name = fs::read_to_string(directory.join("comm")).ok()?;
    Some((uid, format!("[{}]", name.trim_end())))
}
