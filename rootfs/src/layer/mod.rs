//! A layer's way into the store: bytes → verified → decompressed → verified → files, in one pass.
//!
//! Three threads, joined by pipes of a few blocks, so nothing is buffered whole:
//!
//! ```text
//!   caller      receive, keep in partial/<blob>, sha256      ─► blocks
//!   inflate     decompress                                   ─► blocks
//!   extract     sha256 of the tar, parse, make files, write the recipe
//! ```

pub(crate) mod blocks;
mod create;
mod inflate;
mod partial;
pub(crate) mod record;

use std::{
    cell::Cell,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use oci_spec::image::{Descriptor, Digest, MediaType};

pub use inflate::Compression;
pub(crate) use inflate::reader as decompress;
pub use inflate::{decompressed, is_compressed};

use crate::{
    error::{During, Error, Result},
    extract::{Extracted, Extractor, Failure, Limits},
    lock::{Lock, Mode},
    name, recipe, remove,
    store::{Store, hex as file_name, is_there, private_directory},
};
use blocks::Hashed;
use partial::Partial;
use record::Record;

/// How many times its compressed size a layer may unpack to, zeros not counted: no honest content shrinks
/// so much.
const MAX_RATIO: u64 = 1000;

/// So much is no bomb, whatever it came from.
const ANY_RATIO: u64 = 64 << 20;

/// What there is of a layer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are as many of these as downloads under way")]
pub enum LayerState<'s> {
    /// All of it; nothing need be fetched.
    Present,
    /// It must be fetched. Whoever holds this is the only one who does.
    Missing(NewLayer<'s>),
}

/// A layer that is being fetched. Other processes that want it wait until this is dropped.
#[derive(Debug)]
pub struct NewLayer<'s> {
    store: &'s Store,
    blob: Descriptor,
    diff_id: Digest,
    partial: Partial,
    /// Held exclusively; absent when the files are there and only this compressed form is not.
    lock: Option<Lock>,
}

impl Store {
    /// Looks for a layer, by its compressed form and what it decompresses to.
    ///
    /// Waits while another process, or another thread of this one, fetches the same layer. What is found
    /// present stays so until [`Store::add_image`] has recorded it or the store is dropped. A caller with
    /// several layers must not keep one [`NewLayer`] while it begins the same layer again.
    pub fn begin_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<LayerState<'_>> {
        check_media_type(blob)?;
        self.make()?;
        self.disk()?;
        let path = self.path("locks", file_name(diff_id)?);
        loop {
            let shared = Lock::wait(&path, Mode::Shared).during("lock", path.display())?;
            if self.has_files(diff_id)? {
                self.held.keep(diff_id.digest(), shared);
                return self.begin_known_layer(blob, diff_id);
            }
            drop(shared);
            let lock = Lock::wait(&path, Mode::Exclusive).during("lock", path.display())?;
            if self.has_files(diff_id)? {
                continue; // somebody else was faster
            }
            let partial = Partial::open(self, blob)?;
            let (blob, diff_id) = (blob.clone(), diff_id.clone());
            let lock = Some(lock);
            return Ok(LayerState::Missing(NewLayer { store: self, blob, diff_id, partial, lock }));
        }
    }

    /// Stores a layer whose bytes are at hand from the beginning, as from an archive on disk.
    ///
    /// On success the layer is present, whoever put it there.
    pub fn add_layer(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        bytes: impl Read + Send,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        match self.begin_layer(blob, diff_id)? {
            LayerState::Present => Ok(()),
            LayerState::Missing(mut layer) => {
                layer.partial.discard()?;
                layer.add(bytes, progress)
            }
        }
    }

    /// The files are there; is this the compressed form they came from?
    fn begin_known_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<LayerState<'_>> {
        let form = self.layer_path(diff_id)?.join("blobs").join(file_name(blob.digest())?);
        if is_there(&form) {
            return Ok(LayerState::Present);
        }
        let partial = Partial::open(self, blob)?;
        if is_there(&form) {
            return Ok(LayerState::Present);
        }
        let (blob, diff_id) = (blob.clone(), diff_id.clone());
        Ok(LayerState::Missing(NewLayer { store: self, blob, diff_id, partial, lock: None }))
    }

    /// Whether a layer is complete and survived: one that a power loss may have hit is not trusted
    /// unless it was known to be on disk.
    pub(crate) fn has_files(&self, diff_id: &Digest) -> Result<bool> {
        let path = self.layer_path(diff_id)?;
        if is_there(&path.join("durable")) {
            return Ok(true);
        }
        match Record::read(&path) {
            Ok(record) if record.boot == record::boot_id() => Ok(true),
            Ok(_) => self.is_vouched_for(&Path::new("layers").join(diff_id.digest())),
            Err(_) => Ok(false),
        }
    }
}

impl NewLayer<'_> {
    /// How many of the blob's first bytes an earlier pull left: [`NewLayer::add`] wants those after them.
    pub fn have(&self) -> u64 {
        self.partial.length()
    }

    /// Forgets what an earlier pull left, when the source cannot begin in the middle.
    pub fn restart(&mut self) -> Result<()> {
        self.partial.discard()
    }

    /// Verifies and unpacks the layer. `bytes` begin at [`NewLayer::have`]; `progress` is told how many
    /// compressed bytes more have been dealt with, those that were here already included.
    ///
    /// On failure what was received stays for the next attempt, unless it is known to be wrong.
    pub fn add(mut self, bytes: impl Read + Send, progress: &dyn Fn(u64)) -> Result<()> {
        let temporary = self.temporary()?;
        let outcome = self.transfer(bytes, progress, temporary.as_deref());
        if let (Err(_), Some(temporary)) = (&outcome, &temporary) {
            // The error that brought us here is the one to report; the next attempt clears it anyway.
            let _ = remove::tree(temporary);
        }
        let extracted = outcome?;
        let blob = file_name(self.blob.digest())?.to_owned();
        // A blob without its layer would look like garbage.
        let busy = self.store.lock_store(Mode::Shared)?;
        if let (Some(temporary), Some((extracted, tar_size))) = (temporary, extracted) {
            self.complete(&temporary, &extracted, tar_size)?;
            self.publish_blob()?;
            let path = self.store.layer_path(&self.diff_id)?;
            if fs::symlink_metadata(&path).is_ok() {
                remove::to_trash(self.store, &path)?; // from before a power loss
            }
            fs::rename(&temporary, &path).during("complete", path.display())?;
        } else {
            // The layer is trusted already, so nothing else would notice a blob that a power loss cut.
            self.partial.sync()?;
            self.publish_blob()?;
            let form = self.store.layer_path(&self.diff_id)?.join("blobs").join(blob);
            fs::File::create_new(&form)
                .map(drop)
                .or_else(existing)
                .during("create", form.display())?;
        }
        drop(busy);
        self.store.begin_sync();
        if let Some(lock) = self.lock.take() {
            let path = self.store.path("locks", self.diff_id.digest());
            lock.share().during("lock", path.display())?;
            self.store.held.keep(self.diff_id.digest(), lock);
        }
        Ok(())
    }

    /// Where the layer is unpacked until it is complete; `None` when it is unpacked already.
    fn temporary(&self) -> Result<Option<PathBuf>> {
        if self.lock.is_none() {
            return Ok(None);
        }
        let temporary = self.store.path("tmp", &format!("layer-{}", self.diff_id.digest()));
        remove::tree(&temporary).during("remove", temporary.display())?;
        private_directory(&temporary).during("create", temporary.display())?;
        Ok(Some(temporary))
    }

    fn transfer(
        &mut self,
        bytes: impl Read + Send,
        progress: &dyn Fn(u64),
        temporary: Option<&Path>,
    ) -> Result<Option<(Extracted, u64)>> {
        let limits = self.limits();
        let give_up = AtomicBool::new(false);
        let (compressed_in, compressed_out) = blocks::pipe();
        let (tar_in, tar_out) = blocks::pipe();
        let (received, inflated, unpacked) = thread::scope(|scope| {
            let inflate = thread::Builder::new()
                .name("inflate".into())
                .spawn_scoped(scope, move || inflate_all(compressed_out, tar_in))
                .during("start", "a thread")?;
            let extract = thread::Builder::new()
                .name("extract".into())
                .spawn_scoped(scope, || {
                    let unpacked = unpack(tar_out, temporary, limits);
                    if matches!(unpacked, Err(Failure::System { .. })) {
                        give_up.store(true, Ordering::Relaxed);
                    }
                    unpacked
                })
                .during("start", "a thread")?;
            let syncing = EarlySync::new(self.store);
            let progress = |count| {
                progress(count);
                syncing.advance(count);
            };
            let received = self.partial.receive(bytes, compressed_in, &give_up, &progress);
            Ok((received, joined(inflate), joined(extract)))
        })?;
        self.judge(received, inflated, unpacked)
    }

    /// Of several failures, the one that explains the others: wrong bytes before what they lead to.
    fn judge(
        &mut self,
        received: io::Result<partial::Received>,
        inflated: io::Result<()>,
        unpacked: Result<Unpacked, Failure>,
    ) -> Result<Option<(Extracted, u64)>> {
        let blob = self.blob.digest().clone();
        let layer = || blob.clone();
        let received = match received {
            Ok(received) => received,
            Err(source) => return Err(Error::Receive { layer: layer(), source }),
        };
        if let Some(source) = received.kept {
            return Err(Error::Io { operation: "write", object: self.partial.name(), source });
        }
        if let Some((what, actual, expected)) = self.partial.mismatch(&received) {
            let resumed = self.partial.length() > 0;
            let layer = layer();
            self.partial.discard()?;
            return Err(Error::Mismatch { layer, what, actual, expected, resumed });
        }
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(Failure::Archive { entry, problem }) => {
                // The bytes are those promised, and no use: nothing is gained by keeping them.
                self.partial.discard()?;
                let entry = name::printable(&entry);
                return Err(Error::Archive { layer: layer(), entry, problem });
            }
            Err(Failure::System { entry, operation, source }) => {
                let entry = name::printable(&entry);
                return Err(Error::Extract { layer: layer(), entry, operation, source });
            }
            Err(Failure::Input(source)) => {
                self.partial.discard()?;
                let source = inflated.err().unwrap_or(source);
                return Err(Error::Decompress { layer: layer(), source });
            }
        };
        if let Err(source) = inflated {
            self.partial.discard()?;
            return Err(Error::Decompress { layer: layer(), source });
        }
        if unpacked.diff_id != self.diff_id.digest() {
            self.partial.discard()?;
            return Err(Error::Mismatch {
                layer: layer(),
                what: "diff id",
                actual: format!("sha256:{}", unpacked.diff_id),
                expected: self.diff_id.to_string(),
                resumed: false,
            });
        }
        Ok(unpacked.extracted.map(|extracted| (extracted, unpacked.tar_size)))
    }

    fn limits(&self) -> Limits {
        const RESERVE: u64 = 64 << 20;
        let settings = self.store.settings();
        let room = rustix::fs::statvfs(self.store.root()).map_or(u64::MAX, |room| {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            let whole = room.f_blocks.saturating_mul(room.f_frsize);
            free.saturating_sub(RESERVE.min(whole / 64))
        });
        Limits {
            bytes: settings.max_layer_bytes,
            dense: self.blob.size().saturating_mul(MAX_RATIO).max(ANY_RATIO),
            room,
            entries: settings.max_layer_entries,
        }
    }

    /// Writes what makes an unpacked layer complete: its record is the mark (D-51).
    fn complete(&self, temporary: &Path, extracted: &Extracted, tar_size: u64) -> Result<()> {
        let forms = temporary.join("blobs");
        private_directory(&forms).during("create", forms.display())?;
        let form = forms.join(file_name(self.blob.digest())?);
        fs::File::create_new(&form).during("create", form.display())?;
        Record::new(&self.diff_id, extracted, tar_size).write(temporary)
    }

    fn publish_blob(&mut self) -> Result<()> {
        if self.store.settings().keep_blobs {
            self.partial.keep(&self.store.blob_path(self.blob.digest())?)
        } else {
            self.partial.discard()
        }
    }
}

/// What the extracting thread found.
struct Unpacked {
    diff_id: String,
    tar_size: u64,
    extracted: Option<Extracted>,
}

fn inflate_all(input: blocks::Blocks, mut output: blocks::Writer) -> io::Result<()> {
    let mut reader = inflate::reader(input)?;
    while output.fill(&mut reader, |_| Ok(()))? > 0 {}
    drop(reader);
    output.finish()
}

/// Unpacks into `temporary`, or only hashes when there is none.
fn unpack(
    input: blocks::Blocks,
    temporary: Option<&Path>,
    limits: Limits,
) -> Result<Unpacked, Failure> {
    let mut input = Hashed::new(input);
    let extracted = match temporary {
        Some(temporary) => {
            let system =
                |operation| move |source| Failure::System { entry: Vec::new(), operation, source };
            let recipe = temporary.join("recipe");
            let file = fs::File::create_new(recipe).map_err(system("create the recipe of"))?;
            let write = "write the recipe of";
            let mut recipe = recipe::Writer::new(file).map_err(system(write))?;
            let extracted = Extractor::new(temporary, limits)?.run(&mut input, &mut recipe)?;
            recipe.finish().map_err(system(write))?;
            Some(extracted)
        }
        None => {
            io::copy(&mut input, &mut io::sink()).map_err(Failure::Input)?;
            None
        }
    };
    let (diff_id, tar_size) = input.finish();
    Ok(Unpacked { diff_id, tar_size, extracted })
}

/// Lets the disk begin with a large layer before it is complete.
struct EarlySync<'s> {
    store: &'s Store,
    waiting: Cell<u64>,
}

impl<'s> EarlySync<'s> {
    /// Compressed bytes from one sync to the next: the disk is kept busy, the journal is not.
    const STEP: u64 = 16 << 20;

    fn new(store: &'s Store) -> Self {
        Self { store, waiting: Cell::new(0) }
    }

    fn advance(&self, count: u64) {
        self.waiting.set(self.waiting.get().saturating_add(count));
        if self.waiting.get() >= Self::STEP {
            self.waiting.set(0);
            self.store.begin_sync();
        }
    }
}

/// A thread's result; its panic is ours.
pub(crate) fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn check_media_type(blob: &Descriptor) -> Result<()> {
    let is_layer = match blob.media_type() {
        MediaType::ImageLayer
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => true,
        MediaType::Other(other) => matches!(
            other.as_str(),
            "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ),
        _ => false,
    };
    if is_layer {
        Ok(())
    } else {
        Err(Error::NotALayer { media_type: blob.media_type().to_string() })
    }
}

fn existing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// A finished sha256 in lower-case hexadecimal digits.
pub(crate) fn hex(hasher: sha2::Sha256) -> String {
    sha2::Digest::finalize(hasher).iter().map(|byte| format!("{byte:02x}")).collect()
}
