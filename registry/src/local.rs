//! Images in files: OCI layouts, `docker save` archives, and directories of plain blobs.
//!
//! Documents are checked exactly as those of a registry are: whoever made the files is as unknown to us.

mod docker;
pub(crate) mod layout;
pub(crate) mod tree;
pub(crate) mod write;

use std::{collections::HashMap, io::Read, path::Path};

use oci_spec::image::{Descriptor, Digest};

use crate::{
    Error, Image, Platform, Result, Source,
    manifest::{self, Document, MAX_DOCUMENT},
    resolve::{self, Leaf},
    schema1,
};
use tree::Tree;

/// Files that hold images.
pub(crate) struct Local {
    tree: Tree,
    format: Format,
}

#[allow(clippy::large_enum_variant, reason = "one exists per source")]
enum Format {
    /// `blobs/sha256/…`; the image, unless it is `index.json` itself
    Layout(Option<Descriptor>),
    /// Blobs named by their bare digest, beside `manifest.json`
    Directory,
    /// `manifest.json` lists files of any name
    Docker { image: Box<Image>, files: HashMap<Digest, String> },
}

/// The images of an archive or a directory, each as a source of its own.
pub(crate) fn images_in(files: &Path, scratch: &Path) -> Result<Vec<Source>> {
    let file = files.to_owned();
    if files.is_dir() {
        let tree = Tree::directory(files)?;
        if tree.has("manifest.json") {
            return Ok(vec![Source::Directory(file)]);
        }
        check_has_images(&tree)?;
        let source = |tag| Source::OciLayout { directory: file.clone(), tag };
        return Ok(layout::tags(&tree)?.into_iter().map(source).collect());
    }
    let tree = Tree::archive(files, scratch)?;
    if tree.has("manifest.json") {
        let names = docker::names(&tree, &file.display().to_string())?;
        let source = |name| Source::DockerArchive { file: file.clone(), name };
        return Ok(names.into_iter().map(source).collect());
    }
    check_has_images(&tree)?;
    let tags = layout::tags(&tree)?;
    let source = |tag| Source::OciArchive { file: file.clone(), tag };
    Ok(tags.into_iter().map(source).collect())
}

fn check_has_images(tree: &Tree) -> Result<()> {
    if tree.has("index.json") {
        return Ok(());
    }
    let problem = "there is no image in it: neither manifest.json nor index.json";
    Err(Error::Unsupported { place: tree.to_string(), problem })
}

impl Local {
    pub(crate) fn open(source: &Source, scratch: &Path) -> Result<Self> {
        match source {
            Source::Registry(_) | Source::V1Static { .. } => {
                let problem = "a registry is not a file";
                Err(Error::Unsupported { place: source.to_string(), problem })
            }
            Source::OciLayout { directory, tag } => {
                Self::layout(Tree::directory(directory)?, tag.as_deref())
            }
            Source::OciArchive { file, tag } => {
                Self::layout(Tree::archive(file, scratch)?, tag.as_deref())
            }
            Source::Directory(directory) => {
                Ok(Self { tree: Tree::directory(directory)?, format: Format::Directory })
            }
            Source::DockerArchive { file, name } => {
                let tree = Tree::archive(file, scratch)?;
                let (image, files) = docker::read(&tree, source, name.as_ref())?;
                Ok(Self { tree, format: Format::Docker { image: Box::new(image), files } })
            }
        }
    }

    fn layout(tree: Tree, tag: Option<&str>) -> Result<Self> {
        let (_, entry) = layout::choose(&tree, tag)?;
        Ok(Self { tree, format: Format::Layout(entry) })
    }

    pub(crate) fn resolve(&self, source: &Source, platform: &Platform) -> Result<Image> {
        let what = source.to_string();
        if let Format::Docker { image, .. } = &self.format {
            return Ok(Image::clone(image));
        }
        let top = self.top(&what)?;
        let fetch = |descriptor: &Descriptor| self.document(descriptor, &what);
        let found = resolve::descend(top, platform, &what, fetch)?;
        match found.leaf {
            Leaf::Schema1(bytes) => {
                let document = schema1::parse(&bytes, &what)?;
                let size = |digest: &Digest| self.tree.size(&self.name(digest)?);
                let sizes: Vec<u64> = document.blobs.iter().map(size).collect::<Result<_>>()?;
                document.into_image(source.clone(), &sizes, &what)
            }
            Leaf::Manifest(leaf) => {
                manifest::check_is_image(&leaf, &what)?;
                let bytes = self.tree.read(&self.name(leaf.config().digest())?, MAX_DOCUMENT)?;
                let config = manifest::config(bytes, leaf.config(), &what)?;
                let layers = manifest::layers(&leaf, &config, &what)?;
                let digest = found.digest.unwrap_or_else(|| leaf.digest.clone());
                let source = source.clone();
                Ok(Image { source, digest, manifest: leaf, config, layers, index: found.index })
            }
        }
    }

    /// The document that the name of these files stands for.
    pub(crate) fn top(&self, what: &str) -> Result<Document> {
        match &self.format {
            Format::Docker { image, .. } => Ok(Document::Manifest(image.manifest.clone())),
            Format::Layout(Some(entry)) => self.document(entry, what),
            Format::Layout(None) => Ok(layout::choose(&self.tree, None)?.0),
            Format::Directory => {
                manifest::parse(self.tree.read("manifest.json", MAX_DOCUMENT)?, &[], what)
            }
        }
    }

    /// Opens a blob; it must have exactly the size that was promised.
    pub(crate) fn blob(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let name = self.name(blob.digest())?;
        let found = self.tree.size(&name)?;
        if found != blob.size() {
            let what = format!("{}/{name}", self.tree);
            return Err(Error::SizeMismatch { what, expected: blob.size(), found });
        }
        self.tree.open(&name, offset)
    }

    pub(crate) fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Document> {
        let bytes = match self.tree.read(&self.name(descriptor.digest())?, MAX_DOCUMENT) {
            // `dir:` keeps the documents of an index as `HEX.manifest.json`.
            Err(Error::File { .. }) if matches!(self.format, Format::Directory) => {
                let name = format!("{}.manifest.json", descriptor.digest().digest());
                self.tree.read(&name, MAX_DOCUMENT)?
            }
            other => other?,
        };
        resolve::read(bytes, descriptor, None, what)
    }

    fn name(&self, digest: &Digest) -> Result<String> {
        match &self.format {
            Format::Layout(_) => Ok(layout::blob_name(digest)),
            Format::Directory => Ok(digest.digest().to_owned()),
            Format::Docker { files, .. } => files.get(digest).cloned().ok_or_else(|| {
                Error::UnknownBlob { name: self.tree.to_string(), digest: digest.clone() }
            }),
        }
    }
}
