//! Makes the client's connections, with TLS where the address says so.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::{ClientTls, Failed};
use crate::address::Scheme;
use crate::options::HttpVersion;

/// Connects over TCP, then does the handshake if the scheme is `https`. Both together have one
/// deadline.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    settings: Arc<Settings>,
}

struct Settings {
    trusted: ClientTls,
    version: HttpVersion,
    deadline: Duration,
    /// Made with the first address that needs it: reading what a platform trusts takes a while.
    config: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(
        mut tcp: HttpConnector,
        trusted: ClientTls,
        version: HttpVersion,
        deadline: Duration,
    ) -> Self {
        tcp.enforce_http(false);
        let settings = Settings {
            trusted,
            version,
            deadline,
            config: OnceLock::new(),
        };
        Self {
            tcp,
            settings: Arc::new(settings),
        }
    }
}

impl Settings {
    fn connector(&self) -> Result<TlsConnector, Failed> {
        let config = match self.config.get() {
            Some(config) => config,
            None => {
                let config = self.trusted.config(self.version).map_err(Failed::Here)?;
                self.config.get_or_init(|| Arc::new(config))
            }
        };
        Ok(Arc::clone(config).into())
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failed>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.tcp.poll_ready(context).map_err(Failed::tcp)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        let tcp = self.tcp.call(uri.clone());
        let connect = async move {
            let tcp = async { tcp.await.map_err(Failed::tcp) };
            if uri.scheme_str() != Some(Scheme::Https.as_str()) {
                return Ok(Stream::Plain(tcp.await?));
            }
            let tls = settings.connector()?;
            let handshake = async {
                let name = server_name(&uri)?;
                let stream = tls.connect(name, tcp.await?.into_inner()).await;
                stream.map_err(Failed::handshake)
            };
            match timeout(settings.deadline, handshake).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(TokioIo::new(stream?)))),
                Err(_) => Err(Failed::Late),
            }
        };
        Box::pin(connect)
    }
}

/// Returns the name, or the IP address, that the certificate must be for.
fn server_name(uri: &Uri) -> Result<ServerName<'static>, Failed> {
    let host = uri.host().unwrap_or_default();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let name = ServerName::try_from(bare.unwrap_or(host).to_owned());
    name.map_err(|_| Failed::NoName)
}

/// An established connection.
pub(crate) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(stream) => stream.connected(),
            Self::Tls(stream) => stream.inner().get_ref().0.connected(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }
}
