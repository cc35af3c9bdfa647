//! A read-only registry: the distribution specification's pull half, over whatever holds the images.

pub(crate) mod http;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use oci_spec::image::Digest;
use serde_json::json;

use crate::{digest_of, parse_digest};
use http::{Content, Incoming, Outgoing, Running};

const DEFAULT_PAGE: usize = 1_000;

/// What is served. Every method may be called from several threads at once; `None` is "not here".
pub trait Images: Send + Sync {
    /// Names of repositories, sorted.
    fn repositories(&self) -> io::Result<Vec<String>>;

    /// The tags of a repository, sorted.
    fn tags(&self, repository: &str) -> io::Result<Option<Vec<String>>>;

    /// A manifest or index, by tag or digest: its bytes and its media type.
    fn manifest(&self, repository: &str, reference: &str) -> io::Result<Option<(Vec<u8>, String)>>;

    /// A blob of any image in the repository.
    fn blob(&self, repository: &str, digest: &Digest) -> io::Result<Option<ServedBlob>>;
}

/// A blob's bytes, or a way to them.
pub enum ServedBlob {
    /// A whole file.
    File(File),
    /// So many bytes, from any offset on.
    Stream {
        /// How many there are from the beginning.
        size: u64,
        /// Starts reading at an offset.
        open: Box<dyn FnOnce(u64) -> io::Result<Box<dyn Read + Send>>>,
    },
}

/// A registry that answers until it is dropped.
pub struct Server {
    running: Running,
}

impl Server {
    /// Serves images on an address; port 0 chooses a free one.
    pub fn start(address: SocketAddr, images: Arc<dyn Images>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let handler = move |request: &mut Incoming<'_>, _: &mut std::net::TcpStream| {
            let answer = answer(&*images, request).unwrap_or_else(|error| {
                log::warn!("{} {}: {error}", request.method, request.path);
                refusal(500, "UNKNOWN", "the store cannot be read")
            });
            log::info!("{} {} {}", request.method, request.path, answer.status);
            Some(answer.with("Docker-Distribution-Api-Version", "registry/2.0"))
        };
        Ok(Self { running: Running::start(listener, Arc::new(handler))? })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// Answers for ever.
    pub fn wait(self) {
        self.running.wait();
    }
}

fn answer(images: &dyn Images, request: &Incoming<'_>) -> io::Result<Outgoing> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Ok(refusal(405, "UNSUPPORTED", "this registry is read-only"));
    }
    let Some(path) = request.path.strip_prefix("/v2/").or((request.path == "/v2").then_some(""))
    else {
        return Ok(refusal(404, "UNSUPPORTED", "there is nothing here"));
    };
    match path {
        "" => return Ok(Outgoing::new(200, "{}").with("Content-Type", "application/json")),
        "_catalog" => return catalog(images, request),
        _ => {}
    }
    if let Some(repository) = path.strip_suffix("/tags/list").filter(is_repository) {
        return tags(images, repository, request);
    }
    let named = |between: &str| path.rsplit_once(between).filter(|(name, _)| is_repository(name));
    if let Some((repository, reference)) = named("/manifests/") {
        return manifest(images, repository, reference);
    }
    if let Some((repository, digest)) = named("/blobs/") {
        return blob(images, repository, digest, request);
    }
    if path.contains("/referrers/") {
        let index = json!({"schemaVersion": 2, "manifests": [],
            "mediaType": "application/vnd.oci.image.index.v1+json"});
        let answer = Outgoing::new(200, index.to_string());
        return Ok(answer.with("Content-Type", "application/vnd.oci.image.index.v1+json"));
    }
    Ok(refusal(404, "UNSUPPORTED", "there is nothing here"))
}

/// Whoever implements [`Images`] may rely on names that are names.
fn is_repository(text: &&str) -> bool {
    format!("localhost/{text}").parse::<crate::Reference>().is_ok_and(|it| it.repository() == *text)
}

fn refusal(status: u16, code: &str, message: &str) -> Outgoing {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    Outgoing::new(status, body).with("Content-Type", "application/json")
}

fn catalog(images: &dyn Images, request: &Incoming<'_>) -> io::Result<Outgoing> {
    let (page, next) = page(images.repositories()?, request);
    let answer = Outgoing::new(200, json!({"repositories": page}).to_string());
    Ok(linked(answer.with("Content-Type", "application/json"), "/v2/_catalog", next))
}

fn tags(images: &dyn Images, repository: &str, request: &Incoming<'_>) -> io::Result<Outgoing> {
    let Some(tags) = images.tags(repository)? else {
        return Ok(refusal(404, "NAME_UNKNOWN", "no such repository"));
    };
    let (page, next) = page(tags, request);
    let answer = Outgoing::new(200, json!({"name": repository, "tags": page}).to_string());
    let path = format!("/v2/{repository}/tags/list");
    Ok(linked(answer.with("Content-Type", "application/json"), &path, next))
}

/// The part of a sorted list that was asked for with `last` and `n`, and how to ask for the next.
fn page(all: Vec<String>, request: &Incoming<'_>) -> (Vec<String>, Option<String>) {
    let asked = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(DEFAULT_PAGE);
    let count = asked.min(DEFAULT_PAGE);
    let last = request.parameter("last").unwrap_or_default();
    let mut rest = all.into_iter().filter(|name| last.is_empty() || *name > last);
    let page: Vec<String> = rest.by_ref().take(count).collect();
    let next = rest.next().and(page.last()).map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &count.to_string()).append_pair("last", last).finish()
    });
    (page, next)
}

fn linked(answer: Outgoing, path: &str, next: Option<String>) -> Outgoing {
    match next {
        Some(query) => answer.with("Link", format!("<{path}?{query}>; rel=\"next\"")),
        None => answer,
    }
}

fn manifest(images: &dyn Images, repository: &str, reference: &str) -> io::Result<Outgoing> {
    let Some((bytes, media_type)) = images.manifest(repository, reference)? else {
        return Ok(refusal(404, "MANIFEST_UNKNOWN", "no such manifest"));
    };
    let digest = digest_of(&bytes).to_string();
    let answer = Outgoing::new(200, bytes).with("Content-Type", media_type);
    Ok(answer.with("Etag", format!("\"{digest}\"")).with("Docker-Content-Digest", digest))
}

fn blob(
    images: &dyn Images,
    repository: &str,
    digest: &str,
    request: &Incoming<'_>,
) -> io::Result<Outgoing> {
    let Ok(digest) = parse_digest(digest) else {
        return Ok(refusal(400, "DIGEST_INVALID", "that is no digest"));
    };
    let Some(blob) = images.blob(repository, &digest)? else {
        return Ok(refusal(404, "BLOB_UNKNOWN", "no such blob"));
    };
    let size = match &blob {
        ServedBlob::File(file) => file.metadata()?.len(),
        ServedBlob::Stream { size, .. } => *size,
    };
    let range = request.header("range").map(|text| parse_range(text, size));
    let (status, start, end) = match range {
        Some(Range::Part(start, end)) => (206, start, end),
        Some(Range::OutOfBounds) => {
            let answer = refusal(416, "RANGE_INVALID", "the blob ends before that");
            return Ok(answer.with("Content-Range", format!("bytes */{size}")));
        }
        Some(Range::Other) | None => (200, 0, size),
    };
    let content = match blob {
        // Nobody reads the body of an answer to HEAD.
        _ if request.method == "HEAD" => Content::Stream(Box::new(io::empty()), end - start),
        ServedBlob::File(mut file) => {
            file.seek(SeekFrom::Start(start))?;
            Content::File(file, end - start)
        }
        ServedBlob::Stream { open, .. } => Content::Stream(open(start)?, end - start),
    };
    let mut answer = Outgoing { status, headers: Vec::new(), content }
        .with("Content-Type", "application/octet-stream")
        .with("Accept-Ranges", "bytes")
        .with("Docker-Content-Digest", digest.to_string());
    if status == 206 {
        let last = end.saturating_sub(1);
        answer = answer.with("Content-Range", format!("bytes {start}-{last}/{size}"));
    }
    Ok(answer)
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// From here to before there.
    Part(u64, u64),
    OutOfBounds,
    /// Several ranges, or none that we understand: the whole is always a right answer.
    Other,
}

/// `bytes=5-`, `bytes=5-9` or `bytes=-5`.
fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|it| it.split_once('-')) else {
        return Range::Other;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= size => Range::OutOfBounds,
        (Ok(first), Ok(last)) if last >= first => {
            Range::Part(first, size.min(last.saturating_add(1)))
        }
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, size),
        (Err(_), Ok(0)) if first.is_empty() => Range::OutOfBounds,
        (Err(_), Ok(last)) if first.is_empty() => Range::Part(size.saturating_sub(last), size),
        _ => Range::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (text, expected) in [
            ("bytes=0-", Range::Part(0, 10)),
            ("bytes=3-5", Range::Part(3, 6)),
            ("bytes=3-99", Range::Part(3, 10)),
            ("bytes=-4", Range::Part(6, 10)),
            ("bytes=-99", Range::Part(0, 10)),
            ("bytes=10-", Range::OutOfBounds),
            ("bytes=-0", Range::OutOfBounds),
            ("bytes=5-3", Range::Other),
            ("bytes=0-1,3-4", Range::Other),
            ("lines=1-2", Range::Other),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }
}
