//! Old images made new: what came before content was addressed by its digest is fetched whole, and turned into
//! an OCI layout in a scratch directory. To everybody else it is an image like any other.

use std::{
    fs::{self, DirBuilder, File},
    hash::{BuildHasher, RandomState},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use oci_spec::image::Descriptor;

use super::{Client, lock};
use crate::{
    Cause, Error, Image, Platform, Reference, Result, Source, layer,
    local::{layout::blob_name, write::Writer},
    push::Push,
    source::Place,
    v1,
};

/// A directory that goes away with the client.
pub(super) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Client {
    /// Completes an image of schema 1, which needs all of its layers' bytes.
    pub(super) fn complete(&self, image: Image, platform: &Platform) -> Result<Image> {
        let digest = image.digest.clone();
        let layout = self.converted(|directory| {
            let to = layout(directory);
            let mut writer = Writer::create(&to)?;
            let blobs = |blob: &Descriptor, offset: u64| {
                self.blob(&image.source, blob, offset).map_err(Cause::from)
            };
            let mut diff_ids = Vec::new();
            for layer in &image.layers {
                writer.put(&layer.descriptor, &Push::new(&blobs))?;
                let path = directory.join(blob_name(layer.descriptor.digest()));
                let failed = |source| Error::File { doing: "read", path: path.clone(), source };
                let (_, diff_id) =
                    layer::diff_id(&mut File::open(&path).map_err(failed)?).map_err(failed)?;
                diff_ids.push(diff_id);
            }
            finish(writer, image.clone().with_diff_ids(&diff_ids)?)?;
            Ok(to)
        })?;
        // The name still stands for what the registry has.
        Ok(Image { digest, ..self.local(&layout)?.resolve(&layout, platform)? })
    }

    /// Fetches an image with the protocol of 2013.
    pub(super) fn resolve_v1(&self, name: &Reference, platform: &Platform) -> Result<Image> {
        let layout = self.converted(|directory| {
            v1::pull(self, name, directory)?;
            Ok(layout(directory))
        })?;
        self.local(&layout)?.resolve(&layout, platform)
    }

    /// The same, from files.
    pub(super) fn resolve_v1_static(
        &self,
        place: &Place,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Image> {
        let layout = self.converted(|directory| {
            v1::pull_static(place, name, directory)?;
            Ok(layout(directory))
        })?;
        self.local(&layout)?.resolve(&layout, platform)
    }

    fn converted(&self, write: impl FnOnce(&Path) -> Result<Source>) -> Result<Source> {
        // The scratch directory is shared with other users, who shall not guess the name.
        let chance = RandomState::new().hash_one(std::process::id());
        let name = format!("crun-cargo-{chance:016x}.layout");
        let path = self.shared.options.scratch.join(name);
        let failed = |source| Error::File { doing: "create", path: path.clone(), source };
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let scratch = Scratch(path.clone());
        let source = write(&path)?;
        lock(&self.shared.scratch).push(scratch);
        Ok(source)
    }
}

fn layout(directory: &Path) -> Source {
    Source::OciLayout { directory: directory.to_owned(), tag: None }
}

/// Writes the documents of an image whose layers are there.
fn finish(mut writer: Writer, image: Image) -> Result<()> {
    let config = image.config.bytes.clone();
    let open = |_: &Descriptor, _: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(Box::new(std::io::Cursor::new(config.clone())))
    };
    writer.put(image.manifest.config(), &Push::new(&open))?;
    writer.put_document(&image.manifest.bytes, image.manifest.media_type.as_ref(), &[])?;
    writer.finish()
}
