//! A layer's record: what its files and its recipe do not say.

use std::{fs, io::Write, path::Path, sync::OnceLock};

use oci_spec::image::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    error::{During, Error, Result},
    extract::Extracted,
    name,
    overlay::Namespace,
    recipe::Lost,
    store::create,
};

/// Kept as JSON in `record`. Paths are encoded, see [`name::encode`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
    pub(crate) entries: u64,
    /// Bytes of file data.
    pub(crate) bytes: u64,
    pub(crate) namespace: Namespace,
    /// The boot during which it was unpacked: after another one it counts only if it is `durable`.
    pub(crate) boot: String,
    pub(crate) has_root: bool,
    pub(crate) root_is_opaque: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    implied: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
}

impl Record {
    pub(super) fn new(diff_id: &Digest, extracted: &Extracted, tar_size: u64) -> Self {
        let encode = |path: &Vec<u8>| name::encode(path);
        let pair = |(link, target)| (encode(link), encode(target));
        Self {
            diff_id: diff_id.clone(),
            tar_size,
            entries: extracted.entries,
            bytes: extracted.bytes,
            namespace: extracted.namespace,
            boot: boot_id(),
            has_root: extracted.has_root,
            root_is_opaque: extracted.root_is_opaque,
            implied: extracted.implied.iter().map(encode).collect(),
            links: extracted.links.iter().map(pair).collect(),
            lost: extracted.lost.iter().map(encode).collect(),
        }
    }

    pub(crate) fn read(layer: &Path) -> Result<Self> {
        let path = layer.join("record");
        let bytes = fs::read(&path).during("read", path.display())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Damaged { path, problem: error.to_string() })
    }

    pub(super) fn write(&self, layer: &Path) -> Result<()> {
        let path = layer.join("record");
        let bytes = serde_json::to_vec(self).map_err(std::io::Error::from);
        bytes.and_then(|bytes| create(&path)?.write_all(&bytes)).during("write", path.display())
    }

    /// Directories that look like what is below them.
    pub(crate) fn implied(&self) -> impl Iterator<Item = Vec<u8>> {
        self.implied.iter().map(|path| name::decode(path))
    }

    /// Hard links to paths only lower layers have: the link, its target.
    pub(crate) fn links(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.links.iter().map(|(link, target)| (name::decode(link), name::decode(target)))
    }

    pub(crate) fn lost(&self, layer: &Path) -> Lost {
        let mut lost = Lost::new();
        for (number, path) in self.lost.iter().enumerate() {
            let file = layer.join("lost").join(number.to_string());
            lost.entry(name::decode(path)).or_default().push_back(file);
        }
        lost
    }
}

/// Changes with every boot; empty where procfs does not say, which then never looks like another boot.
pub(crate) fn boot_id() -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BOOT.get_or_init(|| read().trim().to_owned()).clone()
}
