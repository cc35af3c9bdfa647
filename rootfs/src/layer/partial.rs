//! The bytes of a blob that have arrived, kept for a pull that is interrupted.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use oci_spec::image::Descriptor;
use sha2::{Digest as _, Sha256};

use super::blocks;
use crate::{
    error::{During, Result},
    lock::{Lock, Mode},
    store::{Store, hex},
};

/// A blob's beginning; locked, so that only one process lets it grow.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    have: u64,
    size: u64,
    digest: String,
    published: bool,
}

/// The bytes arrived but could not be written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unkept(io::Error);

/// What was received in all.
#[derive(Default)]
pub(super) struct Received {
    digest: String,
    size: u64,
    /// Why the bytes could not be kept, if they could not.
    pub(super) kept: Option<io::Error>,
    /// The other threads gave up; what they say matters, unless the bytes turn out to be wrong.
    complete: bool,
}

impl Partial {
    pub(super) fn open(store: &Store, blob: &Descriptor) -> Result<Self> {
        let digest = hex(blob.digest())?.to_owned();
        let path = store.path("partial", &digest);
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path);
            let file = file.during("open", path.display())?;
            Lock::of(&file, Mode::Exclusive, true).during("lock", path.display())?;
            if !is_at(&file, &path) {
                continue; // the one before us completed it while we waited
            }
            let have = file.metadata().during("examine", path.display())?.len();
            let mut partial =
                Self { path, file, have, size: blob.size(), digest, published: false };
            if partial.have > partial.size {
                partial.discard()?;
            }
            return Ok(partial);
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.have
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn discard(&mut self) -> Result<()> {
        self.have = 0;
        self.file.set_len(0).during("truncate", self.path.display())
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().during("sync", self.path.display())
    }

    /// Moves the complete blob to its place.
    pub(super) fn keep(&mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).during("complete", path.display())?;
        self.published = true;
        Ok(())
    }

    /// Sends everything on: first what there is, then what comes, which is also written to the file.
    ///
    /// When the other threads find the bytes faulty, reading goes on without them, so that wrong bytes
    /// are reported as such; `give_up` says that they failed for another reason.
    pub(super) fn receive(
        &mut self,
        mut bytes: impl Read,
        output: blocks::Writer,
        give_up: &AtomicBool,
        progress: &dyn Fn(u64),
    ) -> io::Result<Received> {
        let mut received = Received::default();
        let mut hasher = Sha256::new();
        let mut output = Some(output);
        let mut flushed = self.have;
        self.file.seek(SeekFrom::Start(0))?;
        let mut old = (&self.file).take(self.have);
        // One byte more than promised is enough to see that there are too many.
        let left = self.size.saturating_sub(self.have).saturating_add(1);
        let mut fresh = (&mut bytes).take(left);
        for is_fresh in [false, true] {
            loop {
                let each = |piece: &[u8]| {
                    hasher.update(piece);
                    if !is_fresh {
                        return Ok(());
                    }
                    (&self.file).write_all(piece).map_err(|error| io::Error::other(Unkept(error)))
                };
                if is_fresh {
                    flushed = self.write_back(received.size, flushed);
                }
                let source: &mut dyn Read = if is_fresh { &mut fresh } else { &mut old };
                match fill(&mut output, source, each) {
                    Ok(0) => break,
                    Ok(count) => {
                        let count = u64::try_from(count).unwrap_or(0);
                        received.size = received.size.saturating_add(count);
                        progress(count);
                    }
                    Err(error) => match error.downcast::<Unkept>() {
                        Ok(Unkept(error)) => {
                            received.kept = Some(error);
                            return Ok(received);
                        }
                        Err(error) => return Err(error),
                    },
                }
                if give_up.load(Ordering::Relaxed) {
                    return Ok(received);
                }
            }
        }
        received.digest = super::hex(hasher);
        received.complete = true;
        if received.size == self.size
            && received.digest == self.digest
            && let Some(output) = output
        {
            let _ = output.finish(); // whoever gave up says why
        }
        Ok(received)
    }

    /// Lets the disk begin with what has arrived: a blob is not read again soon, and what is written early
    /// need not be waited for at the end. Only advice, so failure is no failure.
    fn write_back(&self, size: u64, flushed: u64) -> u64 {
        const STEP: u64 = 8 << 20;
        let fresh = size.saturating_sub(flushed);
        if fresh < STEP {
            return flushed;
        }
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(&self.file, flushed, std::num::NonZeroU64::new(fresh), advice);
        size
    }

    /// What is wrong with the bytes: kind, found, promised.
    pub(super) fn mismatch(&self, received: &Received) -> Option<(&'static str, String, String)> {
        if !received.complete {
            return None;
        }
        if received.size != self.size {
            let more = if received.size > self.size { "more than " } else { "" };
            let actual = format!("{more}{} bytes", received.size.min(self.size));
            return Some(("size", actual, format!("{} bytes", self.size)));
        }
        if received.digest != self.digest {
            let digest = |hex: &str| format!("sha256:{hex}");
            return Some(("digest", digest(&received.digest), digest(&self.digest)));
        }
        None
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An empty file is of no use to anybody.
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if !self.published && is_empty && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads a block and hands it over; once nobody takes blocks any more, only reads it.
fn fill(
    output: &mut Option<blocks::Writer>,
    source: &mut dyn Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    if let Some(writer) = output {
        let mut seen = 0;
        let filled = writer.fill(source, |piece| {
            seen = piece.len();
            each(piece)
        });
        match filled {
            Err(error) if blocks::is_gone(&error) => {
                *output = None;
                if seen > 0 {
                    return Ok(seen);
                }
            }
            other => return other,
        }
    }
    let mut piece = [0; 16 * 1024];
    let count = source.read(&mut piece)?;
    each(piece.get(..count).unwrap_or_default())?;
    Ok(count)
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}
