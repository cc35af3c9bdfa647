//! From anywhere to a v1 registry.

use std::io::{self, Read};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Moved, session::Session, session::TOKEN, tarsum::tarsum};
use crate::{
    Client, Error, Image, Layer, Platform, Reference, Result, Source,
    digest::{Hasher, digest_of},
    push::read_block,
    transport::{Method, header},
};

const CHECKSUM: header::HeaderName = header::HeaderName::from_static("x-docker-checksum");
const PAYLOAD: header::HeaderName = header::HeaderName::from_static("x-docker-checksum-payload");

/// One layer as the protocol sees it.
struct Link {
    id: String,
    /// Exactly the bytes whose checksum is taken.
    json: Vec<u8>,
    layer: Layer,
}

/// Pushes an image to a v1 registry. Layers that it has already are not sent; the same image gives the same
/// layer names every time.
pub fn push(
    client: &Client,
    from: &Source,
    platform: &Platform,
    to: &Reference,
    moved: &Moved<'_>,
) -> Result<()> {
    let image = client.resolve(from, platform)?;
    let links = chain(&image)?;
    let last = links.last().ok_or_else(|| Error::Document {
        what: from.to_string(),
        problem: "it has no layers, which this protocol cannot say".to_owned(),
    })?;
    let tag = to.tag().unwrap_or("latest");
    let mut list: Vec<Value> = links.iter().map(|link| json!({"id": link.id})).collect();
    if let Some(newest) = list.last_mut().and_then(Value::as_object_mut) {
        newest.insert("Tag".to_owned(), tag.into());
    }
    let list: Bytes = Value::from(list).to_string().into();
    let (session, _) = Session::open(client, to, Method::PUT, list.clone())?;
    for link in &links {
        send(client, &session, from, link, moved)?;
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

fn send(
    client: &Client,
    session: &Session,
    from: &Source,
    link: &Link,
    moved: &Moved<'_>,
) -> Result<()> {
    let path = |last: &str| format!("/v1/images/{}/{last}", link.id);
    let json_path = path("json");
    let mut known = session.call(Method::GET, &json_path);
    known.expected = &[404];
    if session.send(&session.layers, known)?.status() == 200 {
        return Ok(());
    }
    let mut call = session.call(Method::PUT, &json_path);
    call.body = link.json.clone().into();
    // "Image already exists": somebody was faster, or an earlier try of ours ended after the layer.
    call.expected = &[409];
    session.send(&session.layers, call)?;

    let blob = &link.layer.descriptor;
    let layer_path = path("layer");
    let mut backoff = session.layers.backoff();
    let payload = loop {
        match send_layer(client, session, from, link, &layer_path, moved) {
            Err(error) if backoff.wait_after_interruption(&error) => {}
            other => break other?,
        }
    };
    let tar = client.blob(from, blob, 0)?;
    let sum = tarsum(plain(tar, blob.media_type().as_ref())?, &link.json)
        .map_err(|error| crate::push::unreadable(error, blob))?;
    let checksum_path = path("checksum");
    let call =
        session.call(Method::PUT, &checksum_path).with(CHECKSUM, &sum).with(PAYLOAD, &payload);
    session.send(&session.layers, call).map(drop)
}

/// Sends a layer as it is, and returns the checksum of description and layer together.
fn send_layer(
    client: &Client,
    session: &Session,
    from: &Source,
    link: &Link,
    path: &str,
    moved: &Moved<'_>,
) -> Result<String> {
    let blob = &link.layer.descriptor;
    let mut reader = client.blob(from, blob, 0)?;
    let mut payload = Hasher::default();
    payload.update(&link.json);
    payload.update(b"\n");
    let mut sent = 0;
    let mut produce = || {
        let block = read_block(&mut *reader, blob.size() - sent, blob)?;
        if let Some(block) = &block {
            payload.update(block);
            sent += u64::try_from(block.len()).unwrap_or_default();
            moved(&link.id, sent);
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
fn chain(image: &Image) -> Result<Vec<Link>> {
    let config: Map<String, Value> = crate::json::parse(&image.config.bytes, "the configuration")?;
    let history: Vec<&Value> = config
        .get("history")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("empty_layer") != Some(&Value::Bool(true)))
        .collect();
    let mut links: Vec<Link> = Vec::new();
    for (index, layer) in image.layers.iter().enumerate() {
        let parent = links.last().map(|link| link.id.as_str());
        let is_last = index + 1 == image.layers.len();
        let name = format!(
            "{} {} {}",
            parent.unwrap_or_default(),
            layer.diff_id.as_ref().unwrap_or(layer.descriptor.digest()),
            if is_last { image.config.digest.as_ref() } else { "" }
        );
        let id = digest_of(name.as_bytes()).digest().to_owned();
        let entry = history.get(index).copied();
        let json = describe(&id, parent, entry, is_last.then_some(&config));
        links.push(Link { id, json, layer: layer.clone() });
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
