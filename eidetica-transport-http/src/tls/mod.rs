//! What the two sides prove themselves with, and whom they believe.

mod connector;
mod failure;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::Verifier;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

use crate::HttpVersion;

pub(crate) use connector::Connector;
pub(crate) use failure::{Failed, error};

const ALPN_HTTP1: &[u8] = b"http/1.1";
const ALPN_HTTP2: &[u8] = b"h2";

/// What every TLS connection begins with: the type of a handshake record (RFC 8446, section 5.1).
/// No method of HTTP does.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// What those get who speak HTTP where TLS is expected. Without it they would see a broken
/// connection, which looks as if it could heal.
const PLAIN_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 42\r\n\r\n\
    {\"error\":\"TLS is spoken here: use https\"}\n";

/// The subject of every certificate that is made here. It never changes, because a client that
/// trusts one of them trusts its subject with its key, and so a later certificate of the same key.
const SELF_SIGNED_SUBJECT: &str = "eidetica";

/// Why a certificate, a key or a list of names cannot be used: the fault of the caller.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct TlsError {
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TlsError {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
        }
    }

    fn caused_by(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }
}

/// What a server proves itself with: a certificate chain and its private key.
///
/// Cloning is cheap. The key does not show in `Debug`.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate_pem: Arc<[u8]>,
    key_pem: Arc<[u8]>,
}

impl ServerTls {
    /// Takes what an authority has signed: the chain, the server's own certificate first, and the
    /// key of that one (PKCS #8, PKCS #1 or SEC 1), both as PEM.
    ///
    /// # Errors
    /// If either is not PEM, holds nothing of the kind, or the key is not the certificate's.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates_of(certificates)?;
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            TlsError::new("the private key is not PEM, or is encrypted").caused_by(error)
        })?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config
                    .with_no_client_auth()
                    .with_single_cert(chain, private)
            });
        let mut config = config.map_err(|error| {
            TlsError::new("the certificate and the private key cannot be used together")
                .caused_by(error)
        })?;
        // The server tells the two apart by the first bytes; the names are for clients that ask.
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate_pem: certificates.into(),
            key_pem: key.into(),
        })
    }

    /// Makes a key, and a certificate that is signed with it, for these host names and IP
    /// addresses. It does not expire. Clients need [`ServerTls::certificate_pem`]: no
    /// authority vouches for it. With the key, anyone can be any host towards a client that trusts
    /// it.
    ///
    /// # Errors
    /// If a name is not valid in a certificate, or the system gives no random bytes.
    pub fn self_signed<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate()
            .map_err(|error| TlsError::new("no key could be made").caused_by(error))?;
        Self::sign(names, &key)
    }

    /// Makes a certificate like [`ServerTls::self_signed`] for a key that it made earlier. Clients
    /// that trust an earlier certificate of the key trust this one too, so names can change.
    ///
    /// # Errors
    /// As above, and if `key` is not such a key as PEM.
    pub fn self_signed_with_key<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
        key: &[u8],
    ) -> Result<Self, TlsError> {
        let unusable = || TlsError::new("the private key is not one that was made here");
        let text = std::str::from_utf8(key).map_err(|error| unusable().caused_by(error))?;
        let key = rcgen::KeyPair::from_pem(text).map_err(|error| unusable().caused_by(error))?;
        Self::sign(names, &key)
    }

    fn sign<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
        key: &rcgen::KeyPair,
    ) -> Result<Self, TlsError> {
        let names: Vec<String> = names.into_iter().map(N::into).collect();
        if names.is_empty() {
            return Err(TlsError::new(
                "a certificate needs the names under which the server is reached",
            ));
        }
        let refused = |error| {
            let names = names.join(", ");
            TlsError::new(format!("no certificate can be made for {names}")).caused_by(error)
        };
        let mut wanted = rcgen::CertificateParams::new(names.clone()).map_err(refused)?;
        wanted.distinguished_name = rcgen::DistinguishedName::new();
        wanted
            .distinguished_name
            .push(rcgen::DnType::CommonName, SELF_SIGNED_SUBJECT);
        wanted.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = wanted.self_signed(key).map_err(refused)?;
        Self::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
    }

    /// Returns the certificate chain as PEM. It is public: give it to clients that shall trust a
    /// certificate which no authority has signed.
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate_pem
    }

    /// Returns the private key as PEM. A holder of it can be this server: keep it where only the
    /// server can read it.
    pub fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }

    /// Does the server's part of the handshake. A client that does not speak TLS gets an
    /// error in plain HTTP; the result is `None`.
    pub(crate) async fn accept(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<Option<server::TlsStream<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE_RECORD {
            stream.write_all(PLAIN_REFUSAL).await?;
            stream.shutdown().await?;
            // What is not read when the connection ends would make the system throw away what the
            // caller has not received yet.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Ok(None);
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        acceptor.accept(stream).await.map(Some)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// Whose certificates a client believes. By default those that the platform trusts.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// `None`: the platform's.
    roots: Option<Arc<RootCertStore>>,
}

impl ClientTls {
    /// Believes whom the platform believes, as a browser does.
    pub fn platform() -> Self {
        Self::default()
    }

    /// Believes these certificates, given as PEM, what they have signed, and nothing else. They
    /// are those of authorities, or of servers that signed their own
    /// ([`ServerTls::certificate_pem`]).
    ///
    /// # Errors
    /// If this is not PEM, holds no certificate, or one that cannot be read.
    pub fn trusting(certificates: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates_of(certificates)? {
            roots.add(certificate).map_err(|error| {
                TlsError::new("a certificate to be trusted cannot be read").caused_by(error)
            })?;
        }
        let roots = Some(Arc::new(roots));
        Ok(Self { roots })
    }

    /// Reads the platform's certificates, if those are believed.
    fn config(&self, version: HttpVersion) -> Result<ClientConfig, TlsError> {
        let unusable = |error: rustls::Error| {
            TlsError::new(
                "the certificates that this system trusts cannot be read: \
                 name those to be trusted instead",
            )
            .caused_by(error)
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut config = match &self.roots {
            Some(roots) => config
                .with_root_certificates(Arc::clone(roots))
                .with_no_client_auth(),
            None => config
                .dangerous()
                // The name is rustls' for every verifier but its own. This one is as strict.
                .with_custom_certificate_verifier(Arc::new(
                    Verifier::new(provider()).map_err(unusable)?,
                ))
                .with_no_client_auth(),
        };
        let alpn = match version {
            HttpVersion::Http1 => ALPN_HTTP1,
            HttpVersion::Http2 => ALPN_HTTP2,
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// The cryptography. It is named here rather than installed for the whole process, which belongs to
/// the program.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::new("there is no certificate in the PEM"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::new("the certificates are not PEM").caused_by(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        let own = ServerTls::self_signed(["a.example"]).expect("a name");
        let other = ServerTls::self_signed(["a.example"]).expect("a name");
        let said = |result: Result<ServerTls, TlsError>| result.expect_err("unusable").to_string();
        let (certificate, key) = (own.certificate_pem(), own.key_pem());
        assert!(said(ServerTls::from_pem(b"", key)).contains("no certificate"));
        assert!(said(ServerTls::from_pem(key, key)).contains("no certificate"));
        assert!(said(ServerTls::from_pem(certificate, b"")).contains("private key"));
        assert!(said(ServerTls::from_pem(certificate, other.key_pem())).contains("together"));
        assert!(said(ServerTls::self_signed([""; 0])).contains("names"));
        assert!(said(ServerTls::self_signed(["ä"])).contains("for ä"));
        assert!(said(ServerTls::self_signed_with_key(["a"], b"x")).contains("made here"));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let said = ClientTls::trusting(broken).expect_err("no certificate");
        assert!(said.to_string().contains("cannot be read"), "{said}");
    }

    #[test]
    fn the_key_does_not_show() {
        let own = ServerTls::self_signed(["localhost"]).expect("a name");
        assert_eq!(format!("{own:?}"), "ServerTls { .. }");
        let again = ServerTls::self_signed_with_key(["::1"], own.key_pem()).expect("its key");
        assert_eq!(again.key_pem(), own.key_pem());
        assert_ne!(again.certificate_pem(), own.certificate_pem());
    }
}
