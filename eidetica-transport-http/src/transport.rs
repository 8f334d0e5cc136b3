//! The transport: one client, and at most one server.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eidetica_proto::{
    Address, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

use crate::address::{KIND, Scheme};
use crate::builder::HttpTransportBuilder;
use crate::client::Client;
use crate::clock::lock;
use crate::error::closed;
use crate::server::Server;

/// Carries exchanges over HTTP.
///
/// All its methods are to be called within a tokio runtime that has its network and its clock
/// switched on.
pub struct HttpTransport {
    settings: HttpTransportBuilder,
    client: Client,
    server: Mutex<Option<Server>>,
    /// Held by whoever starts or stops the server, so that two stops both wait for its end.
    changing: tokio::sync::Mutex<()>,
}

impl HttpTransport {
    /// Begins to build a transport.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder::default()
    }

    pub(crate) fn new(settings: HttpTransportBuilder) -> Self {
        Self {
            client: Client::new(&settings),
            settings,
            server: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        }
    }
}

#[async_trait]
impl SyncTransport for HttpTransport {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn can_handle_address(&self, address: &Address) -> bool {
        Scheme::of(address).is_some_and(Scheme::is_built_in)
    }

    fn proves_keys(&self) -> bool {
        false
    }

    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        let _changing = self.changing.lock().await;
        if self.client.is_closed() {
            return Err(closed());
        }
        let Some(bind) = self.settings.bind else {
            return Err(TransportError::new(
                TransportErrorKind::UnusableAddress,
                "this transport was built without an address to listen at: it only asks",
            ));
        };
        let mut server = lock(&self.server);
        if let Some(address) = server.as_ref().map(Server::address) {
            let address = address.map_or_else(|| bind.to_string(), String::from);
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                format!("the server runs already, at {address}"),
            ));
        }
        *server = Some(Server::start(bind, service, &self.settings)?);
        Ok(())
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        let _changing = self.changing.lock().await;
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop(self.settings.deadlines).await;
        }
        Ok(())
    }

    fn is_server_running(&self) -> bool {
        lock(&self.server).is_some()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        match lock(&self.server).as_ref() {
            None => Vec::new(),
            Some(server) => server.addresses(&self.settings),
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        if self.client.is_closed() {
            return Err(closed());
        }
        self.client.exchange(address, request).await
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.client.close().await;
        self.stop_server().await
    }
}
