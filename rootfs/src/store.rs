//! The store: where everything is on disk, and how it gets there whole or not at all.
//!
//! ```text
//! <root>/                        0700, as is everything beneath
//!   format                       which layout this is
//!   blobs/sha256/<hex>           manifests, configurations, indexes and compressed layers, as received
//!   partial/<hex>                the beginning of a layer's blob: locked while it grows, resumed later
//!   layers/<diff id>/            one unpacked layer, renamed here when complete
//!     files/                     its tree in overlay form
//!     recipe                     the rest of its tar (zstd): with `files`, the identical tar
//!     lost/<n>                   data of files the same tar replaced later
//!     record                     what else there is to know, JSON
//!     blobs/<hex>                one empty file for each compressed form that was verified
//!     durable                    exists once everything above is known to be on disk
//!   chains/<chain id>/files      directories and links that complete a layer in one chain (see `chain`)
//!   images/<manifest>            configuration bytes, layers, overlay directories: all that `run` needs
//!   references/<name>            one small file per name
//!   containers/<name>/           one snapshot: `record`, `upper`, `work`; or `files`
//!   locks/<diff id>              held shared while a layer is in use, exclusive while made or removed
//!   tmp/                         what is being made or removed
//! ```

use std::{
    collections::hash_map::RandomState,
    fs::{self, File},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use oci_spec::image::{Digest, DigestAlgorithm};

use crate::{
    collect::Removed,
    error::{During, Error, Result},
    lock::Mode,
    remove,
};

const FORMAT: &str = "crun-cargo store 1\n";

/// Limits an image may not exceed, and what the store keeps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keep the compressed layers, so that a push sends the very bytes that were pulled.
    pub keep_blobs: bool,
    /// Most bytes one layer may unpack to.
    pub max_layer_bytes: u64,
    /// Most entries one layer may have.
    pub max_layer_entries: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep_blobs: true, max_layer_bytes: 64 << 30, max_layer_entries: 2_000_000 }
    }
}

/// Images, their layers, and the containers' writable directories.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    settings: Settings,
    made: OnceLock<()>,
    pub(crate) held: crate::lock::Held,
    disk: OnceLock<File>,
    syncing: Mutex<Option<JoinHandle<()>>>,
    /// A sync failed, and nobody can say which bytes it was about.
    is_doubtful: Arc<AtomicBool>,
}

impl Store {
    /// A store at `root`, which need not exist yet: it is made when something is first written.
    ///
    /// Reads nothing and locks nothing.
    pub fn open(root: &Path) -> Result<Self> {
        Self::with_settings(root, Settings::default())
    }

    /// The same with other limits.
    pub fn with_settings(root: &Path, settings: Settings) -> Result<Self> {
        let root = std::path::absolute(root).during("find", root.display())?;
        Ok(Self {
            root,
            settings,
            made: OnceLock::new(),
            held: crate::lock::Held::default(),
            disk: OnceLock::new(),
            syncing: Mutex::new(None),
            is_doubtful: Arc::default(),
        })
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was chosen when it was opened.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn path(&self, directory: &str, name: &str) -> PathBuf {
        self.root.join(directory).join(name)
    }

    /// The descriptor that syncs are made through. Opened before anything is written: syncfs(2) reports
    /// what could not be written since then, whoever else was told of it already (Linux 5.8).
    pub(crate) fn disk(&self) -> Result<&File> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let opened = File::open(&self.root).during("open", self.root.display())?;
        Ok(self.disk.get_or_init(|| opened))
    }

    /// Lets the disk work while more is unpacked, so that the sync that counts finds less to do.
    /// Its result does not matter: what could not be written is reported again by that one.
    pub(crate) fn begin_sync(&self) {
        let mut syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if syncing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let Ok(root) = File::open(&self.root) else { return };
        let is_doubtful = self.is_doubtful.clone();
        let sync = move || {
            if rustix::fs::syncfs(&root).is_err() {
                is_doubtful.store(true, Ordering::Relaxed);
            }
        };
        *syncing = thread::Builder::new().name("sync".into()).spawn(sync).ok();
    }

    /// Brings everything written so far to the disk, in one go. No thread is left afterwards.
    pub(crate) fn sync(&self) -> Result<()> {
        let disk = self.disk()?;
        let synced = rustix::fs::syncfs(disk).during("sync", self.root.display());
        let thread = self.syncing.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Its panic would be a fault of ours, and there is nothing in it that can.
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        if synced.is_err() {
            self.is_doubtful.store(true, Ordering::Relaxed);
        }
        synced
    }

    /// After a sync that failed, the kernel shows the next process bytes that are not on the disk, and does not
    /// tell it so. What no image vouches for loses its mark of completion and goes.
    fn distrust(&self) -> Result<()> {
        let alone = self.lock_store(Mode::Exclusive)?;
        for layer in self.names_in("layers")? {
            let path = Path::new("layers").join(layer);
            if !is_there(&self.root.join(&path).join("durable")) && !self.is_vouched_for(&path)? {
                let record = self.root.join(&path).join("record");
                remove::tree(&record).during("remove", record.display())?;
            }
        }
        self.collect(alone, &mut Removed::default())
    }

    /// A name in `tmp` that nobody else uses.
    pub(crate) fn temporary(&self, kind: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static PROCESS: OnceLock<u64> = OnceLock::new();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Process ids are used again, and what a killed process left may still be there.
        let process = PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
        self.path("tmp", &format!("{kind}-{process:016x}-{number}"))
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> Result<PathBuf> {
        Ok(self.path("blobs/sha256", hex(digest)?))
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> Result<PathBuf> {
        Ok(self.path("layers", hex(diff_id)?))
    }

    /// Makes the directories everything else expects. Cheap once they exist.
    pub(crate) fn make(&self) -> Result<()> {
        if self.made.get().is_some() {
            return Ok(());
        }
        let format = self.root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(_) => return Err(Error::UnknownFormat(self.root.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_directories()?,
            Err(error) => return Err(error).during("read", format.display()),
        }
        let _ = self.made.set(());
        Ok(())
    }

    fn make_directories(&self) -> Result<()> {
        const DIRECTORIES: [&str; 11] = [
            "blobs/sha256",
            // What the program keeps about containers: here, so that a first one adds no directory.
            "records",
            "names",
            "partial",
            "layers",
            "chains",
            "images",
            "references",
            "containers",
            "locks",
            "tmp",
        ];
        for name in DIRECTORIES {
            let path = self.root.join(name);
            private_directory(&path).during("create", path.display())?;
        }
        // An image without layers still needs a lower directory to mount.
        let empty = self.root.join("empty");
        private_directory(&empty).during("create", empty.display())?;
        self.publish("format", FORMAT.as_bytes())
    }

    /// Writes a small file under a temporary name, syncs it, and moves it to its place (D-50).
    pub(crate) fn publish(&self, name: &str, content: &[u8]) -> Result<()> {
        let draft = self.draft(content)?;
        let sync = || File::open(&draft)?.sync_data();
        sync().during("sync", draft.display())?;
        self.place(&draft, name)
    }

    /// Writes a small file under a temporary name. It must be synced before it is placed.
    pub(crate) fn draft(&self, content: &[u8]) -> Result<PathBuf> {
        let temporary = self.temporary("file");
        let written = create(&temporary).and_then(|mut file| file.write_all(content));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.during("write", temporary.display())?;
        Ok(temporary)
    }

    /// Moves a file that was synced to its place, for good.
    pub(crate) fn place(&self, draft: &Path, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let moved = fs::rename(draft, &path).and_then(|()| sync_directory_of(&path));
        if moved.is_err() {
            let _ = fs::remove_file(draft);
        }
        moved.during("write", path.display())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.is_doubtful.load(Ordering::Relaxed) {
            return;
        }
        self.held.release_all();
        // A disk that takes no more at all will fail the next process, too.
        if let Err(error) = self.distrust() {
            log::info!("cannot mark what may not be on the disk: {error}");
        }
    }
}

/// The file name a digest becomes: only sha256 has one (D-9).
pub(crate) fn hex(digest: &Digest) -> Result<&str> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 => Ok(digest.digest()),
        _ => Err(Error::UnsupportedDigest(digest.to_string())),
    }
}

/// Whether a path names anything, a dangling link included. Only for names that others make or remove
/// under a lock we hold, or where being wrong means doing something twice.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// `mkdir -p` with nobody else allowed in (D-14).
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file, or an emptied one that a killed process left under the same temporary name.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
