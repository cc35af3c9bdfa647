//! The file a supervisor learns a process' number from.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{Result, error::OrFail};

/// Writes the number under another name first: a supervisor that waits for the file to appear must
/// not read it empty.
pub(crate) fn write(path: &Path, pid: i32) -> Result<()> {
    write_new(path, pid).or_fail(|| format!("write {}", path.display()))
}

fn write_new(path: &Path, pid: i32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{pid}"));
    let temporary = path.with_file_name(hidden);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let written = write!(file, "{pid}").and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}
