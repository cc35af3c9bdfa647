//! The file `json` of a root filesystem: its uppermost layer as Docker's first registries described it.

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use super::error::{Error, Result};

/// The description of a layer `id` on top of `parent`, of `size` bytes.
pub(crate) fn encode(
    config: &ImageConfiguration,
    id: &str,
    parent: Option<&str>,
    size: u64,
) -> Result<Vec<u8>> {
    let bad =
        |error: serde_json::Error| Error::damaged("the image's configuration", error.to_string());
    let mut whole = serde_json::to_value(config).map_err(bad)?;
    // Names of layers have their own places in this form.
    if let Some(fields) = whole.as_object_mut() {
        fields.remove("rootfs");
        fields.remove("history");
        fields.insert("id".into(), id.into());
        if let Some(parent) = parent {
            fields.insert("parent".into(), parent.into());
        }
        let last = config.history().iter().flatten().next_back();
        let comment = last.and_then(|entry| entry.comment().clone()).unwrap_or_default();
        fields.insert("comment".into(), comment.into());
        fields.insert("Size".into(), json!(size));
        fields.entry("config").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    serde_json::to_vec(&whole).map_err(bad)
}
