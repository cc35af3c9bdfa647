//! A new directory that is filled whole or not at all.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::error::{Error, Result};

/// In the directory while it is being filled. Whoever finds it without its lock held may start over.
const MARK: &str = ".crun-cargo-unfinished";

/// A directory being filled. Dropped without [`Claim::finish`], it is emptied again.
pub(crate) struct Claim {
    directory: PathBuf,
    made: bool,
    _lock: File,
    finished: bool,
}

impl Claim {
    /// Claims a directory that does not exist, is empty, or holds what a killed command left.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let made = match fs::create_dir(directory) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("create", directory)(error)),
        };
        let mark = directory.join(MARK);
        let empty = fs::read_dir(directory).map_err(Error::io("list", directory))?.next().is_none();
        let mut options = File::options();
        let options =
            if empty { options.write(true).create_new(true) } else { options.write(true) };
        let lock = match options.open(&mark) {
            Err(error) if !empty && error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotEmpty(directory.to_owned()));
            }
            other => other.map_err(Error::io("create", &mark))?,
        };
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::Locked(mark),
            fs::TryLockError::Error(error) => Error::io("lock", &mark)(error),
        })?;
        let claim = Self { directory: directory.to_owned(), made, _lock: lock, finished: false };
        if !empty {
            claim.clear().map_err(Error::io("empty", directory))?;
        }
        Ok(claim)
    }

    /// The directory is complete.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mark = self.directory.join(MARK);
        fs::remove_file(&mark).map_err(Error::io("remove", &mark))?;
        self.finished = true;
        Ok(())
    }

    /// Removes everything but the mark.
    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name() == MARK {
                continue;
            }
            // No container has run here yet, and neither call follows links.
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let remove = || -> io::Result<()> {
            self.clear()?;
            fs::remove_file(self.directory.join(MARK))?;
            if self.made { fs::remove_dir(&self.directory) } else { Ok(()) }
        };
        // The error that brought us here is the one to report.
        if let Err(error) = remove() {
            log::warn!("cannot empty {}: {error}", self.directory.display());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::git::scratch::Scratch;

    #[test]
    fn a_directory_is_filled_whole_or_not_at_all() {
        let scratch = Scratch::new("claim");
        let directory = scratch.path.join("new");
        let claim = Claim::new(&directory).unwrap();
        assert!(matches!(Claim::new(&directory), Err(Error::Locked(_))));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        drop(claim);
        assert!(!directory.is_dir());
        let claim = Claim::new(&directory).unwrap();
        fs::write(directory.join("file"), "").unwrap();
        claim.finish().unwrap();
        assert!(matches!(Claim::new(&directory), Err(Error::NotEmpty(_))));
        // As after SIGKILL: the mark is there, its lock is not.
        fs::write(directory.join(MARK), "").unwrap();
        Claim::new(&directory).unwrap().finish().unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}
