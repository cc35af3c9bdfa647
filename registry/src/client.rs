//! What a caller can ask of a registry, or of files that hold an image.

pub(crate) mod backoff;
mod convert;
mod download;
mod fetch;
pub(crate) mod host;
mod login;
mod refusal;
mod search;
mod tags;
pub(crate) mod upload;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oci_spec::image::Descriptor;

use crate::{
    Error, Image, Options, Platform, Reference, Result, Source,
    blob::Blob,
    local::{self, Local},
    options::Protocol,
    registries::{Endpoint, Settings},
    transport::Transport,
    v1,
};
use host::Host;
pub use search::Found;
pub(crate) use tags::nearest as nearest_tags;

/// Fetches images. Cheap to make and to clone; all clones share connections, tokens and one network thread,
/// which starts with the first request and has ended when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<Options>,
    transport: Arc<Transport>,
    settings: Mutex<Option<Arc<Settings>>>,
    hosts: Mutex<HashMap<(String, bool, bool), Arc<Host>>>,
    /// What short names turned out to mean, so that blobs come from where the manifest came from.
    settled: Mutex<HashMap<Reference, Reference>>,
    /// Layouts made of old images.
    scratch: Mutex<Vec<convert::Scratch>>,
    /// Files that were opened and understood.
    locals: Mutex<HashMap<Source, Arc<Local>>>,
}

impl Client {
    /// Reads no file and starts no thread.
    pub fn new(options: Options) -> Result<Self> {
        let transport = Arc::new(Transport::new(&options));
        let shared = Shared {
            options: Arc::new(options),
            transport,
            settings: Mutex::default(),
            hosts: Mutex::default(),
            settled: Mutex::default(),
            scratch: Mutex::default(),
            locals: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Finds an image and everything about it except its layers' bytes.
    ///
    /// Every document is checked against the digest and size that promised it.
    pub fn resolve(&self, source: &Source, platform: &Platform) -> Result<Image> {
        match source {
            Source::Registry(name) => self.resolve_registry(name, platform),
            Source::V1Static { place, name } => self.resolve_v1_static(place, name, platform),
            _ => self.local(source)?.resolve(source, platform),
        }
    }

    fn resolve_registry(&self, name: &Reference, platform: &Platform) -> Result<Image> {
        if self.shared.options.protocol == Protocol::V1 {
            return self.resolve_v1(name, platform);
        }
        match self.resolve_name(name, platform) {
            Ok(image) if image.is_complete() => Ok(image),
            Ok(image) => self.complete(image, platform),
            Err(error) if self.should_be_v1(name, &error) => self.resolve_v1(name, platform),
            Err(error) => Err(error),
        }
    }

    /// Whether an error comes from asking a registry of 2013 in a language it cannot know.
    pub(crate) fn should_be_v1(&self, name: &Reference, error: &Error) -> bool {
        let is_likely = matches!(
            error,
            Error::UnknownName { .. }
                | Error::UnknownTag { .. }
                | Error::Status { status: 404, .. }
        );
        is_likely
            && self.shared.options.protocol == Protocol::Any
            && v1::is_spoken(self, name).unwrap_or(false)
    }

    /// Whether the caller insists on the protocol of 2013.
    pub(crate) fn insists_on_v1(&self) -> bool {
        self.shared.options.protocol == Protocol::V1
    }

    /// Opens a blob for reading from `offset` on.
    ///
    /// The reader delivers exactly the bytes up to the descriptor's size or fails. Broken connections are
    /// resumed inside. It does not compute the digest: whoever stores the bytes reads them anyway. Errors of
    /// the reader are [`Error`]s inside of `std::io::Error`.
    pub fn blob(
        &self,
        source: &Source,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        if offset > blob.size() {
            let what = format!("blob {}", blob.digest());
            return Err(Error::SizeMismatch { what, expected: blob.size(), found: offset });
        }
        match source {
            Source::Registry(reference) => {
                let endpoints = self.endpoints(&self.settled(reference))?;
                Ok(Box::new(Blob::open(self.clone(), endpoints, blob, offset)?))
            }
            _ => self.local(source)?.blob(blob, offset),
        }
    }

    /// The images in an archive, whichever of the two formats it has: each as a source of its own.
    pub fn images_in(&self, archive: &std::path::Path) -> Result<Vec<Source>> {
        local::images_in(archive, &self.shared.options.scratch)
    }

    /// The tags of a repository, as the registry sorts them.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let reference = self.settled(reference);
        let candidates = self.settings()?.candidates(&reference)?;
        self.first_of(&candidates, |candidate| {
            self.at_each(candidate, |host, endpoint| tags::list(host, &endpoint.repository))
        })
    }

    /// Where a short name led when it was resolved.
    pub(crate) fn settled(&self, reference: &Reference) -> Reference {
        lock(&self.shared.settled).get(reference).unwrap_or(reference).clone()
    }

    fn settings(&self) -> Result<Arc<Settings>> {
        let mut slot = lock(&self.shared.settings);
        if let Some(settings) = &*slot {
            return Ok(settings.clone());
        }
        let settings = Arc::new(self.shared.options.registries.load()?);
        *slot = Some(settings.clone());
        Ok(settings)
    }

    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        self.settings()?.endpoints(reference)
    }

    pub(crate) fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        let key = (endpoint.registry.clone(), endpoint.insecure, endpoint.is_mirror);
        let make = || {
            // A login given on the command line is for the registry that was named there.
            let given = self.shared.options.credentials.given.clone();
            Arc::new(Host::new(
                &endpoint.registry,
                endpoint.insecure,
                given.filter(|_| !endpoint.is_mirror),
                self.shared.transport.clone(),
                self.shared.options.clone(),
            ))
        };
        lock(&self.shared.hosts).entry(key).or_insert_with(make).clone()
    }

    pub(crate) fn retries(&self) -> u32 {
        self.shared.options.retries
    }

    /// How long a registry may take to store what it was sent.
    pub(crate) fn finish(&self) -> Duration {
        self.shared.options.timeouts.finish
    }

    fn local(&self, source: &Source) -> Result<Arc<Local>> {
        let mut locals = lock(&self.shared.locals);
        if let Some(local) = locals.get(source) {
            return Ok(local.clone());
        }
        let local = Arc::new(Local::open(source, &self.shared.options.scratch)?);
        locals.insert(source.clone(), local.clone());
        Ok(local)
    }

    /// Tries the registries a short name may mean; the first that has it wins.
    fn first_of<T>(
        &self,
        candidates: &[Reference],
        ask: impl Fn(&Reference) -> Result<T>,
    ) -> Result<T> {
        let mut last = None;
        for candidate in candidates {
            match ask(candidate) {
                Err(error @ (Error::UnknownName { .. } | Error::UnknownTag { .. })) => {
                    last = Some(error);
                }
                other => return other,
            }
        }
        Err(last.unwrap_or(Error::BadReference {
            text: String::new(),
            problem: "no registry may be searched for it",
            hint: None,
        }))
    }

    /// Tries the mirrors of a registry, then the registry itself, whose error counts.
    fn at_each<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Arc<Host>, &Endpoint) -> Result<T>,
    ) -> Result<T> {
        let endpoints = self.endpoints(reference)?;
        let Some((own, mirrors)) = endpoints.split_last() else {
            return Err(Error::UnknownName { name: reference.name() });
        };
        for mirror in mirrors {
            match ask(&self.host(mirror), mirror) {
                Ok(answer) => return Ok(answer),
                Err(error) => log::info!("mirror {}: {error}", mirror.registry),
            }
        }
        ask(&self.host(own), own)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
