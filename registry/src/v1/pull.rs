//! From a v1 registry into an OCI layout.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use oci_spec::image::{Descriptor, Digest};
use serde_json::{Map, Value};

use super::{Origin, check_id, files::Files, session::Session};
use crate::{
    Client, Error, Reference, Result, Source,
    digest::Hasher,
    error::Cause,
    layer::{self, Compression},
    local::write::Writer,
    manifest::{self, DOCKER_LAYER_GZIP, DOCKER_LAYER_TAR, DOCKER_MANIFEST},
    push::Push,
    schema1,
    source::Place,
    transport::Method,
};

const MAX_LAYERS: usize = 1_000;

/// Pulls an image from a v1 registry into the OCI layout at `layout`.
///
/// The digests are those of what arrived: the protocol has none to check against, except for a checksum that
/// some servers send, which then must be right.
pub(crate) fn pull(client: &Client, name: &Reference, layout: &Path) -> Result<()> {
    let (session, _) = Session::open(client, name, Method::GET, bytes::Bytes::new())?;
    into_layout(&session, name, layout)
}

/// The same from files.
pub(crate) fn pull_static(place: &Place, name: &Reference, layout: &Path) -> Result<()> {
    into_layout(&Files::new(place, name), name, layout)
}

fn into_layout(origin: &dyn Origin, name: &Reference, layout: &Path) -> Result<()> {
    let id = image_id(origin, name)?;
    let ancestry = ancestry(origin, &id)?;
    let to = Source::OciLayout { directory: layout.to_owned(), tag: None };
    let mut writer = Writer::create(&to)?;
    let (mut layers, mut diff_ids, mut history, mut newest) = (vec![], vec![], vec![], Map::new());
    for id in ancestry.iter().rev() {
        let (fetched, json) = fetch(origin, id, layout)?;
        history.push(schema1::history_entry(&json, false));
        newest = json;
        put(&mut writer, &fetched)?;
        diff_ids.push(fetched.diff_id.to_string());
        layers.push(fetched.blob.clone());
    }
    let mut config = schema1::configuration(newest, history, None);
    config.insert("rootfs".into(), serde_json::json!({"type": "layers", "diff_ids": diff_ids}));
    let what = name.familiar();
    let config = schema1::raw_config(config, &what)?;
    let layers: Vec<&Descriptor> = layers.iter().collect();
    let manifest = schema1::raw_manifest(&config, &layers, &what)?;
    let open = |_: &Descriptor, _: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(Box::new(io::Cursor::new(config.bytes.clone())))
    };
    writer.put(manifest.config(), &Push::new(&open))?;
    writer.put_document(&manifest.bytes, DOCKER_MANIFEST, &[])?;
    writer.finish()
}

/// Reads a document.
fn document(origin: &dyn Origin, path: &str) -> Result<(Vec<u8>, Option<String>)> {
    let mut bytes = Vec::new();
    let checksum = origin.read(path, &mut |block| {
        bytes.extend_from_slice(block);
        let limit = manifest::MAX_DOCUMENT;
        match u64::try_from(bytes.len()) {
            Ok(length) if length <= limit => Ok(()),
            _ => Err(Error::TooLarge { what: path.to_owned(), limit }),
        }
    })?;
    Ok((bytes, checksum))
}

fn json(origin: &dyn Origin, path: &str) -> Result<Value> {
    crate::json::parse_value(&document(origin, path)?.0, origin.what())
}

fn image_id(origin: &dyn Origin, name: &Reference) -> Result<String> {
    let tags = json(origin, &format!("/v1/repositories/{}/tags", origin.repository()))?;
    let tag = name.tag().unwrap_or("latest");
    let id = tags.get(tag).and_then(Value::as_str);
    let Some(id) = id else {
        let known: Vec<String> =
            tags.as_object().map(|tags| tags.keys().cloned().collect()).unwrap_or_default();
        let nearest = crate::client::nearest_tags(tag, &known);
        return Err(Error::UnknownTag { name: name.name(), tag: tag.to_owned(), nearest });
    };
    check_id(id, origin.what())?;
    Ok(id.to_owned())
}

/// The layers' names, newest first.
fn ancestry(origin: &dyn Origin, id: &str) -> Result<Vec<String>> {
    let list = json(origin, &format!("/v1/images/{id}/ancestry"))?;
    let refuse = |problem: &str| Error::Document {
        what: origin.what().to_owned(),
        problem: problem.to_owned(),
    };
    let list = list.as_array().ok_or_else(|| refuse("its ancestry is no list"))?;
    let ids: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if ids.is_empty() || ids.len() > MAX_LAYERS || ids.len() != list.len() {
        return Err(refuse("its ancestry is malformed"));
    }
    ids.iter().try_for_each(|id| check_id(id, origin.what()))?;
    Ok(ids)
}

struct Fetched {
    file: Partial,
    blob: Descriptor,
    diff_id: Digest,
}

/// A file that goes away.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn put(writer: &mut Writer, layer: &Fetched) -> Result<()> {
    let open = |_: &Descriptor, _: u64| -> Result<Box<dyn Read + Send>, Cause> {
        Ok(Box::new(File::open(&layer.file.0)?))
    };
    writer.put(&layer.blob, &Push::new(&open))
}

/// Fetches a layer and its description, as often as needed: without digests and sizes there is nothing to
/// continue from.
fn fetch(origin: &dyn Origin, id: &str, layout: &Path) -> Result<(Fetched, Map<String, Value>)> {
    let mut backoff = origin.backoff();
    loop {
        let fetched = fetch_once(origin, id, layout);
        let again = match (&fetched, &mut backoff) {
            (Err(error), Some(backoff)) => backoff.wait_after_interruption(error),
            _ => false,
        };
        if !again {
            return fetched;
        }
    }
}

fn fetch_once(
    origin: &dyn Origin,
    id: &str,
    layout: &Path,
) -> Result<(Fetched, Map<String, Value>)> {
    let (json, checksum) = document(origin, &format!("/v1/images/{id}/json"))?;
    let path = layout.join(format!(".v1.{}.partial", std::process::id()));
    let failed = |source| Error::File { doing: "write", path: path.clone(), source };
    let partial = Partial(path.clone());
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
    let mut payload = Hasher::default();
    payload.update(&json);
    payload.update(b"\n");
    let mut compressed = Hasher::default();
    let mut size = 0;
    origin.read(&format!("/v1/images/{id}/layer"), &mut |block| {
        payload.update(block);
        compressed.update(block);
        size += u64::try_from(block.len()).unwrap_or_default();
        file.write_all(block).map_err(failed)
    })?;
    let found = payload.finish();
    if let Some(expected) = checksum.filter(|it| it.starts_with("sha256:")) {
        let expected = crate::parse_digest(&expected)?;
        if expected != found {
            let what = format!("layer {}", id.get(..12).unwrap_or_default());
            return Err(Error::DigestMismatch { what, expected, found });
        }
    }
    let (compression, diff_id) = layer::diff_id(&mut file).map_err(failed)?;
    let media_type = match compression {
        Compression::None => DOCKER_LAYER_TAR,
        Compression::Gzip => DOCKER_LAYER_GZIP,
    };
    let blob = Descriptor::new(media_type.into(), size, compressed.finish());
    let json = crate::json::parse(&json, origin.what())?;
    Ok((Fetched { file: partial, blob, diff_id }, json))
}
