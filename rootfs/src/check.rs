//! Verifying the whole store: every byte that has a digest is read and hashed again.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    io::{self, Read},
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    collect::Removed,
    document::Configuration,
    error::{During, Error, Result},
    image::StoredImage,
    inspect,
    layer::{self, record::Record},
    lock::Mode,
    recipe, remove,
    store::{Store, is_there},
};

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// More would wait for the disk, not for each other.
const MAX_THREADS: usize = 4;

/// What [`Store::check`] found.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Layers whose tar was made again and hashed.
    pub layers: usize,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Images whose documents and layers are all there.
    pub images: usize,
    /// Everything that is not as it should be.
    pub damage: Vec<Damage>,
}

/// One thing that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub object: Object,
    /// What is wrong with it, as a sentence.
    pub problem: String,
    /// Images that do not work because of it, by name, or by id if they have none.
    pub images: Vec<String>,
}

/// A part of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// An unpacked layer, by diff id.
    Layer(Digest),
    /// A compressed layer or a document, by digest.
    Blob(Digest),
    /// The record of an image, by file name.
    Image(String),
    /// A name of an image, by file name.
    Name(String),
}

impl fmt::Display for Object {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(diff_id) => write!(text, "layer {diff_id}"),
            Self::Blob(digest) => write!(text, "blob {digest}"),
            Self::Image(record) => write!(text, "image record {record}"),
            Self::Name(file) => write!(text, "name {file}"),
        }
    }
}

impl Store {
    /// The tar of a layer, made again from its files: byte for byte what the diff id was computed from.
    pub fn layer_tar(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let path = self.layer_path(diff_id)?;
        let record = Record::read(&path).map_err(|_| Error::NoLayer(diff_id.clone()))?;
        let tar = recipe::Tar::open(&path, record.lost(&path));
        Ok(Box::new(tar.during("open", path.display())?))
    }

    /// Reads everything that has a digest, tells `progress` how many bytes more were read, and returns what
    /// is damaged.
    pub fn check(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<Health> {
        let mut health = Health::default();
        let images = self.check_images(&mut health)?;
        for file in self.names_in("references")? {
            self.check_name(&file, &mut health);
        }
        let mut parts = Vec::new();
        for layer in self.names_in("layers")? {
            let Ok(diff_id) = format!("sha256:{layer}").parse::<Digest>() else { continue };
            // Otherwise it is incomplete, and so garbage that nothing will use.
            if self.has_files(&diff_id)? {
                health.layers += 1;
                parts.push(Object::Layer(diff_id));
            }
        }
        let used = self.used_blobs(&images, &parts)?;
        for blob in self.names_in("blobs/sha256")? {
            let Ok(digest) = format!("sha256:{blob}").parse::<Digest>() else { continue };
            // What nothing refers to may have been cut by a power loss, and nobody will miss it.
            if used.contains(&blob) {
                health.blobs += 1;
                parts.push(Object::Blob(digest));
            }
        }
        for (object, problem) in self.check_parts(parts, progress) {
            health.add(object, problem, &images);
        }
        Ok(health)
    }

    /// The blobs that images or complete layers refer to, by file name.
    fn used_blobs(
        &self,
        images: &[(String, StoredImage)],
        layers: &[Object],
    ) -> Result<HashSet<String>> {
        let mut used = HashSet::new();
        for (_, image) in images {
            let documents = [Some(&image.manifest), Some(&image.id), image.index.as_ref()];
            let blobs = image.layers.iter().map(|layer| layer.blob.digest());
            used.extend(documents.into_iter().flatten().chain(blobs).map(|it| it.digest().into()));
        }
        for layer in layers {
            if let Object::Layer(diff_id) = layer {
                used.extend(self.names_in(&format!("layers/{}/blobs", diff_id.digest()))?);
            }
        }
        Ok(used)
    }

    /// Hashes layers and blobs, several at a time, and returns those that are damaged, in their order.
    fn check_parts(
        &self,
        parts: Vec<Object>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<(Object, String)> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut found = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let checked = match parts.get(number) {
                    Some(Object::Layer(diff_id)) => self.check_layer(diff_id, progress),
                    Some(Object::Blob(digest)) => self.check_blob(digest, progress),
                    Some(Object::Image(_) | Object::Name(_)) => Ok(()),
                    None => return found,
                };
                checked.err().map(|problem| found.insert(number, problem));
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        let mut problems = thread::scope(|scope| {
            // A thread that cannot be had is one fewer.
            let spawn = |_| thread::Builder::new().name("check".into()).spawn_scoped(scope, worker);
            let others: Vec<_> = (1..threads).map(spawn).collect();
            let mut problems = worker();
            for other in others.into_iter().flatten() {
                problems.extend(layer::joined(other));
            }
            problems
        });
        let numbered = parts.into_iter().enumerate();
        numbered.filter_map(|(number, part)| Some((part, problems.remove(&number)?))).collect()
    }

    /// Removes what is damaged, and what cannot work without it: names and images; the blob of a layer can
    /// be missing, so it goes alone. What was removed can be pulled again.
    pub fn repair(&self, damage: &[Damage]) -> Result<Removed> {
        let _alone = self.lock_store(Mode::Exclusive)?;
        let mut removed = Removed::default();
        for Damage { object, .. } in damage {
            match object {
                Object::Name(file) => self.remove_object("references", file)?,
                Object::Image(record) => self.remove_broken_image(record, &mut removed)?,
                Object::Blob(digest) => self.remove_object("blobs/sha256", digest.digest())?,
                Object::Layer(_) => {}
            }
        }
        for record in self.names_in("images")? {
            let Ok(image) = self.read_image(&record) else { continue };
            let layer_is_bad = |damage: &Damage| match &damage.object {
                Object::Layer(bad) => image.layers.iter().any(|layer| &layer.diff_id == bad),
                _ => false,
            };
            let documents_are_bad = [&image.id, &image.manifest]
                .into_iter()
                .any(|digest| self.blob_path(digest).is_ok_and(|path| !is_there(&path)));
            if documents_are_bad || damage.iter().any(layer_is_bad) {
                self.remove_broken_image(&record, &mut removed)?;
            }
        }
        for Damage { object, .. } in damage {
            if let Object::Layer(diff_id) = object {
                remove::to_trash(self, &self.layer_path(diff_id)?)?;
                removed.layers.push(diff_id.digest().to_owned());
            }
        }
        Ok(removed)
    }

    fn check_images(&self, health: &mut Health) -> Result<Vec<(String, StoredImage)>> {
        let mut images = Vec::new();
        for record in self.names_in("images")? {
            match self.read_image(&record) {
                Err(Error::NoImage(_)) => {}
                Err(error) => health.add(Object::Image(record), problem(&error), &[]),
                Ok(image) => {
                    let names = self.names_of(&image).unwrap_or_default();
                    let name = names.into_iter().next().unwrap_or_else(|| image.id.to_string());
                    match self.check_image(&image) {
                        Ok(()) => health.images += 1,
                        Err(problem) => {
                            let damage = Object::Image(record);
                            health.damage.push(Damage {
                                object: damage,
                                problem,
                                images: vec![name.clone()],
                            });
                        }
                    }
                    images.push((name, image));
                }
            }
        }
        Ok(images)
    }

    fn check_image(&self, image: &StoredImage) -> Result<(), String> {
        let hash = |bytes: &[u8]| layer::hex(Sha256::new().chain_update(bytes));
        if hash(image.config.as_bytes()) != image.id.digest() {
            return Err("its configuration does not match its id".to_owned());
        }
        let configuration =
            Configuration::parse(image.config.as_bytes()).map_err(|error| problem(&error))?;
        let recorded: Vec<&Digest> = image.layers.iter().map(|layer| &layer.diff_id).collect();
        if configuration.diff_ids().iter().collect::<Vec<_>>() != recorded {
            return Err("its layers are not those of its configuration".to_owned());
        }
        for part in
            [Some(&image.manifest), Some(&image.id), image.index.as_ref()].into_iter().flatten()
        {
            if !self.blob_path(part).is_ok_and(|path| is_there(&path)) {
                return Err(format!("its document {part} is missing"));
            }
        }
        for layer in &image.layers {
            if !self.has_files(&layer.diff_id).unwrap_or(false) {
                return Err(format!("its layer {} is missing", layer.diff_id));
            }
        }
        for directory in image.lower() {
            if !directory.is_dir() {
                return Err(format!("{} is missing", directory.display()));
            }
        }
        Ok(())
    }

    fn check_name(&self, file: &str, health: &mut Health) {
        match self.read_reference(file) {
            Ok(None) => {}
            Ok(Some(summary)) => {
                if let Err(Error::NoImage(_)) = self.read_image(summary.record()) {
                    let problem = "its image is missing".to_owned();
                    health.add(Object::Name(file.to_owned()), problem, &[]);
                }
            }
            Err(error) => health.add(Object::Name(file.to_owned()), problem(&error), &[]),
        }
    }

    fn check_layer(&self, diff_id: &Digest, progress: &dyn Fn(u64)) -> Result<(), String> {
        let tar = self.layer_tar(diff_id).map_err(|error| problem(&error))?;
        let path = self.layer_path(diff_id).map_err(|error| problem(&error))?;
        let told = Told { inner: tar, progress };
        let (found, difference) = inspect::compare(told, &path.join("files"))?;
        if found != diff_id.digest() {
            return Err(format!("its content has the digest sha256:{found}"));
        }
        difference.map_or(Ok(()), Err)
    }

    fn check_blob(&self, digest: &Digest, progress: &dyn Fn(u64)) -> Result<(), String> {
        let file = self.blob(digest).map_err(|error| problem(&error))?;
        compare(file, digest, progress)
    }

    fn remove_object(&self, directory: &str, name: &str) -> Result<()> {
        let path = self.path(directory, name);
        remove::tree(&path).during("remove", path.display())
    }

    fn remove_broken_image(&self, record: &str, removed: &mut Removed) -> Result<()> {
        for file in self.names_in("references")? {
            if let Ok(Some(summary)) = self.read_reference(&file)
                && summary.record() == record
            {
                self.remove_object("references", &file)?;
                removed.names.extend(summary.name);
            }
        }
        let path = self.path("images", record);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.during("remove", path.display())?,
        }
        let id = record.split('.').next().unwrap_or_default();
        removed.images.extend(format!("sha256:{id}").parse::<Digest>());
        Ok(())
    }
}

impl Health {
    fn add(&mut self, object: Object, problem: String, images: &[(String, StoredImage)]) {
        let uses = |image: &StoredImage| match &object {
            Object::Layer(diff_id) => image.layers.iter().any(|layer| &layer.diff_id == diff_id),
            Object::Blob(digest) => {
                image.layers.iter().any(|layer| layer.blob.digest() == digest)
                    || [&image.id, &image.manifest].contains(&digest)
            }
            Object::Image(_) | Object::Name(_) => false,
        };
        let hit: HashSet<&String> =
            images.iter().filter(|(_, image)| uses(image)).map(|(name, _)| name).collect();
        let mut images: Vec<String> = hit.into_iter().cloned().collect();
        images.sort();
        self.damage.push(Damage { object, problem, images });
    }
}

fn compare(mut input: impl Read, expected: &Digest, progress: &dyn Fn(u64)) -> Result<(), String> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(piece.get(..count).unwrap_or_default());
                progress(u64::try_from(count).unwrap_or(0));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("it cannot be read: {error}")),
        }
    }
    let found = layer::hex(hasher);
    if found == expected.digest() {
        Ok(())
    } else {
        Err(format!("its content has the digest sha256:{found}"))
    }
}

/// Tells how many bytes pass.
struct Told<'t, R> {
    inner: R,
    progress: &'t dyn Fn(u64),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.progress)(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

/// An error with its causes on one line.
fn problem(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// How much room the parts of the store take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images with a record.
    pub images: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Bytes of data in the layers' files.
    pub layer_bytes: u64,
    /// Of these, bytes in layers no image uses.
    pub unused_layer_bytes: u64,
    /// Bytes of compressed layers and documents.
    pub blob_bytes: u64,
    /// Bytes that interrupted pulls left.
    pub partial_bytes: u64,
    /// Snapshots of containers.
    pub containers: usize,
    /// Bytes the containers wrote.
    pub container_bytes: u64,
}

impl Store {
    /// How much room the store takes, by kind.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut used: HashSet<PathBuf> = HashSet::new();
        for record in self.names_in("images")? {
            let Ok(image) = self.read_image(&record) else { continue };
            usage.images += 1;
            used.extend(image.needs().map(Path::to_owned));
        }
        for layer in self.names_in("layers")? {
            let Ok(record) = Record::read(&self.path("layers", &layer)) else { continue };
            usage.layers += 1;
            usage.layer_bytes += record.bytes;
            if !used.contains(&Path::new("layers").join(layer)) {
                usage.unused_layer_bytes += record.bytes;
            }
        }
        usage.blob_bytes = self.bytes_in("blobs/sha256")?;
        usage.partial_bytes = self.bytes_in("partial")?;
        for name in self.snapshots()? {
            usage.containers += 1;
            usage.container_bytes += self.open_snapshot(&name)?.size()?;
        }
        Ok(usage)
    }

    fn bytes_in(&self, directory: &str) -> Result<u64> {
        let mut sum = 0;
        for name in self.names_in(directory)? {
            sum += fs::metadata(self.path(directory, &name)).map_or(0, |metadata| metadata.len());
        }
        Ok(sum)
    }
}
