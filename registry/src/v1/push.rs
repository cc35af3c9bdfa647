//! From anywhere to a v1 registry.

use std::io::{self, Read};

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use serde_json::{Map, Value, json};

use super::{
    session::{Session, TOKEN},
    tarsum::tarsum,
};
use crate::{
    Client, Error, Progress, Push, Raw, Reference, Result,
    digest::{Hasher, digest_of},
    manifest,
    push::{read_block, unreadable},
    transport::{Method, header},
};

const CHECKSUM: header::HeaderName = header::HeaderName::from_static("x-docker-checksum");
const PAYLOAD: header::HeaderName = header::HeaderName::from_static("x-docker-checksum-payload");

/// One layer as the protocol sees it.
pub(super) struct Link {
    pub(super) id: String,
    /// Exactly the bytes whose checksum is taken.
    pub(super) json: Vec<u8>,
    pub(super) blob: Descriptor,
}

/// Pushes an image to a v1 registry. Layers that it has already are not sent; the same image gives the same
/// layer names every time.
pub(crate) fn push(
    client: &Client,
    to: &Reference,
    manifest: &Raw<ImageManifest>,
    push: &Push<'_>,
) -> Result<()> {
    let what = to.familiar();
    let config = read_config(manifest, push, &what)?;
    let links = chain(manifest, &config, &what)?;
    let last = newest(&links, &what)?;
    let tag = to.tag().unwrap_or("latest");
    let mut list: Vec<Value> = links.iter().map(|link| json!({"id": link.id})).collect();
    if let Some(newest) = list.last_mut().and_then(Value::as_object_mut) {
        newest.insert("Tag".to_owned(), tag.into());
    }
    let list: Bytes = Value::from(list).to_string().into();
    let (session, _) = Session::open(client, to, Method::PUT, list.clone())?;
    for link in &links {
        send(client, &session, link, push)?;
    }
    let path = format!("/v1/repositories/{}/tags/{tag}", session.repository);
    let mut call = session.call(Method::PUT, &path);
    call.body = Value::from(last.id.as_str()).to_string().into();
    session.send(&session.layers, call)?;
    let path = format!("/v1/repositories/{}/images", session.repository);
    let mut call = session.call(Method::PUT, &path).with(TOKEN, "true");
    call.body = list;
    session.send(&session.index, call).map(drop)
}

/// The image itself, as the protocol sees it: its uppermost layer.
pub(super) fn newest<'a>(links: &'a [Link], what: &str) -> Result<&'a Link> {
    links.last().ok_or_else(|| Error::Document {
        what: what.to_owned(),
        problem: "it has no layers, which this protocol cannot say".to_owned(),
    })
}

pub(super) fn read_config(
    manifest: &Raw<ImageManifest>,
    push: &Push<'_>,
    what: &str,
) -> Result<Raw<ImageConfiguration>> {
    let blob = manifest.config();
    let mut bytes = Vec::new();
    let mut reader = open(push, blob)?.take(blob.size());
    reader.read_to_end(&mut bytes).map_err(|error| unreadable(error, blob))?;
    manifest::config(bytes, blob, what)
}

pub(super) fn open(push: &Push<'_>, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
    let failed = |source| Error::Transfer {
        doing: format!("open blob {} to push it", blob.digest()),
        source,
    };
    (push.blobs)(blob, 0).map_err(failed)
}

fn send(client: &Client, session: &Session, link: &Link, push: &Push<'_>) -> Result<()> {
    let path = |last: &str| format!("/v1/images/{}/{last}", link.id);
    let json_path = path("json");
    let mut known = session.call(Method::GET, &json_path);
    known.expected = &[404];
    if session.send(&session.layers, known)?.status() == 200 {
        (push.progress)(&link.blob, Progress::Exists);
        return Ok(());
    }
    let mut call = session.call(Method::PUT, &json_path);
    call.body = link.json.clone().into();
    // "Image already exists": somebody was faster, or an earlier try of ours ended after the layer.
    call.expected = &[409];
    session.send(&session.layers, call)?;

    let layer_path = path("layer");
    let mut backoff = session.layers.backoff();
    let payload = loop {
        match send_layer(client, session, link, &layer_path, push) {
            Err(error) if backoff.wait_after_interruption(&error) => {}
            other => break other?,
        }
    };
    let tar = open(push, &link.blob)?;
    let sum = tarsum(plain(tar, link.blob.media_type().as_ref())?, &link.json)
        .map_err(|error| unreadable(error, &link.blob))?;
    let checksum_path = path("checksum");
    let call =
        session.call(Method::PUT, &checksum_path).with(CHECKSUM, &sum).with(PAYLOAD, &payload);
    session.send(&session.layers, call)?;
    (push.progress)(&link.blob, Progress::Done);
    Ok(())
}

/// Sends a layer as it is, and returns the checksum of description and layer together.
fn send_layer(
    client: &Client,
    session: &Session,
    link: &Link,
    path: &str,
    push: &Push<'_>,
) -> Result<String> {
    let blob = &link.blob;
    let mut reader = open(push, blob)?;
    let mut payload = Hasher::default();
    payload.update(&link.json);
    payload.update(b"\n");
    let mut sent = 0;
    let mut produce = || {
        let block = read_block(&mut *reader, blob.size() - sent, blob)?;
        if let Some(block) = &block {
            payload.update(block);
            sent += u64::try_from(block.len()).unwrap_or_default();
            (push.progress)(blob, Progress::Sent(sent));
        }
        Ok(block)
    };
    let mut call =
        session.call(Method::PUT, path).with(header::CONTENT_TYPE, "application/octet-stream");
    call.patience = Some(client.finish());
    session.upload(call, blob.size(), &mut produce)?;
    Ok(payload.finish().to_string())
}

/// The tar inside of a layer.
fn plain(layer: Box<dyn Read + Send>, media_type: &str) -> Result<Box<dyn Read + Send>> {
    let problem = "a v1 registry knows layers in gzip or uncompressed only";
    if media_type.ends_with("zstd") {
        return Err(Error::Unsupported { place: media_type.to_owned(), problem });
    }
    if media_type.ends_with("gzip") {
        let buffered = io::BufReader::with_capacity(128 << 10, layer);
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)));
    }
    Ok(layer)
}

/// Names the layers after what they contain and stand on, and describes each from the image's history.
pub(super) fn chain(
    manifest: &Raw<ImageManifest>,
    config: &Raw<ImageConfiguration>,
    what: &str,
) -> Result<Vec<Link>> {
    let members: Map<String, Value> = crate::json::parse(&config.bytes, what)?;
    let history: Vec<&Value> = members
        .get("history")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("empty_layer") != Some(&Value::Bool(true)))
        .collect();
    let layers = manifest::layers(manifest, config, what)?;
    let mut links: Vec<Link> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let parent = links.last().map(|link| link.id.as_str());
        let is_last = index + 1 == layers.len();
        let name = format!(
            "{} {} {}",
            parent.unwrap_or_default(),
            layer.diff_id.as_ref().unwrap_or(layer.descriptor.digest()),
            if is_last { config.digest.as_ref() } else { "" }
        );
        let id = digest_of(name.as_bytes()).digest().to_owned();
        let entry = history.get(index).copied();
        let json = describe(&id, parent, entry, is_last.then_some(&members));
        links.push(Link { id, json, blob: layer.descriptor.clone() });
    }
    Ok(links)
}

fn describe(
    id: &str,
    parent: Option<&str>,
    history: Option<&Value>,
    config: Option<&Map<String, Value>>,
) -> Vec<u8> {
    let mut json = Map::new();
    for key in ["architecture", "os", "config", "container_config", "docker_version"] {
        if let Some(value) = config.and_then(|config| config.get(key)) {
            json.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["created", "author", "comment"] {
        if let Some(value) = history.and_then(|entry| entry.get(key)) {
            json.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(command) = history.and_then(|entry| entry.get("created_by")) {
        json.entry("container_config").or_insert_with(|| json!({"Cmd": [command]}));
    }
    json.entry("created").or_insert_with(|| "1970-01-01T00:00:00Z".into());
    json.insert("id".to_owned(), id.into());
    if let Some(parent) = parent {
        json.insert("parent".to_owned(), parent.into());
    }
    Value::Object(json).to_string().into_bytes()
}
