//! The rules of every transport, for each way to accept connections.

use std::net::UdpSocket;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use eidetica_proto::testing::conformance::Fixture;
use eidetica_proto::{Address, TransportError};
use eidetica_transport_iroh::{ALPN, IrohTransport, IrohTransportBuilder};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, SecretKey};

use crate::stage::{address_of, builder, endpoint, endpoint_addr, hasty};

/// What accepts the connections.
pub(crate) enum Arrivals {
    OwnEndpoint,
    GivenEndpoint,
    Router,
}

pub(crate) struct IrohFixture {
    arrivals: Arrivals,
    /// Kept until the case ends, as a program keeps them: a dropped endpoint sends nothing to
    /// its peers.
    endpoints: Mutex<Vec<Endpoint>>,
    routers: Mutex<Vec<Router>>,
    silent: UdpSocket,
}

impl IrohFixture {
    pub(crate) fn new(arrivals: Arrivals) -> Self {
        Self {
            arrivals,
            endpoints: Mutex::default(),
            routers: Mutex::default(),
            silent: UdpSocket::bind("127.0.0.1:0").expect("binds"),
        }
    }

    async fn make(&self, builder: IrohTransportBuilder) -> IrohTransport {
        match self.arrivals {
            Arrivals::OwnEndpoint => builder.bind().await.expect("binds"),
            Arrivals::GivenEndpoint => {
                let endpoint = endpoint(&[]).await;
                self.endpoints
                    .lock()
                    .expect("no panic")
                    .push(endpoint.clone());
                builder.attach(endpoint)
            }
            Arrivals::Router => {
                let endpoint = endpoint(&[]).await;
                let (transport, protocol) = builder.mount(endpoint.clone());
                let router = Router::builder(endpoint).accept(ALPN, protocol).spawn();
                self.routers.lock().expect("no panic").push(router);
                transport
            }
        }
    }
}

#[async_trait]
impl Fixture for IrohFixture {
    type Transport = IrohTransport;

    async fn transport(&self) -> IrohTransport {
        self.make(builder()).await
    }

    async fn hasty_transport(&self) -> IrohTransport {
        self.make(hasty(builder())).await
    }

    async fn transport_at(&self, taken: &Address) -> Result<IrohTransport, TransportError> {
        let addr = endpoint_addr(taken);
        let taken = addr.ip_addrs().next().expect("a direct address");
        builder().bind_addr(*taken).bind().await
    }

    async fn deserted_address(&self) -> Address {
        let id = SecretKey::from_bytes(&[9; 32]).public();
        let silent = self.silent.local_addr().expect("bound");
        address_of(EndpointAddr::from(id).with_ip_addr(silent))
    }

    fn malformed_addresses(&self) -> Vec<Address> {
        let texts = ["iroh:?", "iroh:endpointaaaa", "iroh:127.0.0.1:80"];
        texts.map(|text| text.parse().expect("an address")).into()
    }

    fn proves_keys(&self) -> bool {
        true
    }

    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(case);
}

mod own_endpoint {
    use super::{Arrivals, IrohFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: IrohFixture::new(Arrivals::OwnEndpoint), run: run,
    );
}

mod given_endpoint {
    use super::{Arrivals, IrohFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: IrohFixture::new(Arrivals::GivenEndpoint), run: run,
    );
}

mod router {
    use super::{Arrivals, IrohFixture, run};
    eidetica_proto::transport_conformance!(
        fixture: IrohFixture::new(Arrivals::Router), run: run,
    );
}
