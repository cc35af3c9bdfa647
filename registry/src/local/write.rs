//! Images into files: what [`super`] reads, written.
//!
//! A directory is usable after every step: blobs first, the document that names them last. An archive appears
//! under its name when it is complete.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use oci_spec::image::{Descriptor, Digest, ImageManifest, MediaType};
use serde_json::{Map, Value, json};

use super::layout::{REF_NAME, blob_name};
use crate::{
    Error, Result, Source,
    digest::{Hasher, digest_of},
    json as strict,
    manifest::{self, Document, OCI_INDEX},
    push::{Progress, Push, read_block},
};

/// Files that are being written.
pub(crate) struct Writer {
    format: Format,
    sink: Sink,
    written: HashSet<String>,
    /// Entries of `index.json` (layout) or of `manifest.json` (docker).
    entries: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Layout,
    Docker,
    Directory,
}

enum Sink {
    Directory(PathBuf),
    Archive { tar: Box<tar::Builder<BufWriter<File>>>, partial: Partial, path: PathBuf },
}

/// A file that disappears unless it is finished.
struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(path);
        }
    }
}

impl Writer {
    pub(crate) fn create(to: &Source) -> Result<Self> {
        let (format, sink) = match to {
            Source::OciLayout { directory, .. } => (Format::Layout, Sink::directory(directory)?),
            Source::OciArchive { file, .. } => (Format::Layout, Sink::archive(file)?),
            Source::DockerArchive { file, .. } => (Format::Docker, Sink::archive(file)?),
            Source::Directory(directory) => (Format::Directory, Sink::directory(directory)?),
            Source::Registry(_) | Source::V1Static { .. } => {
                let problem = "a registry is not a file";
                return Err(Error::Unsupported { place: to.to_string(), problem });
            }
        };
        let mut writer = Self { format, sink, written: HashSet::new(), entries: Vec::new() };
        match format {
            Format::Layout => {
                writer.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
                writer.entries = writer.existing_entries()?;
            }
            Format::Directory => writer.write("version", b"Directory Transport Version: 1.1\n")?,
            Format::Docker => {}
        }
        Ok(writer)
    }

    /// A layout may hold other images, which stay.
    fn existing_entries(&self) -> Result<Vec<Value>> {
        let Sink::Directory(directory) = &self.sink else { return Ok(Vec::new()) };
        let path = directory.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::File { doing: "read", path, source }),
        };
        let what = path.display().to_string();
        let index: Value = strict::parse_value(&bytes, &what)?;
        let entries = index.get("manifests").and_then(Value::as_array);
        entries.cloned().ok_or_else(|| Error::Document { what, problem: "it is no index".into() })
    }

    /// Writes a blob, and checks it on the way.
    pub(crate) fn put(&mut self, blob: &Descriptor, push: &Push<'_>) -> Result<()> {
        let name = self.blob_name(blob);
        if !self.written.insert(name.clone()) || self.sink.has(&name, blob.size()) {
            (push.progress)(blob, Progress::Exists);
            return Ok(());
        }
        let doing = || format!("open blob {} to write it", blob.digest());
        let reader =
            (push.blobs)(blob, 0).map_err(|source| Error::Transfer { doing: doing(), source })?;
        let mut checked =
            Checked { reader, hasher: Hasher::like(blob.digest())?, position: 0, blob, push };
        self.sink.copy(&name, blob.size(), &mut checked)?;
        checked.finish()?;
        (push.progress)(blob, Progress::Done);
        Ok(())
    }

    pub(crate) fn put_document(
        &mut self,
        bytes: &[u8],
        media_type: &str,
        names: &[String],
    ) -> Result<()> {
        let digest = digest_of(bytes);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let descriptor = Descriptor::new(MediaType::from(media_type), size, digest);
        match self.format {
            Format::Layout => {
                self.write(&blob_name(descriptor.digest()), bytes)?;
                self.add_entries(&descriptor, names)
            }
            Format::Directory => self.write("manifest.json", bytes),
            Format::Docker => self.add_docker_entry(bytes, media_type, names),
        }
    }

    /// A document that only another document refers to.
    pub(crate) fn put_inner_document(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = digest_of(bytes);
        match self.format {
            Format::Layout => self.write(&blob_name(&digest), bytes),
            Format::Directory => self.write(&format!("{}.manifest.json", digest.digest()), bytes),
            Format::Docker => Err(Error::Unsupported {
                place: "docker-archive".to_owned(),
                problem: "it cannot hold an image for several platforms: choose one",
            }),
        }
    }

    fn add_entries(&mut self, descriptor: &Descriptor, names: &[String]) -> Result<()> {
        let entry: Value = serde_json::to_value(descriptor).map_err(unwritable)?;
        let digest = descriptor.digest().to_string();
        let is_unnamed =
            |it: &Value| it.get("annotations").and_then(|it| it.get(REF_NAME)).is_none();
        if names.is_empty() {
            self.entries.retain(|it| {
                !(is_unnamed(it) && it.get("digest") == Some(&digest.as_str().into()))
            });
            self.entries.push(entry);
            return Ok(());
        }
        for name in names {
            let is_same = |it: &Value| {
                it.get("annotations").and_then(|it| it.get(REF_NAME)) == Some(&name.as_str().into())
            };
            self.entries.retain(|it| !is_same(it));
            let mut entry = entry.clone();
            if let Some(members) = entry.as_object_mut() {
                let mut annotations = Map::new();
                annotations.insert(REF_NAME.to_owned(), name.as_str().into());
                members.insert("annotations".to_owned(), annotations.into());
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn add_docker_entry(&mut self, bytes: &[u8], media_type: &str, names: &[String]) -> Result<()> {
        let what = "the manifest";
        let Document::Manifest(manifest) = manifest::parse(bytes.to_vec(), &[media_type], what)?
        else {
            return self.put_inner_document(bytes);
        };
        let manifest: ImageManifest = manifest.value;
        let layers: Vec<String> = manifest.layers().iter().map(docker_layer).collect();
        self.entries.push(json!({"Config": docker_config(manifest.config().digest()),
            "RepoTags": names.iter().map(|name| docker_tag(name)).collect::<Vec<_>>(),
            "Layers": layers}));
        // Everything else is named after its use, which only the manifest tells.
        Ok(())
    }

    fn blob_name(&self, blob: &Descriptor) -> String {
        match self.format {
            Format::Layout => blob_name(blob.digest()),
            Format::Directory => blob.digest().digest().to_owned(),
            Format::Docker if is_config(blob) => docker_config(blob.digest()),
            Format::Docker => docker_layer(blob),
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let is_blob = name.contains("blobs/");
        if is_blob && !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.sink.copy(name, size, &mut &*bytes)
    }

    /// Writes the document on top, and makes an archive appear.
    pub(crate) fn finish(mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        match self.format {
            Format::Layout => {
                let index =
                    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
                self.write("index.json", index.to_string().as_bytes())?;
            }
            Format::Docker => {
                self.write("manifest.json", Value::from(entries).to_string().as_bytes())?;
            }
            Format::Directory => {}
        }
        self.sink.finish()
    }
}

fn docker_config(digest: &Digest) -> String {
    format!("{}.json", digest.digest())
}

fn docker_layer(blob: &Descriptor) -> String {
    format!("{}.tar", blob.digest().digest())
}

fn is_config(blob: &Descriptor) -> bool {
    let media_type = blob.media_type().as_ref();
    media_type == manifest::DOCKER_CONFIG || media_type == manifest::OCI_CONFIG
}

/// `docker load` wants names as people write them.
fn docker_tag(name: &str) -> String {
    name.parse::<crate::Reference>().map_or_else(|_| name.to_owned(), |it| it.familiar())
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Document { what: "a descriptor".to_owned(), problem: error.to_string() }
}

impl Sink {
    fn directory(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(failed("create", path))?;
        Ok(Self::Directory(path.to_owned()))
    }

    fn archive(path: &Path) -> Result<Self> {
        let partial = beside(path);
        let file = create_new(&partial)?;
        let tar = Box::new(tar::Builder::new(BufWriter::with_capacity(128 << 10, file)));
        Ok(Self::Archive { tar, partial: Partial(Some(partial)), path: path.to_owned() })
    }

    fn has(&self, name: &str, size: u64) -> bool {
        match self {
            // Its digest was checked when it was written, under another name.
            Self::Directory(directory) => fs::symlink_metadata(directory.join(name))
                .is_ok_and(|found| found.is_file() && found.len() == size),
            Self::Archive { .. } => false,
        }
    }

    fn copy(&mut self, name: &str, size: u64, reader: &mut dyn Read) -> Result<()> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(failed("create", parent))?;
                }
                let partial = beside(&path);
                let mut file = create_new(&partial)?;
                let mut partial = Partial(Some(partial));
                let copied = io::copy(reader, &mut file).map_err(write_failed(&path))?;
                if copied != size {
                    let what = path.display().to_string();
                    return Err(Error::SizeMismatch { what, expected: size, found: copied });
                }
                if let Some(from) = &partial.0 {
                    fs::rename(from, &path).map_err(failed("create", &path))?;
                }
                partial.0 = None;
                Ok(())
            }
            Self::Archive { tar, path, .. } => {
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o644);
                // No times, no owners: the same image gives the same archive.
                header.set_mtime(0);
                header.set_cksum();
                tar.append_data(&mut header, name, reader).map_err(write_failed(path))
            }
        }
    }

    fn finish(self) -> Result<()> {
        let Self::Archive { tar, mut partial, path } = self else { return Ok(()) };
        let written = tar.into_inner().and_then(|buffer| Ok(buffer.into_inner()?));
        written.map_err(failed("write", &path))?;
        if let Some(from) = &partial.0 {
            fs::rename(from, &path).map_err(failed("create", &path))?;
        }
        partial.0 = None;
        Ok(())
    }
}

/// A name that nobody reads, in the same directory.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

fn create_new(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        // What a killed process with our number left behind.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).map_err(failed("remove", path))?;
            options.open(path).map_err(failed("create", path))
        }
        other => other.map_err(failed("create", path)),
    }
}

/// A blob that is read to be written: digest and size are checked, its owner hears of every block.
struct Checked<'a> {
    reader: Box<dyn Read + Send>,
    hasher: Hasher,
    position: u64,
    blob: &'a Descriptor,
    push: &'a Push<'a>,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..length).unwrap_or_default());
        self.position = self.position.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.position > self.blob.size() {
            return Err(self.wrong_size().into());
        }
        if length > 0 {
            (self.push.progress)(self.blob, Progress::Sent(self.position));
        } else if self.position == self.blob.size() {
            // Before the file gets its name.
            let found = std::mem::take(&mut self.hasher).finish();
            if found != *self.blob.digest() {
                let (what, expected) = ("a blob".to_owned(), self.blob.digest().clone());
                return Err(Error::DigestMismatch { what, expected, found }.into());
            }
        }
        Ok(length)
    }
}

impl Checked<'_> {
    fn wrong_size(&self) -> Error {
        let what = format!("blob {}", self.blob.digest());
        Error::SizeMismatch { what, expected: self.blob.size(), found: self.position }
    }

    /// The archive stops reading at the promised size; the end must be there as well.
    fn finish(&mut self) -> Result<()> {
        if self.position != self.blob.size() {
            return Err(self.wrong_size());
        }
        match read_block(&mut *self.reader, 1, self.blob)? {
            Some(_) => Err(self.wrong_size()),
            None => Ok(()),
        }
    }
}

fn failed<'p>(doing: &'static str, path: &'p Path) -> impl Fn(io::Error) -> Error + 'p {
    move |source| Error::File { doing, path: path.into(), source }
}

/// The reader's own error, or else the disk's.
fn write_failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::File { doing: "write", path: path.into(), source },
    }
}
