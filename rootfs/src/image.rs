//! Images: records of what was pulled, and the names people gave them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use oci_spec::image::{Descriptor, Digest, ImageConfiguration};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    document::{Configuration, Manifest, check, unusable},
    error::{During, Error, Result},
    layer, lock,
    overlay::Namespace,
    store::{Store, create, hex, is_there},
    union::Union,
};

/// An image of the store, complete: everything a container needs is in its record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredImage {
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// Digest of the manifest it was pulled by; what a push keeps.
    pub manifest: Digest,
    /// Media type of the manifest.
    pub manifest_media_type: String,
    /// The index it was chosen from, whose bytes are kept too.
    pub index: Option<Digest>,
    /// The configuration, byte for byte.
    pub config: String,
    /// Layers, the lowest first.
    pub layers: Vec<StoredLayer>,
    /// Directories to mount, relative to the store, topmost first.
    lower: Vec<PathBuf>,
    /// Where the root directory's metadata comes from.
    root: Option<PathBuf>,
    namespace: Namespace,
    #[serde(skip)]
    store: PathBuf,
}

/// One layer of a stored image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLayer {
    /// The compressed form the manifest names.
    pub blob: Descriptor,
    /// What it decompresses to.
    pub diff_id: Digest,
}

/// One line of a list of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// The name it has; an image with several is listed once for each, one without has none.
    pub name: Option<String>,
    /// Digest of the configuration.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// When it was made, as its author says (RFC 3339).
    pub created: Option<String>,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Bytes of its compressed layers.
    pub compressed_size: u64,
    /// Bytes of data in its layers' files.
    pub size: u64,
    /// File name of its record.
    record: String,
}

impl StoredImage {
    /// The configuration, parsed.
    pub fn configuration(&self) -> Result<ImageConfiguration> {
        serde_json::from_str(&self.config).map_err(|problem| unusable("configuration", problem))
    }

    /// The manifest, byte for byte.
    pub fn manifest_bytes(&self) -> Result<Vec<u8>> {
        read_blob(&self.store, &self.manifest)
    }

    /// The index it was chosen from, byte for byte.
    pub fn index_bytes(&self) -> Result<Option<Vec<u8>>> {
        self.index.as_ref().map(|index| read_blob(&self.store, index)).transpose()
    }

    /// The layers' directories as absolute paths, topmost first; never empty.
    pub fn lower(&self) -> Vec<PathBuf> {
        if self.lower.is_empty() {
            return vec![self.store.join("empty")];
        }
        self.lower.iter().map(|path| self.store.join(path)).collect()
    }

    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|path| self.store.join(path))
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// Everything the image holds.
    pub(crate) fn union(&self) -> Union {
        Union::new(self.lower(), self.namespace).with_root(self.root().as_deref())
    }

    /// Directories of the store this image needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &Path> {
        self.lower.iter().filter_map(|path| path.parent())
    }

    /// File name of its record.
    pub(crate) fn record_name(&self) -> String {
        format!("{}.{}", self.id.digest(), self.manifest.digest())
    }
}

impl Store {
    /// Records an image whose layers are all present, and gives it a name.
    ///
    /// `media_type` is the one the manifest was sent with. When this returns, the image survives a power
    /// loss.
    pub fn add_image(
        &self,
        name: Option<&str>,
        manifest: &[u8],
        media_type: &str,
        config: &[u8],
        index: Option<&[u8]>,
    ) -> Result<StoredImage> {
        self.make()?;
        let parsed = Manifest::parse(manifest, media_type)?;
        let configuration = Configuration::parse(config)?;
        let id = digest_of(config)?;
        if parsed.config.digest() != &id || parsed.config.size() != to_u64(config.len()) {
            return Err(unusable("configuration", "it is not the one the manifest names"));
        }
        if let Some(index) = index {
            check(index).map_err(|problem| unusable("index", problem))?;
        }
        // Until the record is there, nothing of what it will name may be collected.
        let _busy = self.lock_store(lock::Mode::Shared)?;
        let layers = self.present_layers(&parsed, &configuration)?;
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let chain = self.assemble(&diff_ids)?;
        let image = StoredImage {
            id,
            manifest: digest_of(manifest)?,
            manifest_media_type: media_type.to_owned(),
            index: index.map(digest_of).transpose()?,
            config: String::from_utf8(config.to_vec())
                .map_err(|problem| unusable("configuration", problem))?,
            layers,
            lower: chain.lower,
            root: chain.root,
            namespace: chain.namespace,
            store: self.root().to_owned(),
        };
        for document in [Some(manifest), Some(config), index].into_iter().flatten() {
            self.add_document(document)?;
        }
        let record =
            serde_json::to_vec(&image).map_err(|problem| unusable("configuration", problem))?;
        let record = self.draft(&record)?;
        let reference =
            name.map(|name| self.draft_name(name, &image, &configuration)).transpose()?;
        // One sync for everything that was written; only then do record and name appear (D-50).
        self.sync().inspect_err(|_| {
            for draft in [Some(&record), reference.as_ref()].into_iter().flatten() {
                // The error that brought us here is the one to report.
                let _ = fs::remove_file(draft);
            }
        })?;
        self.place(&record, &format!("images/{}", image.record_name()))?;
        if let (Some(name), Some(reference)) = (name, reference) {
            self.place(&reference, &format!("references/{}", reference_file(name)))?;
        }
        // Should these be lost with the power, the record vouches for its layers.
        for part in &chain.parts {
            let mark = self.root().join(part).join("durable");
            create(&mark).map(drop).during("create", mark.display())?;
        }
        for diff_id in diff_ids {
            self.held.release(diff_id.digest());
        }
        Ok(image)
    }

    /// Finds an image by a name it was given, by its id or the id's beginning, or by its manifest's digest.
    pub fn image(&self, name_or_id: &str) -> Result<StoredImage> {
        if let Some(summary) = self.read_reference(&reference_file(name_or_id))?
            && summary.name.as_deref() == Some(name_or_id)
        {
            return self.read_image(&summary.record);
        }
        let record = self.find_by_id(name_or_id)?;
        self.read_image(&record)
    }

    /// All images: one line for each name, and one for each image without a name.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        let mut images = self.readable_references()?;
        let named: HashSet<String> = images.iter().map(|image| image.record.clone()).collect();
        for record in self.names_in("images")? {
            if !named.contains(&record)
                && let Ok(image) = self.read_image(&record)
            {
                let configuration = Configuration::parse(image.config.as_bytes())?;
                images.push(self.summary(None, &image, &configuration));
            }
        }
        images.sort_by(|one, other| one.name.cmp(&other.name).then(one.record.cmp(&other.record)));
        Ok(images)
    }

    /// The names an image has.
    pub fn names_of(&self, image: &StoredImage) -> Result<Vec<String>> {
        let record = image.record_name();
        let references = self.readable_references()?.into_iter();
        let ours = references.filter(|summary| summary.record == record);
        let mut names: Vec<String> = ours.filter_map(|summary| summary.name).collect();
        names.sort();
        Ok(names)
    }

    /// What all names say, but for those that cannot be read: each is only its own loss (D-52).
    fn readable_references(&self) -> Result<Vec<ImageSummary>> {
        let mut found = Vec::new();
        for file in self.names_in("references")? {
            match self.read_reference(&file) {
                Ok(summary) => found.extend(summary),
                Err(error @ Error::Damaged { .. }) => log::warn!("passing over a name: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Gives an image another name, which it takes from any other image that has it.
    pub fn tag(&self, image: &StoredImage, name: &str) -> Result<()> {
        let _busy = self.lock_store(lock::Mode::Shared)?;
        if !is_there(&self.path("images", &image.record_name())) {
            return Err(Error::NoImage(image.id.to_string()));
        }
        let configuration = Configuration::parse(image.config.as_bytes())?;
        let summary = self.summary(Some(name), image, &configuration);
        let content =
            serde_json::to_vec(&summary).map_err(|problem| unusable("manifest", problem))?;
        self.publish(&format!("references/{}", reference_file(name)), &content)
    }

    /// Takes a name away; the image stays, even without any. False if there is no such name.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let path = self.path("references", &reference_file(name));
        match fs::remove_file(&path) {
            Ok(()) => {
                crate::store::sync_directory_of(&path).during("sync", path.display())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).during("remove", path.display()),
        }
    }

    /// Opens a blob of the store: a manifest, a configuration, or a layer as it was pulled.
    pub fn blob(&self, digest: &Digest) -> Result<fs::File> {
        let path = self.blob_path(digest)?;
        match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoBlob(digest.clone()))
            }
            other => other.during("open", path.display()),
        }
    }

    pub(crate) fn read_image(&self, record: &str) -> Result<StoredImage> {
        let path = self.path("images", record);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoImage(record.to_owned()));
            }
            other => other.during("read", path.display())?,
        };
        let mut image: StoredImage = serde_json::from_slice(&bytes)
            .map_err(|problem| Error::Damaged { path, problem: problem.to_string() })?;
        image.store = self.root().to_owned();
        Ok(image)
    }

    /// The names in one of the store's directories; none while the store does not exist.
    pub(crate) fn names_in(&self, directory: &str) -> Result<Vec<String>> {
        let path = self.root().join(directory);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.during("list", path.display())?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.during("list", path.display())?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    pub(crate) fn read_reference(&self, file: &str) -> Result<Option<ImageSummary>> {
        let path = self.path("references", file);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|problem| Error::Damaged { path, problem: problem.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("read", path.display()),
        }
    }

    fn find_by_id(&self, id: &str) -> Result<String> {
        let missing = || Error::NoImage(id.to_owned());
        let hex = hexadecimal(id).ok_or_else(missing)?;
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for record in self.names_in("images")? {
            let Some((config, manifest)) = record.split_once('.') else { continue };
            if config.starts_with(hex) || manifest == hex {
                found.insert(config.to_owned(), record);
            }
        }
        if found.len() > 1 {
            return Err(Error::Ambiguous(id.to_owned()));
        }
        found.into_values().next().ok_or_else(missing)
    }

    /// The layer whose diff id, or the digest of one of whose compressed forms, begins like this.
    pub(crate) fn find_layer(&self, id: &str) -> Result<Option<Digest>> {
        let Some(hex) = hexadecimal(id) else { return Ok(None) };
        let mut found = BTreeSet::new();
        for layer in self.names_in("layers")? {
            let forms = self.names_in(&format!("layers/{layer}/blobs"))?;
            if layer.starts_with(hex) || forms.iter().any(|form| form.starts_with(hex)) {
                found.insert(layer);
            }
        }
        if found.len() > 1 {
            return Err(Error::Ambiguous(id.to_owned()));
        }
        Ok(found.first().and_then(|layer| format!("sha256:{layer}").parse().ok()))
    }

    /// Checks that every layer of a manifest is in the store in the very form the manifest names.
    fn present_layers(
        &self,
        manifest: &Manifest,
        configuration: &Configuration,
    ) -> Result<Vec<StoredLayer>> {
        let diff_ids = configuration.diff_ids();
        if manifest.layers.len() != diff_ids.len() {
            return Err(unusable(
                "configuration",
                format!("it has {} layers, the manifest {}", diff_ids.len(), manifest.layers.len()),
            ));
        }
        let mut layers = Vec::new();
        for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let form = self.layer_path(diff_id)?.join("blobs").join(hex(blob.digest())?);
            if !self.has_files(diff_id)? || !is_there(&form) {
                return Err(Error::NoLayer(diff_id.clone()));
            }
            layers.push(StoredLayer { blob: blob.clone(), diff_id: diff_id.clone() });
        }
        Ok(layers)
    }

    /// One that is there is left alone: another image may count on it, and the new one is not on the disk yet.
    fn add_document(&self, bytes: &[u8]) -> Result<()> {
        let path = self.blob_path(&digest_of(bytes)?)?;
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let temporary = self.temporary("document");
        let write = || -> io::Result<()> {
            io::Write::write_all(&mut create(&temporary)?, bytes)?;
            fs::rename(&temporary, &path)
        };
        write().during("write", path.display())
    }

    fn draft_name(
        &self,
        name: &str,
        image: &StoredImage,
        configuration: &Configuration,
    ) -> Result<PathBuf> {
        let summary = self.summary(Some(name), image, configuration);
        let content =
            serde_json::to_vec(&summary).map_err(|problem| unusable("manifest", problem))?;
        self.draft(&content)
    }

    /// Whether the record of an image names a layer or a patch, and so vouches that it was on disk before.
    pub(crate) fn is_vouched_for(&self, part: &Path) -> Result<bool> {
        for record in self.names_in("images")? {
            if self.read_image(&record).is_ok_and(|image| image.needs().any(|need| need == part)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn summary(
        &self,
        name: Option<&str>,
        image: &StoredImage,
        configuration: &Configuration,
    ) -> ImageSummary {
        let mut platform = format!("{}/{}", configuration.os, configuration.architecture);
        if let Some(variant) = &configuration.variant {
            platform = format!("{platform}/{variant}");
        }
        let unpacked = |layer: &StoredLayer| {
            let path = self.layer_path(&layer.diff_id).ok()?;
            Some(layer::record::Record::read(&path).ok()?.bytes)
        };
        ImageSummary {
            name: name.map(str::to_owned),
            id: image.id.clone(),
            manifest: image.manifest.clone(),
            created: configuration.created.clone(),
            platform,
            compressed_size: image.layers.iter().map(|layer| layer.blob.size()).sum(),
            size: image.layers.iter().filter_map(unpacked).sum(),
            record: image.record_name(),
        }
    }
}

impl ImageSummary {
    pub(crate) fn record(&self) -> &str {
        &self.record
    }
}

/// The file that keeps a name: slashes are escaped, and a name too long for a file is hashed.
fn reference_file(name: &str) -> String {
    let file = name.replace('%', "%25").replace('/', "%2F").replace('\0', "%00");
    if file.len() <= 200 && !file.starts_with('.') && !file.is_empty() {
        return file;
    }
    format!(".{}", layer::hex(Sha256::new().chain_update(name)))
}

fn read_blob(store: &Path, digest: &Digest) -> Result<Vec<u8>> {
    let path = store.join("blobs/sha256").join(hex(digest)?);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoBlob(digest.clone())),
        other => other.during("read", path.display()),
    }
}

/// The sha256 digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Result<Digest> {
    let text = format!("sha256:{}", layer::hex(Sha256::new().chain_update(bytes)));
    text.parse().map_err(|_| Error::UnsupportedDigest(text))
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The digits of an id or of its beginning, long enough not to be a word.
fn hexadecimal(id: &str) -> Option<&str> {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_id = hex.len() >= 3 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(hex)
}
