//! An image as the git-layered root filesystem needs it: layers, and the story of how they came about.

use std::path::PathBuf;

use oci_spec::image::{Digest, ImageConfiguration};

use super::{commit::Signature, date, scan::Top};
use crate::{Store, StoredImage, chain, layer::record::Record, store::hex};

/// One layer of an image, unpacked in the store.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// In overlay form. Together they are the layer; later ones complete earlier ones.
    pub(crate) directories: Vec<(PathBuf, Top)>,
    /// Nothing of the layers below is to be seen any more.
    pub(crate) hides_all: bool,
    /// Of the tar.
    pub(crate) diff_id: Digest,
    /// Of the blob, as a registry has it.
    pub(crate) digest: Digest,
    /// Of the blob, in bytes.
    pub(crate) size: u64,
}

/// An image in the store.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Base first.
    pub(crate) layers: Vec<Layer>,
    /// What the image says about itself.
    pub(crate) config: ImageConfiguration,
    /// Of the configuration.
    pub(crate) config_digest: Digest,
    /// Of the manifest; the name under which the store finds the image.
    pub(crate) manifest_digest: Digest,
}

/// A commit to be made of an image: one for each entry of its history.
pub(crate) struct Step {
    pub(crate) message: String,
    pub(crate) author: Signature,
    /// Which layer it brings, if any.
    pub(crate) layer: Option<usize>,
}

impl Image {
    /// The image as the store has it.
    pub(crate) fn stored(store: &Store, image: &StoredImage) -> crate::Result<Self> {
        let mut layers = Vec::new();
        let mut chain_id = String::new();
        for layer in &image.layers {
            let directory = store.layer_path(&layer.diff_id)?;
            let record = Record::read(&directory)
                .map_err(|_| crate::Error::NoLayer(layer.diff_id.clone()))?;
            let top = if record.has_root { Top::Own } else { Top::None };
            let mut directories = vec![(directory.join("files"), top)];
            chain_id = chain::next_id(&chain_id, &layer.diff_id);
            let patch = chain_id.parse().map(|id| hex(&id).map(|hex| store.path("chains", hex)));
            if let Ok(patch) = patch {
                let files = patch?.join("files");
                directories.extend(files.is_dir().then_some((files, Top::None)));
            }
            layers.push(Layer {
                directories,
                hides_all: record.root_is_opaque,
                diff_id: layer.diff_id.clone(),
                digest: layer.blob.digest().clone(),
                size: layer.blob.size(),
            });
        }
        Ok(Self {
            layers,
            config: image.configuration()?,
            config_digest: image.id.clone(),
            manifest_digest: image.manifest.clone(),
        })
    }

    /// The history with its layers. Layers the history does not mention get an entry all the same.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let created = self.config.created().as_deref();
        let author = self.config.author().as_deref();
        let mut steps = Vec::new();
        let mut layers = 0..self.layers.len();
        for entry in self.config.history().iter().flatten() {
            let layer = match entry.empty_layer() {
                Some(true) => None,
                _ => layers.next(),
            };
            let text = [entry.created_by(), entry.comment()].into_iter().flatten();
            let message = text.map(|text| text.trim()).find(|text| !text.is_empty());
            let when = entry.created().as_deref().or(created).and_then(date::parse);
            steps.push(Step {
                message: message.map_or_else(|| untold(layer), str::to_owned),
                author: Signature::new(
                    entry.author().as_deref().filter(|author| !author.is_empty()).or(author),
                    when.unwrap_or(0),
                ),
                layer,
            });
        }
        let when = created.and_then(date::parse).unwrap_or(0);
        steps.extend(layers.map(|layer| Step {
            message: untold(Some(layer)),
            author: Signature::new(author, when),
            layer: Some(layer),
        }));
        steps
    }

    /// What the commit of a layer says beside its message; the last of all also names the image.
    pub(crate) fn trailers(&self, layer: Option<usize>, is_last: bool) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        let mut add =
            |key: &str, value: &Digest| trailers.push((key.to_owned(), value.to_string()));
        if let Some(number) = layer {
            if let Some(layer) = self.layers.get(number) {
                add("Diff-Id", &layer.diff_id);
                add("Layer-Digest", &layer.digest);
            }
            if let Some(chain_id) = self.chain_ids().get(number) {
                add("Chain-Id", chain_id);
            }
        }
        if is_last {
            add("Config-Digest", &self.config_digest);
            add("Manifest-Digest", &self.manifest_digest);
        }
        trailers
    }

    /// The chain ids of the layers, base first.
    pub(crate) fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.layers.iter().map(|layer| &layer.diff_id))
    }
}

/// What a history that says nothing is taken to have said.
fn untold(layer: Option<usize>) -> String {
    match layer {
        Some(number) => format!("adding layer {number}"),
        None => "no change of files".to_owned(),
    }
}

/// Names each layer with all below it (OCI image specification, "Layer ChainID").
pub(crate) fn chain_ids<'a>(diff_ids: impl Iterator<Item = &'a Digest>) -> Vec<Digest> {
    let mut last = String::new();
    diff_ids
        .filter_map(|diff_id| {
            last = chain::next_id(&last, diff_id);
            last.parse().ok()
        })
        .collect()
}

/// The ids of an image's layers as their branches have them, base first.
pub fn layer_ids(image: &StoredImage) -> Vec<String> {
    let chain = chain_ids(image.layers.iter().map(|layer| &layer.diff_id));
    chain.iter().map(|id| id.digest().to_owned()).collect()
}

/// The name of a layer's branch.
pub(crate) fn branch_name(number: usize, id: &str) -> String {
    format!("layer_{number}_{id}")
}

/// The number and id in the name of a layer's branch.
pub fn parse_branch(name: &str) -> Option<(usize, &str)> {
    let (number, id) = name.strip_prefix("layer_")?.split_once('_')?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (id.len() == 64 && id.bytes().all(hex)).then_some((number.parse().ok()?, id))
}
