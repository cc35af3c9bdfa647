//! Comparing a layer's files with what its tar says about them.
//!
//! The digest of the tar made again proves the files' data; that their modes, owners and targets are still
//! those of the tar's headers is seen by looking.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
};
use sys::Root;

use crate::{
    layer::blocks::Hashed,
    name, overlay,
    owners::Owners,
    tar::{Archive, Entry, Kind},
};

/// Reads a tar to its end, hashing it, and compares its entries with the files beneath `files`.
///
/// Returns the digest in hexadecimal digits and what the first file that differs is like.
pub(crate) fn compare(tar: impl Read, files: &Path) -> Result<(String, Option<String>), String> {
    let mut input = Hashed::new(io::BufReader::with_capacity(128 * 1024, tar));
    let root = Root::open(files).map_err(|error| format!("it cannot be opened: {error}"))?;
    let suspects = walk(&mut input, &root)?;
    let problem = suspects.into_iter().next();
    Ok((
        input.finish().0,
        problem.map(|(path, problem)| format!("{}: {problem}", name::printable(&path))),
    ))
}

fn walk(
    input: &mut impl io::BufRead,
    root: &Root,
) -> Result<BTreeMap<Vec<u8>, &'static str>, String> {
    let mut archive = Archive::new(input);
    let owners = Owners::here();
    // A later entry of the same path may be the one that counts.
    let mut suspects = BTreeMap::new();
    let failed = |error: crate::tar::Error| format!("its tar cannot be read: {error}");
    while let Some(entry) = archive.next_entry().map_err(failed)? {
        archive.take_headers();
        loop {
            let length = archive.data().map_err(failed)?.len();
            if length == 0 {
                break;
            }
            archive.consume(length);
        }
        let Ok(path) = name::clean(&entry.path) else { continue };
        let (_, last) = name::split(&path);
        if last.starts_with(overlay::WHITEOUT_PREFIX) {
            continue;
        }
        if entry.kind != Kind::Directory {
            // It took the place of a directory, and of all that was missed in it.
            suspects.retain(|suspect: &Vec<u8>, _| !name::is_within(suspect, &path));
        }
        match difference(root, &path, &entry, &owners) {
            Some(problem) => drop(suspects.insert(path, problem)),
            None => drop(suspects.remove(&path)),
        }
    }
    archive.rest(|_| Ok(())).map_err(failed)?;
    Ok(suspects)
}

fn difference(root: &Root, path: &[u8], entry: &Entry, owners: &Owners) -> Option<&'static str> {
    let is_device = matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice);
    let is_null = is_device && entry.device == (0, 0);
    // Links have no metadata of their own, and the device of D-7 is stored as something else.
    if entry.kind == Kind::HardLink || is_null || is_device && !owners.may_make_devices() {
        return None;
    }
    let found = match root.open_plain(Path::new(OsStr::from_bytes(path)), OFlags::PATH) {
        Ok(found) => found,
        // Unpacked through a link of the same layer, whose target has a path of its own.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => return None,
        Err(_) => return Some("it is missing"),
    };
    let Ok(stat) = rustix::fs::fstat(&found) else { return Some("it cannot be examined") };
    let kind = match entry.kind {
        Kind::File | Kind::HardLink => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Directory => FileType::Directory,
        Kind::Fifo => FileType::Fifo,
    };
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Some("it is something else");
    }
    if kind != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return Some("its mode is not that of the layer");
    }
    if owners.include(entry.uid, entry.gid) && (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid)
    {
        return Some("its owner is not that of the layer");
    }
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(&found, "", Vec::new());
        if !target.is_ok_and(|target| target.as_bytes() == entry.link) {
            return Some("its target is not that of the layer");
        }
    }
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if is_device && stat.st_rdev != rustix::fs::makedev(entry.device.0, entry.device.1) {
        return Some("it is another device");
    }
    None
}
