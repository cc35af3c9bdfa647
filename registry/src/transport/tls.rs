//! What TLS trusts: the system's authorities, a registry's own, or, when told so, anybody.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::Trust;
use crate::{
    Error, Result,
    certificates::{self, Certificates},
};

/// Reads the system's trust store once, when the first HTTPS request needs it.
#[derive(Default)]
pub(super) struct Tls {
    system: Mutex<Option<Arc<RootCertStore>>>,
}

impl Tls {
    pub(super) fn config(&self, trust: &Trust) -> Result<ClientConfig> {
        let own = trust.certificates.as_deref().map(certificates::load).transpose()?;
        let own = own.unwrap_or_default();
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = if trust.verify && own.authorities.is_empty() {
            builder.with_root_certificates(self.roots(&own)?)
        } else if trust.verify {
            let usual = WebPkiServerVerifier::builder_with_provider(self.roots(&own)?, provider)
                .build()
                .map_err(|error| Error::Tls {
                    host: "any host".to_owned(),
                    source: error.into(),
                })?;
            let verifier = Arc::new(OrKnown { usual, known: own.authorities.clone() });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let verifier = Arc::new(AcceptAny(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        };
        // reqwest sets the protocols to negotiate.
        match own.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(unusable),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self, own: &Certificates) -> Result<Arc<RootCertStore>> {
        let system = self.system();
        if own.authorities.is_empty() {
            return Ok(system);
        }
        let mut roots = RootCertStore::clone(&system);
        for authority in &own.authorities {
            roots.add(authority.clone()).map_err(unusable)?;
        }
        Ok(Arc::new(roots))
    }

    fn system(&self) -> Arc<RootCertStore> {
        let mut slot = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                log::warn!("trust store: {error}");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            Arc::new(roots)
        })
        .clone()
    }
}

/// For clients that will not speak TLS: costs nothing and trusts nobody.
pub(super) fn unused() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn unusable(error: rustls::Error) -> Error {
    Error::Tls { host: "any host".to_owned(), source: error.into() }
}

/// Accepts what the authorities vouch for, and a server that shows the very certificate the user put into
/// `certs.d`: `openssl req -x509` makes certificates that are their own authority, which the usual rules refuse
/// and everybody else's tools accept.
#[derive(Debug)]
struct OrKnown {
    usual: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrKnown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = &self.usual;
        match usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.known.contains(end_entity) =>
            {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// `--tls-verify=false`: the connection is encrypted, towards whom is unknown.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
