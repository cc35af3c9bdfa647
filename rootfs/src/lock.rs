//! Locks on single objects of the store (D-53).
//!
//! Open file description locks, fcntl(2): the kernel releases them however the process dies, threads
//! exclude each other as processes do, and exclusive becomes shared without a gap.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::Mutex,
};

use nix::{errno::Errno, fcntl, libc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// A locked file. Dropping it unlocks.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock on `path`, making the file if need be.
    pub(crate) fn wait(path: &Path, mode: Mode) -> io::Result<Self> {
        loop {
            let lock = Self { file: open(path)? };
            lock.set(mode, true)?;
            if lock.is_current(path) {
                return Ok(lock);
            }
        }
    }

    /// The lock on `path`, or `None` while somebody else's forbids it.
    pub(crate) fn attempt(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        loop {
            let lock = Self { file: open(path)? };
            if !lock.set(mode, false)? {
                return Ok(None);
            }
            if lock.is_current(path) {
                return Ok(Some(lock));
            }
        }
    }

    /// Locks a file that is open already; false while somebody else's lock forbids it.
    pub(crate) fn of(file: &File, mode: Mode, wait: bool) -> io::Result<bool> {
        set(file, mode, wait)
    }

    /// Lets others share what was made under an exclusive lock, without a moment unlocked.
    pub(crate) fn share(&self) -> io::Result<()> {
        self.set(Mode::Shared, true).map(drop)
    }

    fn set(&self, mode: Mode, wait: bool) -> io::Result<bool> {
        set(&self.file, mode, wait)
    }

    /// Whether the file we locked is still the one at `path`: its remover holds the lock while it
    /// unlinks, so we may have waited for a file nobody else will ever open.
    fn is_current(&self, path: &Path) -> bool {
        let ours = self.file.metadata();
        let theirs = std::fs::symlink_metadata(path);
        matches!((ours, theirs), (Ok(ours), Ok(theirs))
            if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

fn set(file: &File, mode: Mode, wait: bool) -> io::Result<bool> {
    let kind = if mode == Mode::Shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let whole = libc::flock {
        l_type: i16::try_from(kind).map_err(io::Error::other)?,
        l_whence: 0, // SEEK_SET
        l_start: 0,
        l_len: 0,
        l_pid: 0, // required by open file description locks
    };
    loop {
        let argument = if wait {
            fcntl::FcntlArg::F_OFD_SETLKW(&whole)
        } else {
            fcntl::FcntlArg::F_OFD_SETLK(&whole)
        };
        match fcntl::fcntl(file.as_fd(), argument) {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) if !wait => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Shared locks that keep layers from being collected between their arrival and the record of the image
/// that uses them.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<String, Lock>>);

impl Held {
    pub(crate) fn keep(&self, layer: &str, lock: Lock) {
        self.locked().insert(layer.to_owned(), lock);
    }

    pub(crate) fn release(&self, layer: &str) {
        self.locked().remove(layer);
    }

    pub(crate) fn release_all(&self) {
        self.locked().clear();
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Lock>> {
        // A panic elsewhere cannot leave a map of locks half changed.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
