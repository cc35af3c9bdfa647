//! Archives of every kind, made byte by byte, and a store to put them in.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use oci_spec::image::{Descriptor, Digest, MediaType};
use rootfs::{Error, LayerState, Snapshot, SnapshotKind, SnapshotOptions, Store, StoredImage};
use sha2::{Digest as _, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A directory of a test's own, removed at its end.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/var/tmp/rootfs-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn store(&self) -> Store {
        Store::open(&self.0.join("store")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Files an archive must not touch.
pub struct Canary {
    path: PathBuf,
    before: Vec<String>,
}

impl Canary {
    pub fn new(place: &Place) -> Self {
        let path = place.path("canary");
        fs::create_dir_all(path.join("directory/sub")).unwrap();
        fs::write(path.join("file"), "precious").unwrap();
        fs::write(path.join("directory/inner"), "precious too").unwrap();
        let before = state(&path);
        Self { path, before }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    #[track_caller]
    pub fn is_untouched(&self) {
        assert_eq!(state(&self.path), self.before);
    }
}

/// Everything about every file of a tree, as text.
pub fn state(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let file = rustix_open(&path);
        let mut xattrs = Vec::new();
        for name in sys::xattr::list(&file).unwrap() {
            let name = String::from_utf8(name).unwrap();
            let value = sys::xattr::get(&file, name.as_ref()).unwrap().unwrap();
            xattrs.push(format!("{name}={}", value.escape_ascii()));
        }
        lines.push(format!(
            "{} {:o} {}:{} {} {}.{} links {} {} {xattrs:?}",
            path.display(),
            found.mode(),
            found.uid(),
            found.gid(),
            found.ino(),
            found.mtime(),
            found.mtime_nsec(),
            found.nlink(),
            content.escape_ascii(),
        ));
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

pub fn rustix_open(path: &Path) -> std::os::fd::OwnedFd {
    use rustix::fs::{CWD, Mode, OFlags};
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap()
}

/// A tar archive being written.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// The fields of one header.
#[derive(Clone)]
pub struct Header {
    pub block: [u8; 512],
}

impl Header {
    pub fn new(name: &str, kind: u8) -> Self {
        let mut header = Self { block: [0; 512] };
        header.bytes(0, name.as_bytes());
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        header.number(100, 8, mode).number(108, 8, 0).number(116, 8, 0);
        header.number(124, 12, 0).number(136, 12, 1_000_000_000);
        header.block[156] = kind;
        header.bytes(257, b"ustar\x0000");
        header
    }

    pub fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn number(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let text = format!("{value:0width$o}\0", width = width - 1);
        self.bytes(at, text.as_bytes())
    }

    pub fn link(&mut self, target: &str) -> &mut Self {
        self.bytes(157, target.as_bytes())
    }

    pub fn mode(&mut self, mode: u64) -> &mut Self {
        self.number(100, 8, mode)
    }

    pub fn owner(&mut self, uid: u64, gid: u64) -> &mut Self {
        self.number(108, 8, uid).number(116, 8, gid)
    }

    pub fn device(&mut self, major: u64, minor: u64) -> &mut Self {
        self.number(329, 8, major).number(337, 8, minor)
    }

    pub fn size(&mut self, size: u64) -> &mut Self {
        self.number(124, 12, size)
    }

    pub fn done(&self) -> [u8; 512] {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn header(mut self, header: &Header) -> Self {
        self.0.extend_from_slice(&header.done());
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Data with its padding.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        let size = u64::try_from(content.len()).unwrap();
        self.header(Header::new(name, b'0').size(size)).data(content.as_bytes())
    }

    pub fn directory(self, name: &str) -> Self {
        self.header(&Header::new(name, b'5'))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'2').link(target))
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'1').link(target))
    }

    pub fn character_device(self, name: &str, major: u64, minor: u64) -> Self {
        self.header(Header::new(name, b'3').device(major, minor))
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extension(b'x', &pax_records(records))
    }

    pub fn extension(self, kind: u8, body: &[u8]) -> Self {
        let size = u64::try_from(body.len()).unwrap();
        self.header(Header::new("extension", kind).size(size)).data(body)
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().unwrap()
}

pub fn descriptor(blob: &[u8]) -> Descriptor {
    let size = u64::try_from(blob.len()).unwrap();
    Descriptor::new(MediaType::ImageLayerGzip, size, digest(blob))
}

/// Adds one layer, as it is.
pub fn add_blob(store: &Store, blob: &[u8], tar: &[u8]) -> Result<(), Error> {
    match store.begin_layer(&descriptor(blob), &digest(tar))? {
        LayerState::Present => Ok(()),
        LayerState::Missing(layer) => {
            let have = usize::try_from(layer.have()).unwrap();
            layer.add(&blob[have..], &|_| ())
        }
    }
}

pub fn add_layer(store: &Store, tar: &[u8]) -> Result<(), Error> {
    add_blob(store, &gzip(tar), tar)
}

/// An image of these layers, the lowest first.
pub fn add_image(store: &Store, name: &str, tars: &[Vec<u8>]) -> Result<StoredImage, Error> {
    for tar in tars {
        add_layer(store, tar)?;
    }
    let (manifest, config) = documents(tars);
    store.add_image(Some(name), &manifest, MANIFEST, &config, None)
}

pub fn documents(tars: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let layers: Vec<Descriptor> = tars.iter().map(|tar| descriptor(&gzip(tar))).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config), "size": config.len(),
        },
    });
    (serde_json::to_vec(&manifest).unwrap(), config)
}

/// The image's tree as a plain directory.
pub fn flatten(store: &Store, image: &StoredImage, name: &str) -> PathBuf {
    let options = SnapshotOptions { copy: true, ..SnapshotOptions::default() };
    let snapshot = store.snapshot(image, name, options).unwrap();
    directory_of(&snapshot)
}

pub fn directory_of(snapshot: &Snapshot) -> PathBuf {
    match &snapshot.kind {
        SnapshotKind::Directory(directory) => directory.clone(),
        SnapshotKind::Overlay { upper, .. } => upper.clone(),
    }
}

/// Where the layer of this tar is unpacked.
pub fn files_of(place: &Place, tar: &[u8]) -> PathBuf {
    place.path("store/layers").join(digest(tar).digest()).join("files")
}

/// Names below a directory, sorted.
pub fn names(top: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(top).unwrap().to_string_lossy().into_owned());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                left.push(path);
            }
        }
    }
    names.sort();
    names
}

/// The error and everything below it, as a user sees it.
pub fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
