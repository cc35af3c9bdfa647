//! One blob into one repository: skipped if it is there, mounted if a neighbour has it, else sent.

use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, ImageManifest};

use super::{
    Client,
    host::{Call, Host},
};
use crate::{
    Error, Raw, Reference, Result,
    push::{Progress, Push, read_block},
    transport::{Method, Response, Url, header},
};

const MAX_RENEWALS: u32 = 5;

/// A repository that we put things into.
pub(crate) struct Uploader {
    client: Client,
    host: Arc<Host>,
    repository: String,
    scope: String,
    /// Repositories of the same registry that may hold the same blobs.
    neighbours: Vec<String>,
    doing: String,
}

/// An upload that the registry keeps for us.
struct Session {
    url: Url,
    /// Bytes that the registry has.
    offset: u64,
}

impl Uploader {
    pub(crate) fn new(client: &Client, to: &Reference, mount_from: &[Reference]) -> Result<Self> {
        let endpoint = client.endpoints(to)?.pop();
        let endpoint = endpoint.ok_or_else(|| Error::UnknownName { name: to.name() })?;
        let is_neighbour = |from: &&Reference| {
            from.registry() == to.registry() && from.repository() != to.repository()
        };
        let mut neighbours: Vec<String> =
            mount_from.iter().filter(is_neighbour).map(|from| from.repository().into()).collect();
        neighbours.dedup();
        let mut scope = format!("repository:{}:pull,push", endpoint.repository);
        for neighbour in &neighbours {
            scope.push_str(&format!(" repository:{neighbour}:pull"));
        }
        Ok(Self {
            client: client.clone(),
            host: client.host(&endpoint),
            repository: endpoint.repository,
            scope,
            neighbours,
            doing: format!("push {}", to.familiar()),
        })
    }

    pub(crate) fn put(&self, blob: &Descriptor, push: &Push<'_>) -> Result<()> {
        if self.has(blob)? {
            (push.progress)(blob, Progress::Exists);
            return Ok(());
        }
        match self.mount(blob)? {
            None => (push.progress)(blob, Progress::Mounted),
            Some(session) => {
                self.send(blob, session, push)?;
                (push.progress)(blob, Progress::Done);
            }
        }
        Ok(())
    }

    /// Stores a manifest or index under a tag or its digest.
    pub(crate) fn put_document(&self, bytes: &[u8], media_type: &str, name: &str) -> Result<()> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let mut call = self.call(Method::PUT, &path).with(header::CONTENT_TYPE, media_type);
        call.body = Bytes::copy_from_slice(bytes);
        call.patience = Some(self.client.finish());
        let answer = self.host.send(&call)?;
        let digest = crate::digest_of(bytes);
        match answer.headers().get("docker-content-digest").and_then(|it| it.to_str().ok()) {
            Some(found) if found.starts_with("sha256:") && found != digest.as_ref() => {
                let found = crate::parse_digest(found)?;
                let what = format!("the manifest that {} stored", self.host.registry());
                Err(Error::DigestMismatch { what, expected: digest, found })
            }
            _ => Ok(()),
        }
    }

    fn has(&self, blob: &Descriptor) -> Result<bool> {
        let path = format!("/v2/{}/blobs/{}", self.repository, blob.digest());
        let mut call = self.call(Method::HEAD, &path);
        call.expected = &[404];
        let answer = self.host.send(&call)?;
        let length = answer.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        // A proxy may hide the length; a wrong one is another blob, or a broken one.
        Ok(answer.status() != 404 && length.is_none_or(|length: u64| length == blob.size()))
    }

    /// Asks for the blob from a neighbour; `None` when that worked, else a session to send it.
    fn mount(&self, blob: &Descriptor) -> Result<Option<Session>> {
        for neighbour in &self.neighbours {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("mount", blob.digest().as_ref()).append_pair("from", neighbour);
            let path = format!("/v2/{}/blobs/uploads/?{}", self.repository, query.finish());
            let answer = self.host.send(&self.call(Method::POST, &path))?;
            if answer.status() == 201 {
                return Ok(None);
            }
            let session = self.session(&answer)?;
            if neighbour == self.neighbours.last().unwrap_or(neighbour) {
                return Ok(Some(session));
            }
            self.abandon(&session);
        }
        self.begin().map(Some)
    }

    fn begin(&self) -> Result<Session> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        self.session(&self.host.send(&self.call(Method::POST, &path))?)
    }

    fn session(&self, answer: &Response) -> Result<Session> {
        Ok(Session { url: self.host.location(answer)?, offset: 0 })
    }

    fn abandon(&self, session: &Session) {
        // The registry forgets it by itself after some days.
        let _ = self.host.send_once(&self.call(Method::DELETE, session.url.as_str()));
    }

    /// Sends everything and has it stored, over as many connections as that takes.
    fn send(&self, blob: &Descriptor, mut session: Session, push: &Push<'_>) -> Result<()> {
        let mut backoff = self.host.backoff();
        loop {
            let before = session.offset;
            let error = match self.send_rest(blob, &mut session, push) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if session.offset > before {
                backoff.reset(self.client.retries());
            }
            if !backoff.wait_after_interruption(&error) {
                self.abandon(&session);
                return Err(error);
            }
            session = match self.ask(&session)? {
                Some(session) => session,
                None => self.begin()?,
            };
        }
    }

    fn send_rest(&self, blob: &Descriptor, session: &mut Session, push: &Push<'_>) -> Result<()> {
        let failed = |source| Error::Transfer {
            doing: format!("open blob {} to push it", blob.digest()),
            source,
        };
        let mut renewals = 0;
        while session.offset < blob.size() {
            let start = session.offset;
            let left = blob.size() - start;
            let length = push.chunk.map_or(left, |chunk| left.min(chunk.max(1)));
            let mut reader = (push.blobs)(blob, start).map_err(failed)?;
            let mut sent = start;
            let end = start + length;
            let mut produce = || {
                let block = read_block(&mut *reader, end - sent, blob)?;
                sent += u64::try_from(block.as_ref().map_or(0, Bytes::len)).unwrap_or_default();
                (push.progress)(blob, Progress::Sent(sent));
                Ok(block)
            };
            let url = session.url.to_string();
            let mut call = self
                .call(Method::PATCH, &url)
                .with(header::CONTENT_TYPE, "application/octet-stream");
            if start > 0 || length < left {
                // Absent from an upload in one piece, as docker sends it and everybody understands.
                call = call.with(header::CONTENT_RANGE, &format!("{start}-{}", end - 1));
            }
            call.expected = &[416];
            let Some(answer) = self.host.upload_once(&call, length, &mut produce)? else {
                // Other uploads use up the same token, so one renewal may not be enough.
                renewals += 1;
                if renewals > MAX_RENEWALS {
                    let (doing, source) = (self.doing.clone(), "no token is accepted".into());
                    return Err(Error::Transfer { doing, source });
                }
                continue;
            };
            renewals = 0;
            if !(200..300).contains(&answer.status()) {
                let (doing, source) = (self.doing.clone(), "the registry lost track".into());
                return Err(Error::Transfer { doing, source });
            }
            session.url = self.host.location(&answer)?;
            session.offset = end;
        }
        self.finish(blob.digest(), session)
    }

    fn finish(&self, digest: &Digest, session: &Session) -> Result<()> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_ref());
        let mut call = self.call(Method::PUT, url.as_str());
        call.patience = Some(self.client.finish());
        self.host.send_once(&call).map(drop)
    }

    /// How much of an upload the registry has; `None` when it has forgotten it.
    fn ask(&self, session: &Session) -> Result<Option<Session>> {
        let mut call = self.call(Method::GET, session.url.as_str());
        call.expected = &[400, 404];
        let answer = self.host.send(&call)?;
        if answer.status() >= 400 {
            return Ok(None);
        }
        let range = answer.header(header::RANGE).unwrap_or_default();
        let last = range.trim_start_matches("bytes=").split_once('-').map(|(_, last)| last.trim());
        let offset = match last.and_then(|last| last.parse::<u64>().ok()) {
            // Both nothing and one byte are written `0-0`.
            None | Some(0) => 0,
            Some(last) => last.saturating_add(1),
        };
        let url = match answer.header(header::LOCATION) {
            Some(_) => self.host.location(&answer)?,
            None => session.url.clone(),
        };
        Ok(Some(Session { url, offset }))
    }

    fn call<'a>(&'a self, method: Method, path: &'a str) -> Call<'a> {
        let mut call = Call::new(method, path, &self.doing);
        (call.repository, call.scope) = (&self.repository, &self.scope);
        call
    }
}

/// What a manifest needs to have around before it can be stored.
pub(crate) fn blobs_of(manifest: &Raw<ImageManifest>) -> Vec<Descriptor> {
    let mut blobs: Vec<Descriptor> = Vec::new();
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        if !blobs.iter().any(|known| known.digest() == blob.digest()) {
            blobs.push(blob.clone());
        }
    }
    blobs
}
