//! `certs.d`: authorities and client certificates per registry, as docker and podman keep them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{Error, Result};

/// What one registry's directory holds.
#[derive(Default, Debug)]
pub(crate) struct Certificates {
    /// Trusted besides the system's.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// How we show who we are.
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Finds the directory of a registry, `host:port` or `host`.
pub(crate) fn directory(roots: &[PathBuf], registry: &str) -> Option<PathBuf> {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    roots.iter().flat_map(|root| [root.join(registry), root.join(host)]).find(|path| path.is_dir())
}

pub(crate) fn load(directory: &Path) -> Result<Certificates> {
    let mut found = Certificates::default();
    for path in files(directory)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => found.authorities.extend(certificates(&path)?),
            Some("cert") => {
                let key_path = path.with_extension("key");
                let key = PrivateKeyDer::from_pem_file(&key_path).map_err(wrong(&key_path))?;
                found.identity = Some((certificates(&path)?, key));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source: io::Error| Error::File { doing: "list", path: directory.into(), source };
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    files.sort();
    Ok(files)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(wrong(path))?;
    certificates.collect::<Result<_, _>>().map_err(wrong(path))
}

fn wrong<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error + '_ {
    |error| Error::Configuration { path: path.into(), problem: error.to_string() }
}
