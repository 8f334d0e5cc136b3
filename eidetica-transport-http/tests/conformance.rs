//! The rules for every transport, with a client of each version of HTTP.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_trait::async_trait;
use eidetica_proto::testing::conformance::Fixture;
use eidetica_proto::{Address, TransportError};
use eidetica_transport_http::{HttpTransport, HttpTransportBuilder, HttpVersion};

struct HttpFixture(HttpVersion);

impl HttpFixture {
    fn builder(&self, bind: SocketAddr) -> HttpTransportBuilder {
        HttpTransport::builder().version(self.0).bind(bind)
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
        Address::new("http", &address.to_string()).expect("an address")
    }

    fn malformed_addresses(&self) -> Vec<Address> {
        ["http:localhost", "http:localhost:0", "http://localhost:80"]
            .map(|text| text.parse().expect("an address"))
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
    use super::{HttpFixture, HttpVersion, run};
    eidetica_proto::transport_conformance!(fixture: HttpFixture(HttpVersion::Http1), run: run);
}

mod http2 {
    use super::{HttpFixture, HttpVersion, run};
    eidetica_proto::transport_conformance!(fixture: HttpFixture(HttpVersion::Http2), run: run);
}
