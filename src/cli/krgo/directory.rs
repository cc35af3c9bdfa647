//! Which directory a person means with `-r`.
//!
//! The old how-to's commands, typed literally, name directories that are not there: `-r debian` from inside
//! `debian`, or `-r debian_curl` for what is called `debian`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rootfs::{Store, git::Rootfs};

use crate::{output, report::advise};

/// What krgo took when nothing was said.
pub(super) const DEFAULT: &str = "rootfs";

/// The root filesystem that exists and is meant.
pub(super) fn existing(store: &Store, typed: Option<&Path>) -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let wanted = match typed {
        Some(typed) => typed,
        // Without a word, the directory we are in, if it is one.
        None if is_rootfs(store, &here) => return Ok(PathBuf::from(".")),
        None => Path::new(DEFAULT),
    };
    match fs::symlink_metadata(wanted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return Ok(other.map(|_| wanted.to_owned())?),
    }
    if here.file_name() == wanted.file_name() && is_rootfs(store, &here) {
        output::note(format_args!(
            "no directory {} here, but this one is called so: using it",
            wanted.display()
        ));
        return Ok(PathBuf::from("."));
    }
    Err(nothing_at(store, &here, wanted))
}

fn nothing_at(store: &Store, here: &Path, wanted: &Path) -> anyhow::Error {
    let mut shown = wanted.display().to_string();
    if wanted.is_relative() && !shown.starts_with('.') {
        shown.insert_str(0, "./");
    }
    let message = format!("no rootfs at {shown}");
    if let Some((name, branch)) = rootfs_in(store, here).into_iter().next() {
        let branch = branch.get(..12).unwrap_or(&branch);
        return advise(format!("{message}; found ./{name} ({branch}…)"), format!("use -r {name}"));
    }
    if let Some(name) = here.file_name().filter(|_| is_rootfs(store, here)) {
        let name = name.to_string_lossy();
        return advise(format!("{message}; this directory, {name}, is one"), "use -r .");
    }
    advise(message, "make one with `crun-cargo pull IMAGE -g -r DIR`")
}

/// The git-layered root filesystems below a directory, with the branches they show.
fn rootfs_in(store: &Store, directory: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let branch = Rootfs::new(store, &path).branch().ok()??;
            Some((path.file_name()?.to_str()?.to_owned(), branch))
        })
        .collect();
    found.sort();
    found
}

fn is_rootfs(store: &Store, directory: &Path) -> bool {
    Rootfs::new(store, directory).branch().is_ok()
}
