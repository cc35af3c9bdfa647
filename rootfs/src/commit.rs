//! New images: what a container changed on top of what it was made from, or a tarball by itself.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use oci_spec::image::MediaType;
use serde_json::{Map, Value, json};

use crate::{
    compress::compress,
    difference::{self, Differences},
    document::unusable,
    error::{During, Error, Result},
    image::{StoredImage, StoredLayer, digest_of},
    layer::{self, Compression},
    name,
    pack::{Packer, Times},
    snapshot::{Snapshot, SnapshotKind},
    store::Store,
    union::Union,
};

/// Which kind of documents describe a new image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Those of the OCI image specification.
    #[default]
    Oci,
    /// Those of docker's schema 2.
    Docker,
}

/// What a new image is to be.
pub struct NewImage<'n> {
    /// When it was made (RFC 3339).
    pub created: String,
    /// Who made it.
    pub author: Option<String>,
    /// What the user says about it.
    pub comment: Option<String>,
    /// What made the new layer, as the history shows it.
    pub created_by: String,
    /// Operating system and architecture, for an image that is based on no other.
    pub platform: (String, String),
    /// Which documents describe it.
    pub format: Format,
    /// How the new layer is compressed, and how hard.
    pub compression: (Compression, Option<i32>),
    /// How times of files are written.
    pub times: Times,
    /// Put everything into one layer.
    pub squash: bool,
    /// Changes the part of the configuration that says how containers run (`Env`, `Cmd` …).
    pub configure: &'n mut dyn FnMut(&mut Map<String, Value>),
}

impl Store {
    /// Makes an image of what a snapshot changed, on top of the image it was made from.
    pub fn commit(
        &self,
        snapshot: &Snapshot,
        name: Option<&str>,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let (compression, level) = new.compression;
        let times = new.times;
        if new.squash || snapshot.image.is_none() {
            let layer = self.create_layer(compression, level, |mut output| {
                Packer::new(&mut output, snapshot.namespace, times).tree(&snapshot.union())
            })?;
            let base = snapshot.image.as_ref().map(|image| image.config.as_str());
            return self.describe_image(name, base, Vec::new(), layer, new);
        }
        let found = snapshot.differences()?;
        self.commit_differences(snapshot.image.as_ref(), snapshot.changes(), &found, name, new)
    }

    /// Makes an image of what differs between a directory and the image that was unpacked to it.
    pub fn repack(
        &self,
        image: &StoredImage,
        directory: &Path,
        name: Option<&str>,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let found = difference::of_copy(directory, &image.union(), image.namespace())
            .during("compare", directory.display())?;
        self.commit_differences(Some(image), directory, &found, name, new)
    }

    fn commit_differences(
        &self,
        base: Option<&StoredImage>,
        changes: &Path,
        found: &Differences,
        name: Option<&str>,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let (compression, level) = new.compression;
        let times = new.times;
        let namespace = base.map(StoredImage::namespace).unwrap_or_default();
        let root = sys::Root::open(changes).during("open", changes.display())?;
        let layer = self.create_layer(compression, level, |mut output| {
            Packer::new(&mut output, namespace, times).differences(&root, found)
        })?;
        let layers = base.map(|image| image.layers.clone()).unwrap_or_default();
        self.describe_image(name, base.map(|image| image.config.as_str()), layers, layer, new)
    }

    /// Makes an image with one layer of a tar archive, compressed or not.
    pub fn import(
        &self,
        tar: impl Read + Send,
        name: Option<&str>,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let (compression, level) = new.compression;
        let mut tar = layer::decompress(BufReader::new(tar)).during("read", "the archive")?;
        let layer =
            self.create_layer(compression, level, |output| io::copy(&mut tar, output).map(drop))?;
        self.describe_image(name, None, Vec::new(), layer, new)
    }

    /// Makes an image of another with one file at `path`, as it is.
    pub fn insert(
        &self,
        image: &StoredImage,
        path: &Path,
        file: &File,
        name: Option<&str>,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let refuse = |problem: &str| Error::NewLayer {
            entry: path.display().to_string(),
            problem: problem.to_owned(),
        };
        let bytes = path.as_os_str().as_bytes();
        let place = name::clean(bytes).map_err(refuse)?;
        let there = image.union().lookup(&place).during("look for", path.display())?;
        if bytes.ends_with(b"/") || there.is_some_and(|found| found.is_directory()) {
            return Err(refuse("a file cannot take the place of a directory"));
        }
        let (compression, level) = new.compression;
        let (times, namespace) = (new.times, image.namespace());
        let layer = self.create_layer(compression, level, |mut output| {
            let mut packer = Packer::new(&mut output, namespace, times);
            packer.opened(file.try_clone()?.into(), &place)?;
            packer.end()
        })?;
        self.describe_image(name, Some(&image.config), image.layers.clone(), layer, new)
    }

    /// Writes everything a container sees in its files, as a tar.
    pub fn export(&self, snapshot: &Snapshot, output: &mut dyn Write) -> Result<()> {
        let mut output = output;
        Packer::new(&mut output, snapshot.namespace, Times::default())
            .tree(&snapshot.union())
            .during("export", &snapshot.name)
    }

    /// Writes everything an image holds as a tar: its layers on top of each other.
    pub fn export_image(&self, image: &StoredImage, output: &mut dyn Write) -> Result<()> {
        let mut output = output;
        let union = image.union();
        Packer::new(&mut output, image.namespace(), Times::default())
            .tree(&union)
            .during("export", &image.id)
    }

    /// Copies everything an image holds into a directory, which must exist and should be empty.
    pub fn unpack(&self, image: &StoredImage, directory: &Path) -> Result<()> {
        crate::copy::tree(&image.union(), directory).during("unpack to", directory.display())
    }

    /// Compresses a stored layer anew, for a push that asks for it or has no blob to send.
    pub fn recompress(
        &self,
        layer: &StoredLayer,
        compression: Compression,
        level: Option<i32>,
        output: &mut (dyn Write + Send),
    ) -> Result<StoredLayer> {
        let mut tar = self.layer_tar(&layer.diff_id)?;
        let made = compress(&mut tar, output, compression, level);
        let blob = made.during("compress", &layer.diff_id)?.into_blob(compression)?;
        Ok(StoredLayer { blob, diff_id: layer.diff_id.clone() })
    }

    /// Records the image that a new layer makes of those below it.
    pub(crate) fn describe_image(
        &self,
        name: Option<&str>,
        base: Option<&str>,
        mut layers: Vec<StoredLayer>,
        layer: StoredLayer,
        new: NewImage<'_>,
    ) -> Result<StoredImage> {
        let is_alone = layers.is_empty();
        layers.push(layer);
        let format = new.format;
        let config = configuration(base, is_alone, &layers, new)?;
        let (manifest, media_type) = manifest(&config, &layers, format)?;
        self.add_image(name, &manifest, media_type, &config, None)
    }
}

impl Snapshot {
    /// Everything the container sees.
    pub(crate) fn union(&self) -> Union {
        let layers = match &self.kind {
            SnapshotKind::Overlay { lower, upper, .. } => {
                std::iter::once(upper).chain(lower).cloned().collect()
            }
            SnapshotKind::Directory(directory) => vec![directory.clone()],
        };
        Union::new(layers, self.namespace)
    }
}

/// The base's configuration with one layer and one line of history more. What this program does not know
/// is passed on as it is.
fn configuration(
    base: Option<&str>,
    is_alone: bool,
    layers: &[StoredLayer],
    new: NewImage<'_>,
) -> Result<Vec<u8>> {
    let fail = |problem| unusable("configuration", problem);
    let mut config: Map<String, Value> = match base {
        Some(base) => serde_json::from_str(base).map_err(fail)?,
        None => Map::new(),
    };
    let (os, architecture) = new.platform;
    config.entry("os").or_insert_with(|| os.into());
    config.entry("architecture").or_insert_with(|| architecture.into());
    config.insert("created".to_owned(), new.created.clone().into());
    // Docker's leftovers of the build of the base.
    config.remove("container");
    config.remove("container_config");
    if let Some(author) = &new.author {
        config.insert("author".to_owned(), author.clone().into());
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_ref()).collect();
    config.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
    let mut line = Map::new();
    line.insert("created".to_owned(), new.created.into());
    line.insert("created_by".to_owned(), new.created_by.into());
    let optional = [("author", new.author), ("comment", new.comment)];
    for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        line.insert(key.to_owned(), value.into());
    }
    let history = config.entry("history").or_insert_with(|| json!([]));
    if is_alone || !history.is_array() {
        *history = json!([]);
    }
    if let Value::Array(history) = history {
        history.push(line.into());
    }
    let run = config.entry("config").or_insert_with(|| json!({}));
    if !run.is_object() {
        *run = json!({});
    }
    if let Value::Object(run) = run {
        (new.configure)(run);
    }
    serde_json::to_vec(&config).map_err(fail)
}

impl StoredImage {
    /// The manifest of the same image with its layers in other compressed forms, and its media type.
    ///
    /// It stays of its kind, unless docker's has no word for a form.
    pub fn manifest_of(&self, layers: &[StoredLayer]) -> Result<(Vec<u8>, String)> {
        let is_docker = self.manifest_media_type.contains(".docker.");
        let has_zstd = layers.iter().any(|layer| layer.compression() == Compression::Zstd);
        let format = if is_docker && !has_zstd { Format::Docker } else { Format::Oci };
        let (bytes, media_type) = manifest(self.config.as_bytes(), layers, format)?;
        let fail = |problem| unusable("manifest", problem);
        let before: Value = serde_json::from_slice(&self.manifest_bytes()?).map_err(fail)?;
        let Some(annotations) = before.get("annotations") else {
            return Ok((bytes, media_type.to_owned()));
        };
        let mut after: Map<String, Value> = serde_json::from_slice(&bytes).map_err(fail)?;
        after.insert("annotations".to_owned(), annotations.clone());
        Ok((serde_json::to_vec(&after).map_err(fail)?, media_type.to_owned()))
    }
}

impl StoredLayer {
    /// How its blob is compressed, as its media type says.
    pub fn compression(&self) -> Compression {
        match self.blob.media_type() {
            MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Compression::None,
            MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => {
                Compression::Zstd
            }
            MediaType::Other(name) if name.ends_with("zstd") => Compression::Zstd,
            MediaType::Other(name) if name.ends_with("tar") => Compression::None,
            _ => Compression::Gzip,
        }
    }
}

pub(crate) fn manifest(
    config: &[u8],
    layers: &[StoredLayer],
    format: Format,
) -> Result<(Vec<u8>, &'static str)> {
    let (media_type, config_type) = match format {
        Format::Oci => (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
        ),
        Format::Docker => (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
        ),
    };
    let describe = |layer: &StoredLayer| {
        let blob = &layer.blob;
        json!({
            "mediaType": layer_type(layer, format),
            "digest": blob.digest().as_ref(),
            "size": blob.size(),
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": config_type,
            "digest": digest_of(config)?.as_ref(),
            "size": config.len(),
        },
        "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    });
    let bytes = serde_json::to_vec(&manifest).map_err(|problem| unusable("manifest", problem))?;
    Ok((bytes, media_type))
}

/// What a layer is called in a manifest of this format.
fn layer_type(layer: &StoredLayer, format: Format) -> String {
    let name = layer.blob.media_type().to_string();
    match (format, layer.compression()) {
        (Format::Oci, _) if name.starts_with("application/vnd.oci.") => name,
        (Format::Oci, Compression::None) => MediaType::ImageLayer.to_string(),
        (Format::Oci, Compression::Gzip) => MediaType::ImageLayerGzip.to_string(),
        (Format::Oci, Compression::Zstd) => MediaType::ImageLayerZstd.to_string(),
        (Format::Docker, Compression::None) => {
            "application/vnd.docker.image.rootfs.diff.tar".to_owned()
        }
        (Format::Docker, Compression::Gzip) => {
            "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned()
        }
        (Format::Docker, Compression::Zstd) => {
            "application/vnd.docker.image.rootfs.diff.tar.zstd".to_owned()
        }
    }
}
