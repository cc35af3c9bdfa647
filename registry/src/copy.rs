//! From one place to another without unpacking: documents keep their bytes, blobs are piped through.

use oci_spec::image::Descriptor;

use crate::{
    Client, Error, Platform, Raw, Reference, Result, Source,
    manifest::{self, Document},
    push::{Destination, Progress, Push},
    v1,
};

/// How to copy.
pub struct Copy<'a> {
    /// One variant of an image for several platforms; `None` copies all of them and their index.
    pub platform: Option<Platform>,
    /// Told about every blob, from several threads.
    pub progress: &'a (dyn Fn(&Descriptor, Progress) + Sync),
    /// Blobs sent at the same time.
    pub parallel: usize,
}

impl Default for Copy<'_> {
    fn default() -> Self {
        Self { platform: None, progress: &|_, _| {}, parallel: 3 }
    }
}

/// Copies an image, and returns the digest it has at both ends.
///
/// Two clients, because the two ends may need different logins; they may be the same.
pub fn copy(
    (from_client, from): (&Client, &Source),
    (to_client, to): (&Client, &Source),
    options: &Copy<'_>,
) -> Result<oci_spec::image::Digest> {
    // Without digests there is nothing to copy byte for byte: such an image is made anew first.
    let platform = options.platform.clone().unwrap_or_default();
    let from = match from {
        Source::V1Static { .. } => from_client.resolve(from, &platform)?.source,
        Source::Registry(_) if from_client.insists_on_v1() => {
            from_client.resolve(from, &platform)?.source
        }
        _ => old_or_itself(from_client, from, &platform)?,
    };
    let from = &from;
    let mount_from: Vec<Reference> = match from {
        Source::Registry(reference) => vec![from_client.settled(reference)],
        _ => Vec::new(),
    };
    let blobs = |blob: &Descriptor, offset: u64| {
        from_client.blob(from, blob, offset).map_err(crate::Cause::from)
    };
    let push = Push {
        progress: options.progress,
        mount_from: &mount_from,
        parallel: options.parallel,
        ..Push::new(&blobs)
    };
    let to_v1 = |name: &Reference| {
        let image = from_client.resolve(from, &platform)?;
        v1::push(to_client, name, &image.manifest, &push)?;
        Ok(image.manifest.digest)
    };
    match to {
        Source::V1Static { place, name } => {
            let image = from_client.resolve(from, &platform)?;
            v1::export(place, name, &image.manifest, &push)?;
            Ok(image.manifest.digest)
        }
        Source::Registry(name) if to_client.insists_on_v1() => to_v1(name),
        Source::Registry(name) => {
            match copy_documents((from_client, from), (to_client, to), options, &push) {
                Err(error) if to_client.should_be_v1(name, &error) => to_v1(name),
                other => other,
            }
        }
        _ => copy_documents((from_client, from), (to_client, to), options, &push),
    }
}

/// The place to copy from: the image itself, or a new one made of an old one.
fn old_or_itself(client: &Client, from: &Source, platform: &Platform) -> Result<Source> {
    match (client.document(from, None), from) {
        (Ok(Document::Schema1(_)), _) => Ok(client.resolve(from, platform)?.source),
        (Ok(_), _) => Ok(from.clone()),
        (Err(error), Source::Registry(name)) if client.should_be_v1(name, &error) => {
            Ok(client.resolve(from, platform)?.source)
        }
        (Err(error), _) => Err(error),
    }
}

fn copy_documents(
    (client, from): (&Client, &Source),
    (to_client, to): (&Client, &Source),
    options: &Copy<'_>,
    push: &Push<'_>,
) -> Result<oci_spec::image::Digest> {
    let to = Destination::open(to_client, to, push)?;
    let mut copying = Copying { client, from, push, to };
    let top = client.document(from, None)?;
    let digest = copying.top(top, options.platform.as_ref())?;
    copying.to.finish()?;
    Ok(digest)
}

struct Copying<'a> {
    client: &'a Client,
    from: &'a Source,
    push: &'a Push<'a>,
    to: Destination,
}

impl Copying<'_> {
    fn top(
        &mut self,
        document: Document,
        platform: Option<&Platform>,
    ) -> Result<oci_spec::image::Digest> {
        let names: Vec<String> = self.to.name().into_iter().collect();
        let what = self.from.to_string();
        let mut document = document;
        if let Some(platform) = platform {
            let fetch = |entry: &Descriptor| self.client.document(self.from, Some(entry));
            let found = crate::resolve::descend(document, platform, &what, fetch)?;
            document = found.leaf.into();
        }
        let (bytes, media_type) = self.everything_below(&document, 0)?;
        self.to.put_document(&bytes, &media_type, &names)?;
        Ok(crate::digest_of(&bytes))
    }

    /// Sends all that a document refers to, and returns what the document itself is.
    fn everything_below(&mut self, document: &Document, depth: u32) -> Result<(Vec<u8>, String)> {
        match document {
            Document::Manifest(manifest) => {
                self.to.put_image(manifest, self.push)?;
                Ok((manifest.bytes.clone(), manifest.media_type.to_string()))
            }
            Document::Index(index) => {
                if depth > 4 {
                    return Err(self.refuse("its indexes are nested too deeply"));
                }
                self.entries(index, depth)?;
                Ok((index.bytes.clone(), index.media_type.to_string()))
            }
            Document::Schema1(_) => Err(self.refuse("an index refers to a manifest of schema 1")),
        }
    }

    fn entries(&mut self, index: &Raw<oci_spec::image::ImageIndex>, depth: u32) -> Result<()> {
        for entry in index.manifests() {
            if !manifest::is_readable(entry) {
                return Err(self.refuse("it refers to something that is neither image nor index"));
            }
            let inner = self.client.document(self.from, Some(entry))?;
            let (bytes, media_type) = self.everything_below(&inner, depth + 1)?;
            self.to.put_inner_document(&bytes, &media_type)?;
        }
        Ok(())
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Document { what: self.from.to_string(), problem: problem.to_owned() }
    }
}
