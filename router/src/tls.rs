//! Certificates and keys read into rustls configurations, towards both sides.

use crate::config::{ClientTls, Server, ServerTls, Tls, TlsVersion};
use mothership_pool::endpoint::Encryption;
use mothership_pool::wire::server_end_point;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path:?}")]
pub struct TlsError {
    /// Which one.
    what: &'static str,
    /// The file.
    path: PathBuf,
    /// Why.
    #[source]
    cause: Box<dyn std::error::Error + Send + Sync>,
}

fn failed(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> TlsError {
    let path = PathBuf::from(path);
    move |cause| TlsError { what, path, cause }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || -> Result<Vec<_>, Box<dyn std::error::Error + Send + Sync>> {
        let found = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Err("no certificate in it".into());
        }
        Ok(found)
    };
    read().map_err(failed(what, path))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("certificate authorities", path)? {
        roots
            .add(certificate)
            .map_err(|e| failed("certificate authorities", path)(Box::new(e)))?;
    }
    Ok(roots)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| failed("private key", path)(Box::new(e)))
}

/// TLS as clients are offered it.
pub struct Offer {
    /// Certificate, key, versions, and whose certificates are asked for.
    pub config: Arc<ServerConfig>,
    /// Hash of the certificate for channel binding, where it is defined.
    pub certificate_hash: Option<Vec<u8>>,
}

/// What clients are offered, with the hash of our certificate for channel binding.
pub fn towards_clients(tls: &Tls) -> Result<Option<Offer>, TlsError> {
    let (
        ClientTls::Allow | ClientTls::Require | ClientTls::VerifyCa | ClientTls::VerifyFull,
        Some(certificate),
        Some(key_file),
    ) = (tls.mode, &tls.certificate, &tls.key)
    else {
        return Ok(None);
    };
    let chain = certificates("certificate", certificate)?;
    let hash = chain.first().and_then(server_end_point);
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| failed("certificate", certificate)(Box::new(e)))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
            let verifier = match tls.mode {
                ClientTls::VerifyCa | ClientTls::VerifyFull => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|e| failed("certificate authorities", path)(Box::new(e)))?,
            )
        }
    };
    let mut config = builder
        .with_single_cert(chain, key(key_file)?)
        .map_err(|e| failed("certificate", certificate)(Box::new(e)))?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(Offer {
        config: Arc::new(config),
        certificate_hash: hash,
    }))
}

/// How connections to a server are encrypted.
pub fn towards_server(server: &Server) -> Result<Encryption, TlsError> {
    if server.tls == ServerTls::Disable {
        return Ok(Encryption::Disable);
    }
    let mut config = client_config(server)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let config = Arc::new(config);
    Ok(match server.tls {
        ServerTls::Prefer => Encryption::Prefer(config),
        _ => Encryption::Require(config),
    })
}

/// How connections to a member of a replica set are encrypted, which begin with that; None if they are not.
#[cfg(feature = "mongo")]
pub fn towards_member(server: &Server) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    match server.tls {
        ServerTls::Disable | ServerTls::Prefer => Ok(None),
        _ => Ok(Some(Arc::new(client_config(server)?))),
    }
}

fn client_config(server: &Server) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions");
    let checks = match server.tls {
        ServerTls::VerifyFull => Checks::NameAndAuthority,
        ServerTls::VerifyCa => Checks::Authority,
        ServerTls::Require | ServerTls::Prefer | ServerTls::Disable => Checks::Nothing,
    };
    let verifier = CertificateCheck::new(checks, server.tls_ca.as_deref())?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match (&server.tls_certificate, &server.tls_key) {
        (Some(certificate), Some(key_file)) => builder
            .with_client_auth_cert(certificates("certificate", certificate)?, key(key_file)?)
            .map_err(|e| failed("certificate", certificate)(Box::new(e)))?,
        _ => builder.with_no_client_auth(),
    })
}

/// How connections to a service beside the servers are encrypted: it must be who its certificate says.
pub fn towards_service(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = CertificateCheck::new(Checks::NameAndAuthority, authorities)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions");
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(builder.with_no_client_auth()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    /// Encrypt, whoever it is: libpq's `require` and `prefer`.
    Nothing,
    /// Signed by a known authority: `verify-ca`.
    Authority,
    /// And for this host: `verify-full`.
    NameAndAuthority,
}

/// libpq's three ways to look at a server's certificate.
#[derive(Debug)]
struct CertificateCheck {
    checks: Checks,
    known: Option<Arc<rustls::client::WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl CertificateCheck {
    fn new(checks: Checks, authorities: Option<&Path>) -> Result<Self, TlsError> {
        let known = match checks {
            Checks::Nothing => None,
            Checks::Authority | Checks::NameAndAuthority => {
                let (roots, path) = match authorities {
                    Some(path) => (roots(path)?, path),
                    None => (system_roots(), Path::new("of the system")),
                };
                let built = rustls::client::WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider(),
                )
                .build();
                Some(built.map_err(|e| failed("certificate authorities", path)(Box::new(e)))?)
            }
        };
        Ok(Self {
            checks,
            known,
            provider: provider(),
        })
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

impl ServerCertVerifier for CertificateCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(known) = &self.known else {
            return Ok(ServerCertVerified::assertion());
        };
        use rustls::CertificateError as Bad;
        match known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is checked before the name, so only the name is wrong here.
            Err(rustls::Error::InvalidCertificate(
                Bad::NotValidForName | Bad::NotValidForNameContext { .. },
            )) if self.checks == Checks::Authority => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
