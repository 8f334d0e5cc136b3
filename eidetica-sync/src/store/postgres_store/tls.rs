//! TLS to the database, with the cryptography that everything else here uses.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::store::{BoxedError, StoreError};

/// Whose certificates are believed. The name in them is checked in any case.
#[derive(Clone, Default)]
pub(super) struct Tls {
    /// `None`: those that the platform trusts.
    roots: Option<Arc<RootCertStore>>,
}

impl Tls {
    pub(super) fn trusting(certificates: &[u8]) -> Result<Self, StoreError> {
        let unusable = |why: String| StoreError::Address {
            why: format!("the certificates to be trusted: {why}"),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificates) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("there are none in the file".into()));
        }
        let roots = Some(Arc::new(roots));
        Ok(Self { roots })
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        Ok(match &self.roots {
            Some(roots) => config
                .with_root_certificates(Arc::clone(roots))
                .with_no_client_auth(),
            None => config
                .dangerous()
                // The name is rustls' for every verifier but its own. This one is as strict.
                .with_custom_certificate_verifier(Arc::new(Verifier::new(provider)?))
                .with_no_client_auth(),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = BoxedError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, BoxedError> {
        Ok(Connect {
            connector: TlsConnector::from(Arc::new(self.config()?)),
            // A socket of this machine has no name, and no TLS.
            name: ServerName::try_from(domain.to_owned()).ok(),
        })
    }
}

pub(super) struct Connect {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connect {
    type Stream = Stream<S>;
    type Error = BoxedError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream<S>, BoxedError>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = self
                .name
                .ok_or("the host has no name for its certificate")?;
            let stream = self.connector.connect(name, stream).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// An encrypted connection.
pub(super) struct Stream<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is checked, which is what a binding would add.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
