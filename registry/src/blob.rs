//! Reading a blob from a registry, over as many connections as it takes.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use oci_spec::image::Descriptor;

use crate::{
    Client, Error, Result,
    client::host::{Backoff, Call},
    registries::Endpoint,
    transport::{BodyReader, HeaderMap, HeaderValue, Method, Response, header},
};

/// After this much, a broken connection counts as the first failure again. Less would let a server that
/// sends a few bytes per connection keep us busy for ever.
const PROGRESS: u64 = 1 << 20;

/// A blob on its way. Delivers exactly the promised number of bytes.
pub(crate) struct Blob {
    client: Client,
    /// Places to ask, best first; the front is the one in use.
    endpoints: Vec<Endpoint>,
    blob: Descriptor,
    position: u64,
    /// Where the last failure was.
    failed_at: u64,
    backoff: Backoff,
    doing: String,
    body: Option<Body>,
    block: Bytes,
}

struct Body {
    reader: BodyReader,
    /// Bytes to throw away because the server started from the beginning.
    skip: u64,
    /// The server said how much it sends, and that is right: nothing can follow.
    is_exact: bool,
}

impl Blob {
    pub(crate) fn open(
        client: Client,
        endpoints: Vec<Endpoint>,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Self> {
        let Some(first) = endpoints.first() else {
            let name = String::new();
            return Err(Error::UnknownBlob { name, digest: blob.digest().clone() });
        };
        let backoff = client.host(first).backoff();
        let mut opened = Self {
            client,
            endpoints,
            blob: blob.clone(),
            position: offset,
            failed_at: offset,
            backoff,
            doing: format!("fetch blob {}", short(blob)),
            body: None,
            block: Bytes::new(),
        };
        while offset < blob.size() {
            match opened.connect_somewhere() {
                Ok(()) => break,
                Err(error) if opened.backoff.wait_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(opened)
    }

    /// Connects to the first place that has the blob.
    fn connect_somewhere(&mut self) -> Result<()> {
        loop {
            match self.connect() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) if self.endpoints.len() > 1 => {
                    let failed = self.endpoints.remove(0);
                    log::info!("{}: {error}; asking the next place", failed.registry);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&self) -> Result<Body> {
        let endpoint = self.endpoints.first().ok_or_else(|| self.unknown(""))?;
        let host = self.client.host(endpoint);
        let mut headers = HeaderMap::new();
        // A proxy that compresses would change every byte we count.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.position > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.position))
        {
            headers.insert(header::RANGE, range);
        }
        let answer = host.send_once(&Call {
            method: Method::GET,
            path: &format!("/v2/{}/blobs/{}", endpoint.repository, self.blob.digest()),
            headers,
            body: Bytes::new(),
            repository: &endpoint.repository,
            scope: &format!("repository:{}:pull", endpoint.repository),
            doing: &self.doing,
            expected: &[404, 416],
            patience: None,
        })?;
        self.start(answer, &endpoint.registry)
    }

    /// Decides from the head of the answer where its body starts.
    fn start(&self, answer: Response, registry: &str) -> Result<Body> {
        let size = self.blob.size();
        let skip = match answer.status() {
            404 => return Err(self.unknown(registry)),
            206 if starts_at(&answer, self.position, size) => 0,
            206 | 416 => {
                let problem = "the registry answers with another part of it than we asked for";
                return Err(self.refused(problem));
            }
            _ => self.position,
        };
        let encoding = answer.header(header::CONTENT_ENCODING).unwrap_or("identity");
        if encoding != "identity" {
            return Err(self.refused("the registry sends it in another encoding"));
        }
        let length = answer.header(header::CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|text| text.parse().ok());
        let expected = size - self.position + skip;
        if let Some(found) = length.filter(|found| *found != expected) {
            return Err(self.wrong_size(found.saturating_add(size - expected)));
        }
        Ok(Body { reader: answer.into_reader(), skip, is_exact: length.is_some() })
    }

    /// Gets the next block, however many connections that takes.
    fn fill(&mut self) -> Result<()> {
        loop {
            let next = match &mut self.body {
                Some(body) => next_block(body, &self.doing),
                None => match self.connect_somewhere() {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            let error = match next {
                Ok(block) => {
                    let length = u64::try_from(block.len()).unwrap_or(u64::MAX);
                    let left = self.blob.size() - self.position;
                    if length > left {
                        return Err(self.wrong_size(self.blob.size() + (length - left)));
                    }
                    self.block = block;
                    return Ok(());
                }
                Err(error) => error,
            };
            self.body = None;
            if self.position - self.failed_at >= PROGRESS {
                self.backoff.reset(self.client.retries());
            }
            self.failed_at = self.position;
            if !self.backoff.wait_after_interruption(&error) {
                return Err(error);
            }
        }
    }

    /// Makes sure that nothing follows the last byte.
    fn finish(&mut self) -> Result<()> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        if body.is_exact {
            return Ok(());
        }
        match body.reader.next_block() {
            Ok(Some(more)) => {
                let more = u64::try_from(more.len()).unwrap_or(u64::MAX);
                Err(self.wrong_size(self.blob.size().saturating_add(more)))
            }
            // Everything has arrived; how the connection ends is not our concern.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn unknown(&self, registry: &str) -> Error {
        Error::UnknownBlob { name: registry.to_owned(), digest: self.blob.digest().clone() }
    }

    fn refused(&self, problem: &str) -> Error {
        let what = format!("blob {}", short(&self.blob));
        Error::Document { what, problem: problem.to_owned() }
    }

    fn wrong_size(&self, found: u64) -> Error {
        let what = format!("blob {}", short(&self.blob));
        Error::SizeMismatch { what, expected: self.blob.size(), found }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.block.is_empty() {
            if self.position == self.blob.size() {
                self.finish()?;
                return Ok(0);
            }
            self.fill()?;
        }
        let length = self.block.len().min(buffer.len());
        if let Some(start) = buffer.get_mut(..length) {
            self.block.copy_to_slice(start);
        }
        self.position += u64::try_from(length).unwrap_or_default();
        Ok(length)
    }
}

/// The next bytes that count. An end before the promised size is a broken connection.
fn next_block(body: &mut Body, doing: &str) -> Result<Bytes> {
    loop {
        let Some(mut block) = body.reader.next_block()? else {
            let doing = doing.to_owned();
            return Err(Error::Transfer { doing, source: "the answer ended early".into() });
        };
        let unwanted = usize::try_from(body.skip).map_or(block.len(), |skip| skip.min(block.len()));
        block.advance(unwanted);
        body.skip -= u64::try_from(unwanted).unwrap_or_default();
        if !block.is_empty() {
            return Ok(block);
        }
    }
}

/// `Content-Range: bytes 100-199/200` must be exactly what we asked for.
fn starts_at(answer: &Response, position: u64, size: u64) -> bool {
    let exact = format!("bytes {position}-{}/{size}", size.saturating_sub(1));
    let without_size = format!("bytes {position}-{}/*", size.saturating_sub(1));
    let found = answer.header(header::CONTENT_RANGE);
    found.is_some_and(|found| found == exact || found == without_size)
}

/// The first digits of a digest, as everybody shows them.
fn short(blob: &Descriptor) -> &str {
    blob.digest().digest().get(..12).unwrap_or_default()
}
