//! The transport: one client, and at most one server.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eidetica_proto::{
    Address, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

use crate::address::{KIND, Scheme};
use crate::client::Client;
use crate::connection::JsonApiSlot;
use crate::error::closed;
use crate::json_api::JsonApi;
use crate::server::Server;
use crate::settings::Settings;
use crate::sync::lock;

/// Carries exchanges over HTTP.
///
/// It is a cheap handle: clones are the same transport, which ends with the last of them. All its
/// methods must be called within a tokio runtime that has its network and its clock enabled.
#[derive(Clone)]
pub struct HttpTransport(Arc<Inner>);

struct Inner {
    settings: Settings,
    client: Client,
    server: Mutex<Option<Server>>,
    /// Held while the server starts or stops, so that of two stops both wait for its end.
    changing: tokio::sync::Mutex<()>,
    json_api: JsonApiSlot,
}

impl HttpTransport {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            client: Client::new(&settings),
            settings,
            server: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            json_api: JsonApiSlot::default(),
        }))
    }

    /// Serves a JSON interface beside the exchanges, whether or not the server runs already. It
    /// replaces the interface set before.
    pub fn set_json_api(&self, api: Arc<dyn JsonApi>) {
        *lock(&self.0.json_api) = Some(api);
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
        let _changing = self.0.changing.lock().await;
        if self.0.client.is_closed() {
            return Err(closed());
        }
        let Some(bind) = self.0.settings.bind else {
            return Err(TransportError::new(
                TransportErrorKind::UnusableAddress,
                "no bind address: client only",
            ));
        };
        let mut server = lock(&self.0.server);
        if let Some(address) = server.as_ref().map(Server::address) {
            let address = address.map_or_else(|| bind.to_string(), String::from);
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                format!("the server is already running, at {address}"),
            ));
        }
        *server = Some(Server::start(
            bind,
            service,
            Arc::clone(&self.0.json_api),
            &self.0.settings,
        )?);
        Ok(())
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        let _changing = self.0.changing.lock().await;
        let server = lock(&self.0.server).take();
        if let Some(server) = server {
            server.stop(self.0.settings.deadlines).await;
        }
        Ok(())
    }

    fn is_server_running(&self) -> bool {
        lock(&self.0.server).is_some()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        match lock(&self.0.server).as_ref() {
            None => Vec::new(),
            Some(server) => server.addresses(&self.0.settings),
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        if self.0.client.is_closed() {
            return Err(closed());
        }
        self.0.client.exchange(address, request).await
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.0.client.close().await;
        self.stop_server().await
    }
}
