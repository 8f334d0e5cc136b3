//! The rules of every transport, for each version of HTTP, with and without TLS.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_trait::async_trait;
use eidetica_proto::testing::conformance::Fixture;
use eidetica_proto::{Address, TransportError};
use eidetica_transport_http::{HttpTransport, HttpTransportBuilder, HttpVersion};

pub(crate) struct HttpFixture {
    version: HttpVersion,
    /// The certificate of the servers, which the clients trust.
    #[cfg(feature = "tls")]
    tls: Option<eidetica_transport_http::ServerTls>,
}

impl HttpFixture {
    pub(crate) fn plain(version: HttpVersion) -> Self {
        Self {
            version,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(version: HttpVersion) -> Self {
        let tls = eidetica_transport_http::ServerTls::self_signed(["127.0.0.1"]);
        Self {
            version,
            tls: Some(tls.expect("a name")),
        }
    }

    fn builder(&self, bind: SocketAddr) -> HttpTransportBuilder {
        let builder = HttpTransport::builder().version(self.version).bind(bind);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let trusted = eidetica_transport_http::ClientTls::trusting(tls.certificate_pem());
            return builder
                .server_tls(tls.clone())
                .client_tls(trusted.expect("a certificate"));
        }
        builder
    }

    fn kind(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[async_trait]
impl Fixture for HttpFixture {
    type Transport = HttpTransport;

    async fn transport(&self) -> HttpTransport {
        self.builder(loopback()).build()
    }

    async fn hasty_transport(&self) -> HttpTransport {
        let deadline = Duration::from_millis(300);
        self.builder(loopback())
            .connect_timeout(deadline)
            .idle_timeout(deadline)
            .stop_grace(deadline)
            .build()
    }

    async fn transport_at(&self, taken: &Address) -> Result<HttpTransport, TransportError> {
        let taken = taken.value().parse().expect("a socket address");
        Ok(self.builder(taken).build())
    }

    async fn deserted_address(&self) -> Address {
        let listener = TcpListener::bind(loopback()).expect("a free port");
        let address = listener.local_addr().expect("is bound");
        drop(listener);
        Address::new(self.kind(), &address.to_string()).expect("an address")
    }

    fn malformed_addresses(&self) -> Vec<Address> {
        ["localhost", "localhost:0", "//localhost:80"]
            .map(|value| Address::new(self.kind(), value).expect("an address"))
            .into()
    }

    fn proves_keys(&self) -> bool {
        false
    }

    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(case);
}

mod http1 {
    use eidetica_transport_http::HttpVersion;

    use super::{HttpFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: HttpFixture::plain(HttpVersion::Http1),
        run: run
    );
}

mod http2 {
    use eidetica_transport_http::HttpVersion;

    use super::{HttpFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: HttpFixture::plain(HttpVersion::Http2),
        run: run
    );
}

#[cfg(feature = "tls")]
mod http1_over_tls {
    use eidetica_transport_http::HttpVersion;

    use super::{HttpFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: HttpFixture::tls(HttpVersion::Http1),
        run: run
    );
}

#[cfg(feature = "tls")]
mod http2_over_tls {
    use eidetica_transport_http::HttpVersion;

    use super::{HttpFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: HttpFixture::tls(HttpVersion::Http2),
        run: run
    );
}
