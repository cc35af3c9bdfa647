//! The local store as a read-only registry: the glue between `rootfs` and `registry`'s server.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use oci_spec::image::Digest;
use registry::{Images, Reference, ServedBlob};
use rootfs::{Store, StoredImage};

use crate::{
    images::{self, Access, Policy, Wanted},
    outgoing::{At, Outgoing},
    progress::{Mode, Progress},
    report,
};

/// What is served.
pub(crate) struct Served {
    store: Store,
    access: Access,
    /// `--upstream`: what is not here is pulled from there.
    upstream: Option<String>,
    /// One pull at a time: the second request for an image waits for the first, and finds it.
    pulling: Mutex<()>,
    /// Images whose compressed layers were dropped, as they are served, by the digest of their manifest.
    made: Mutex<HashMap<Digest, Arc<Outgoing>>>,
}

impl Served {
    /// The images of a store.
    pub(crate) fn new(store: Store, access: Access, upstream: Option<String>) -> Self {
        Self { store, access, upstream, pulling: Mutex::new(()), made: Mutex::default() }
    }

    /// The stored names that a request for a repository may mean, with their references.
    fn names(&self, repository: &str) -> io::Result<Vec<(Reference, String)>> {
        let names = self.store.images().map_err(io::Error::other)?;
        let names = names.into_iter().filter_map(|image| image.name);
        let parsed = names.filter_map(|name| Some((name.parse::<Reference>().ok()?, name)));
        Ok(parsed
            .filter(|(reference, _)| paths(reference).any(|path| path == repository))
            .collect())
    }

    fn images(&self, repository: &str) -> io::Result<Vec<StoredImage>> {
        let names = self.names(repository)?;
        Ok(names.iter().filter_map(|(_, name)| self.store.image(name).ok()).collect())
    }

    fn find(&self, repository: &str, reference: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        if let Ok(digest) = reference.parse::<Digest>() {
            for image in self.images(repository)? {
                if image.manifest == digest {
                    return original(&image).map(Some);
                }
                if let Some(made) = self.made(&image)?
                    && made.manifest.digest == digest
                {
                    return Ok(Some(document(&made)));
                }
                if image.index.as_ref() == Some(&digest) {
                    return index(&image);
                }
            }
            return Ok(None);
        }
        for (name, stored) in self.names(repository)? {
            if name.tag() == Some(reference)
                && let Ok(image) = self.store.image(&stored)
            {
                return match self.made(&image)? {
                    Some(made) => Ok(Some(document(&made))),
                    None => original(&image).map(Some),
                };
            }
        }
        Ok(None)
    }

    /// An image with its compressed layers made again, if some were dropped.
    fn made(&self, image: &StoredImage) -> io::Result<Option<Arc<Outgoing>>> {
        let has_blob = |layer: &rootfs::StoredLayer| self.store.blob(layer.blob.digest()).is_ok();
        if image.layers.iter().all(has_blob) {
            return Ok(None);
        }
        // Held while compressing: two requests for one image must not do the work twice.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&image.manifest) {
            return Ok(Some(known.clone()));
        }
        let silent = Progress::new(Mode::None, true);
        let new = Outgoing::new(&self.store, image, None, &silent).map_err(io::Error::other)?;
        let new = Arc::new(new);
        made.insert(image.manifest.clone(), new.clone());
        Ok(Some(new))
    }

    /// Pulls what was asked for, if there is somewhere to pull it from.
    fn pull(&self, repository: &str, reference: &str) -> io::Result<bool> {
        let Some(upstream) = &self.upstream else { return Ok(false) };
        let separator = if reference.contains(':') { '@' } else { ':' };
        let name = format!("{upstream}/{repository}{separator}{reference}");
        let Ok(source) = name.parse() else { return Ok(false) };
        let Ok(_one_at_a_time) = self.pulling.lock() else { return Ok(false) };
        if self.find(repository, reference)?.is_some() {
            return Ok(true);
        }
        let wanted =
            Wanted { source, platform: None, policy: Policy::Missing, access: &self.access };
        match images::ensure(&self.store, &name, &wanted, &Progress::new(Mode::None, true)) {
            Ok(_) => Ok(true),
            Err(error) => {
                report::warn(&error);
                Ok(false)
            }
        }
    }
}

impl Images for Served {
    fn repositories(&self) -> io::Result<Vec<String>> {
        let names = self.store.images().map_err(io::Error::other)?;
        let names = names.into_iter().filter_map(|image| image.name);
        let parsed = names.filter_map(|name| name.parse::<Reference>().ok());
        let mut repositories: Vec<String> =
            parsed.map(|reference| reference.repository().to_owned()).collect();
        repositories.sort();
        repositories.dedup();
        Ok(repositories)
    }

    fn tags(&self, repository: &str) -> io::Result<Option<Vec<String>>> {
        let names = self.names(repository)?;
        if names.is_empty() {
            return Ok(None);
        }
        let mut tags: Vec<String> =
            names.iter().filter_map(|(name, _)| name.tag().map(str::to_owned)).collect();
        tags.sort();
        tags.dedup();
        Ok(Some(tags))
    }

    fn manifest(&self, repository: &str, reference: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        match self.find(repository, reference)? {
            Some(found) => Ok(Some(found)),
            None if self.pull(repository, reference)? => self.find(repository, reference),
            None => Ok(None),
        }
    }

    fn blob(&self, repository: &str, digest: &Digest) -> io::Result<Option<ServedBlob>> {
        for image in self.images(repository)? {
            if let Some(made) = self.made(&image)?
                && let Some(file) = made.made(digest)
            {
                let size = file.metadata()?.len();
                let open = Box::new(move |offset| -> io::Result<Box<dyn io::Read + Send>> {
                    Ok(Box::new(At { file, offset }))
                });
                return Ok(Some(ServedBlob::Stream { size, open }));
            }
            let is_layer = image.layers.iter().any(|layer| layer.blob.digest() == digest);
            if image.id != *digest && !is_layer {
                continue;
            }
            return match self.store.blob(digest) {
                Ok(file) => Ok(Some(ServedBlob::File(file))),
                // Dropped after unpacking: the files remain, these very bytes do not.
                Err(rootfs::Error::NoBlob(_)) => Ok(None),
                Err(error) => Err(io::Error::other(error)),
            };
        }
        Ok(None)
    }
}

/// Paths under which a name is served: what a mirror's clients ask for, what people type, and the whole.
fn paths(reference: &Reference) -> impl Iterator<Item = String> {
    let repository = reference.repository().to_owned();
    let short = repository.strip_prefix("library/").map(str::to_owned);
    [Some(repository), short, Some(reference.name())].into_iter().flatten()
}

fn document(made: &Outgoing) -> (Vec<u8>, String) {
    (made.manifest.bytes.clone(), made.manifest.media_type.to_string())
}

fn original(image: &StoredImage) -> io::Result<(Vec<u8>, String)> {
    let bytes = image.manifest_bytes().map_err(io::Error::other)?;
    Ok((bytes, image.manifest_media_type.clone()))
}

fn index(image: &StoredImage) -> io::Result<Option<(Vec<u8>, String)>> {
    let Some(bytes) = image.index_bytes().map_err(io::Error::other)? else { return Ok(None) };
    let document: serde_json::Value = serde_json::from_slice(&bytes)?;
    let media_type = document.get("mediaType").and_then(serde_json::Value::as_str);
    let media_type = media_type.unwrap_or("application/vnd.oci.image.index.v1+json").to_owned();
    Ok(Some((bytes, media_type)))
}
