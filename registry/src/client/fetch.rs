//! From a name in a registry to an image's documents.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest};

use super::{
    Client,
    host::{Call, Host},
    lock, tags,
};
use crate::{
    Error, Image, Platform, Raw, Reference, Result, Source,
    blob::Blob,
    manifest::{self, ACCEPT, Document, MAX_DOCUMENT},
    registries::Endpoint,
    resolve::{self, Leaf},
    schema1::{self, Schema1},
    transport::{HeaderMap, HeaderValue, Method, Response, header},
};

/// A document, and the media type that HTTP gave it.
struct Fetched {
    bytes: Vec<u8>,
    media_type: Option<String>,
}

impl Client {
    pub(super) fn resolve_name(&self, name: &Reference, platform: &Platform) -> Result<Image> {
        let candidates = self.settings()?.candidates(name)?;
        let image = self.first_of(&candidates, |candidate| {
            self.at_each(candidate, |host, endpoint| {
                Resolving { client: self, host, endpoint, name: candidate }.image(platform)
            })
        })?;
        if let Some(found) = image.reference() {
            lock(&self.shared.settled).insert(name.clone(), found.clone());
        }
        Ok(image)
    }
}

impl Client {
    /// The document that a name or, below it, a descriptor stands for, as its bytes.
    pub fn document(&self, source: &Source, entry: Option<&Descriptor>) -> Result<Document> {
        let what = source.to_string();
        let Source::Registry(name) = source else {
            let local = self.local(source)?;
            return entry.map_or_else(|| local.top(&what), |entry| local.document(entry, &what));
        };
        let candidates = self.settings()?.candidates(&self.settled(name))?;
        let (found, document) = self.first_of(&candidates, |candidate| {
            self.at_each(candidate, |host, endpoint| {
                let resolving = Resolving { client: self, host, endpoint, name: candidate };
                let document = match entry {
                    None => resolving.top()?,
                    Some(entry) => resolving.entry(entry)?,
                };
                Ok((candidate.clone(), document))
            })
        })?;
        lock(&self.shared.settled).insert(name.clone(), found);
        Ok(document)
    }
}

struct Resolving<'a> {
    client: &'a Client,
    host: &'a Arc<Host>,
    endpoint: &'a Endpoint,
    name: &'a Reference,
}

impl Resolving<'_> {
    fn image(&self, platform: &Platform) -> Result<Image> {
        let what = self.name.familiar();
        let top = self.top()?;
        let found = resolve::descend(top, platform, &what, |entry| self.entry(entry))?;
        match found.leaf {
            Leaf::Schema1(bytes) => self.schema1(schema1::parse(&bytes, &what)?),
            Leaf::Manifest(leaf) => {
                manifest::check_is_image(&leaf, &what)?;
                let config = self.config(leaf.config())?;
                let layers = manifest::layers(&leaf, &config, &what)?;
                let digest = found.digest.unwrap_or_else(|| leaf.digest.clone());
                let source = Source::Registry(self.name.clone());
                Ok(Image { source, digest, manifest: leaf, config, layers, index: found.index })
            }
        }
    }

    fn top(&self) -> Result<Document> {
        let what = self.name.familiar();
        let fetched = self.fetch(&self.name.tag_or_digest())?;
        let declared: Vec<&str> = fetched.media_type.as_deref().into_iter().collect();
        let top = manifest::parse(fetched.bytes, &declared, &what)?;
        if let Some(digest) = self.name.digest() {
            resolve::verify(&top, digest, &what)?;
        }
        Ok(top)
    }

    fn entry(&self, entry: &Descriptor) -> Result<Document> {
        let what = self.name.familiar();
        let fetched = self.fetch(entry.digest().as_ref())?;
        resolve::read(fetched.bytes, entry, fetched.media_type.as_deref(), &what)
    }

    fn schema1(&self, document: Schema1) -> Result<Image> {
        let what = self.name.familiar();
        let sizes: Vec<u64> =
            document.blobs.iter().map(|blob| self.blob_size(blob)).collect::<Result<_>>()?;
        document.into_image(Source::Registry(self.name.clone()), &sizes, &what)
    }

    fn fetch(&self, tag_or_digest: &str) -> Result<Fetched> {
        let doing = format!("pull {}", self.name.familiar());
        let path = format!("/v2/{}/manifests/{tag_or_digest}", self.endpoint.repository);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        let answer = self.send(Method::GET, &path, headers, &doing, &[404])?;
        if answer.status() == 404 {
            drop(answer);
            return Err(self.missing());
        }
        let media_type = answer.header(header::CONTENT_TYPE);
        let media_type = media_type
            .and_then(|text| text.split(';').next())
            .map(|text| text.trim().to_ascii_lowercase());
        let bytes = answer.read_all(MAX_DOCUMENT)?;
        Ok(Fetched { bytes, media_type })
    }

    /// Tells an unknown tag from an unknown name.
    fn missing(&self) -> Error {
        let name = self.name.name();
        let Some(tag) = self.name.tag().filter(|_| self.name.digest().is_none()) else {
            return Error::UnknownName { name: self.name.to_string() };
        };
        match tags::list(self.host, &self.endpoint.repository) {
            Ok(tags) => {
                let nearest = tags::nearest(tag, &tags);
                Error::UnknownTag { name, tag: tag.to_owned(), nearest }
            }
            Err(_) => Error::UnknownName { name },
        }
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Raw<oci_spec::image::ImageConfiguration>> {
        let what = self.name.familiar();
        let endpoints = vec![self.endpoint.clone()];
        let mut blob = Blob::open(self.client.clone(), endpoints, descriptor, 0)?;
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Transfer { doing: format!("pull {what}"), source: source.into() },
        })?;
        manifest::config(bytes, descriptor, &what)
    }

    fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let doing = format!("ask for the size of blob {digest}");
        let path = format!("/v2/{}/blobs/{digest}", self.endpoint.repository);
        let answer = self.send(Method::HEAD, &path, HeaderMap::new(), &doing, &[404])?;
        let length = answer.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        match (answer.status(), length) {
            (404, _) => Err(Error::UnknownBlob { name: self.name.name(), digest: digest.clone() }),
            (_, Some(length)) => Ok(length),
            (_, None) => Err(Error::Document {
                what: format!("blob {digest}"),
                problem: "the registry does not tell its size".to_owned(),
            }),
        }
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        doing: &str,
        expected: &[u16],
    ) -> Result<Response> {
        self.host.send(&Call {
            method,
            path,
            headers,
            body: Bytes::new(),
            repository: &self.endpoint.repository,
            scope: &format!("repository:{}:pull", self.endpoint.repository),
            doing,
            expected,
            patience: None,
        })
    }
}
