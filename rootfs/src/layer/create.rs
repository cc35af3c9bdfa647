//! New layers: a tar that is made here instead of received.
//!
//! What is written is at once unpacked, exactly as a pull would unpack it, and compressed into a blob.

use std::{fs, io, io::Write, path::Path, thread};

use oci_spec::image::Digest;

use super::{Compression, Limits, Unpacked, blocks, joined, record::Record, unpack};
use crate::{
    compress,
    error::{During, Error, Result},
    extract::Failure,
    image::StoredLayer,
    lock::{Lock, Mode},
    name, remove,
    store::{Store, create, hex, is_there, private_directory},
};

impl Store {
    /// Makes a layer of the tar that `write` writes; it is present until [`Store::add_image`] records it.
    pub(crate) fn create_layer(
        &self,
        compression: Compression,
        level: Option<i32>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<StoredLayer> {
        self.make()?;
        self.disk()?;
        let temporary = self.temporary("layer-new");
        let blob = self.temporary("blob");
        let result = self.write_layer(&temporary, &blob, compression, level, write);
        if result.is_err() {
            // The error that brought us here is the one to report.
            let _ = remove::tree(&temporary);
            let _ = remove::tree(&blob);
        }
        result
    }

    fn write_layer(
        &self,
        temporary: &Path,
        blob: &Path,
        compression: Compression,
        level: Option<i32>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<StoredLayer> {
        private_directory(temporary).during("create", temporary.display())?;
        let mut blob_file = create(blob).during("create", blob.display())?;
        let all = u64::MAX;
        let limits = Limits { bytes: all, dense: all, room: all, entries: all };
        let (tar_in, tar_out) = blocks::pipe();
        let (written, unpacked) = thread::scope(|scope| {
            let extract = thread::Builder::new()
                .name("extract".into())
                .spawn_scoped(scope, move || unpack(tar_out, Some(temporary), limits))
                .during("start", "a thread")?;
            let written =
                compress::with_compressor(&mut blob_file, compression, level, |compressor| {
                    let mut both = Both { tar: tar_in, compressor };
                    write(&mut both)?;
                    both.tar.finish()
                });
            Ok((written, joined(extract)))
        })?;
        let written = match written {
            // Then the extracting thread has the better reason.
            Err(error) if blocks::is_gone(&error) => Err(error),
            other => Ok(other.during("write", blob.display())?),
        };
        let unpacked = made(unpacked)?;
        let ((), compressed) = written.during("write", blob.display())?;
        let made = compressed.into_blob(compression)?;
        let digest = made.digest();
        let diff_id = format!("sha256:{}", unpacked.diff_id);
        let diff_id: Digest = diff_id.parse().map_err(|_| Error::UnsupportedDigest(diff_id))?;
        if let Some(extracted) = &unpacked.extracted {
            let forms = temporary.join("blobs");
            private_directory(&forms).during("create", forms.display())?;
            Record::new(&diff_id, extracted, unpacked.tar_size).write(temporary)?;
        }
        // A blob without its layer would look like garbage.
        let _busy = self.lock_store(Mode::Shared)?;
        let is_known = self.place_layer(temporary, &diff_id, digest)?;
        let path = self.blob_path(digest)?;
        // One that is there is left alone: an image may count on it, and the new one is not on the disk yet.
        let is_there = is_known && is_there(&path);
        let placed = if is_there { fs::remove_file(blob) } else { fs::rename(blob, &path) };
        placed.during("complete", path.display())?;
        Ok(StoredLayer { blob: made, diff_id })
    }

    /// Moves a complete layer to its place, unless it is there already. Says whether this compressed form
    /// of it was, too.
    fn place_layer(&self, temporary: &Path, diff_id: &Digest, blob: &Digest) -> Result<bool> {
        let lock_path = self.path("locks", hex(diff_id)?);
        let lock = Lock::wait(&lock_path, Mode::Exclusive).during("lock", lock_path.display())?;
        let path = self.layer_path(diff_id)?;
        let form = path.join("blobs").join(hex(blob)?);
        let has_files = self.has_files(diff_id)?;
        let is_known = has_files && is_there(&form);
        if has_files {
            remove::tree(temporary).during("remove", temporary.display())?;
        } else {
            remove::to_trash(self, &path)?;
            fs::rename(temporary, &path).during("complete", path.display())?;
        }
        create(&form).map(drop).during("create", form.display())?;
        lock.share().during("lock", lock_path.display())?;
        self.held.keep(diff_id.digest(), lock);
        Ok(is_known)
    }
}

/// Passes what is written to the extracting thread and to the compressor.
struct Both<'b, 'c> {
    tar: blocks::Writer,
    compressor: &'b mut compress::Compressor<'c>,
}

impl Write for Both<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tar.write_all(bytes)?;
        self.compressor.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn made(unpacked: Result<Unpacked, Failure>) -> Result<Unpacked> {
    unpacked.map_err(|failure| match failure {
        Failure::Archive { entry, problem } => {
            Error::NewLayer { entry: name::printable(&entry), problem }
        }
        Failure::System { entry, operation, source } => Error::Io {
            operation,
            object: format!("{:?} of the new layer", name::printable(&entry)),
            source,
        },
        Failure::Input(source) => {
            Error::Io { operation: "read", object: "the new layer's content".to_owned(), source }
        }
    })
}
