//! Several transports at once: chooses the transport for an address, and runs all servers.

use std::sync::Arc;

use eidetica_proto::transport::{Discovered, Service};
use eidetica_proto::{Address, SyncTransport, TransportError, TransportErrorKind};
use futures::Stream;
use tokio::sync::watch;

/// The transports of a node, in the order of registration.
///
/// An address goes to the first transport that can handle it. Names identify transports within a
/// program; they are not part of addresses.
#[derive(Default)]
pub struct TransportManager {
    transports: Vec<(String, Arc<dyn SyncTransport>)>,
    /// Counts how often the servers were told to stop.
    stops: watch::Sender<u64>,
}

impl TransportManager {
    /// Creates a manager without transports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transport. Several transports of one kind are allowed, under different names.
    ///
    /// # Errors
    /// Returns [`TransportErrorKind::AlreadyRunning`] if the name is taken.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        transport: Arc<dyn SyncTransport>,
    ) -> Result<(), TransportError> {
        let name = name.into();
        if self.get(&name).is_some() {
            let text = format!("the transport name {name:?} is taken; choose another");
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                text,
            ));
        }
        self.transports.push((name, transport));
        Ok(())
    }

    /// Returns the transport with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn SyncTransport>> {
        self.transports
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, transport)| transport)
    }

    /// Returns the names, in the order of registration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.transports.iter().map(|(name, _)| name.as_str())
    }

    /// Tells whether any transport can handle this address.
    pub fn can_handle_address(&self, address: &Address) -> bool {
        self.transport_for(address).is_ok()
    }

    /// Returns the first transport that can handle this address.
    ///
    /// # Errors
    /// Returns [`TransportErrorKind::UnusableAddress`] if none can; the message lists the transports.
    pub fn transport_for(
        &self,
        address: &Address,
    ) -> Result<&Arc<dyn SyncTransport>, TransportError> {
        let mut all = self.transports.iter().map(|(_, transport)| transport);
        all.find(|transport| transport.can_handle_address(address))
            .ok_or_else(|| {
                let kinds: Vec<&str> = self.transports.iter().map(|(_, t)| t.kind()).collect();
                let text = match kinds.as_slice() {
                    [] => format!("no transport is registered, so {address} is unreachable"),
                    kinds => format!(
                        "no transport can handle {address}; registered: {}",
                        kinds.join(", ")
                    ),
                };
                TransportError::new(TransportErrorKind::UnusableAddress, text)
            })
    }

    /// Returns the peers that the transports find by themselves.
    pub(crate) fn discovered(&self) -> impl Stream<Item = Discovered> + Send + Unpin + use<> {
        let transports = self.transports.iter();
        futures::stream::select_all(transports.filter_map(|(_, it)| it.discovered()))
    }

    /// Has all transports check their connections.
    pub(crate) async fn network_changed(&self) {
        let transports = self.transports.iter();
        futures::future::join_all(transports.map(|(_, it)| it.network_changed())).await;
    }

    /// Starts the servers of all transports, in the order of registration. Running servers continue.
    ///
    /// # Errors
    /// Returns the error of the first server that does not start, after stopping those that this call
    /// has started.
    pub async fn accept_connections(
        &self,
        service: &Arc<dyn Service>,
    ) -> Result<(), TransportError> {
        let mut started: Vec<&Arc<dyn SyncTransport>> = Vec::new();
        for (name, transport) in &self.transports {
            if transport.is_server_running() {
                continue;
            }
            if let Err(error) = transport.start_server(service.clone()).await {
                tracing::warn!(%name, %error, "a server did not start");
                for transport in started {
                    if let Err(error) = transport.stop_server().await {
                        tracing::warn!(%error, "a server did not stop");
                    }
                }
                return Err(error);
            }
            started.push(transport);
        }
        Ok(())
    }

    /// Returns the addresses of all running servers, each with the name of its transport, in the order
    /// of registration.
    pub async fn get_all_server_addresses_async(&self) -> Vec<(String, Address)> {
        let mut addresses = Vec::new();
        for (name, transport) in &self.transports {
            let own = transport.server_addresses().await;
            addresses.extend(own.into_iter().map(|address| (name.clone(), address)));
        }
        addresses
    }

    /// Returns what changes when the servers are told to stop: answers that have no end of their own
    /// end with it.
    pub(crate) fn stops(&self) -> watch::Receiver<u64> {
        self.stops.subscribe()
    }

    /// Stops the servers of all transports. Outgoing exchanges continue.
    ///
    /// # Errors
    /// Returns the first error; all servers are stopped nevertheless.
    pub async fn stop_accepting(&self) -> Result<(), TransportError> {
        self.stops.send_modify(|stops| *stops += 1);
        let mut first = Ok(());
        for (_, transport) in &self.transports {
            first = first.and(transport.stop_server().await);
        }
        first
    }

    /// Closes all transports, after which the manager cannot be used.
    ///
    /// # Errors
    /// Returns the first error; all transports are closed nevertheless.
    pub async fn close(&self) -> Result<(), TransportError> {
        self.stops.send_modify(|stops| *stops += 1);
        let mut first = Ok(());
        for (_, transport) in &self.transports {
            first = first.and(transport.close().await);
        }
        first
    }
}

impl std::fmt::Debug for TransportManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.debug_struct("TransportManager")
            .field("transports", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use eidetica_proto::testing::{MemoryNetwork, echo};

    use super::*;

    fn manager(network: &MemoryNetwork, names: &[&str]) -> TransportManager {
        let mut manager = TransportManager::new();
        for name in names {
            let transport = Arc::new(network.transport(name).build());
            manager
                .register(*name, transport)
                .expect("no name comes twice");
        }
        manager
    }

    async fn addresses(manager: &TransportManager) -> Vec<String> {
        let addresses = manager.get_all_server_addresses_async().await;
        addresses
            .into_iter()
            .map(|(name, address)| format!("{name} at {address}"))
            .collect()
    }

    #[tokio::test]
    async fn all_servers_listen_under_their_names() {
        let network = MemoryNetwork::new();
        let manager = manager(&network, &["b", "a"]);
        assert_eq!(addresses(&manager).await, Vec::<String>::new());
        manager
            .accept_connections(&echo())
            .await
            .expect("the addresses are free");
        assert_eq!(
            addresses(&manager).await,
            ["b at memory:b", "a at memory:a"]
        );
        manager
            .accept_connections(&echo())
            .await
            .expect("running servers continue");
        manager.stop_accepting().await.expect("every server stops");
        assert_eq!(addresses(&manager).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_failed_start_stops_the_other_servers() {
        let network = MemoryNetwork::new();
        let first = manager(&network, &["taken"]);
        first
            .accept_connections(&echo())
            .await
            .expect("the address is free");
        let second = manager(&network, &["free", "taken"]);
        let error = second
            .accept_connections(&echo())
            .await
            .expect_err("one address is taken");
        assert_eq!(error.kind(), TransportErrorKind::AddressInUse);
        assert_eq!(addresses(&second).await, Vec::<String>::new());
        assert_eq!(addresses(&first).await, ["taken at memory:taken"]);
    }

    #[test]
    fn an_address_goes_to_the_first_transport_that_handles_it() {
        let network = MemoryNetwork::new();
        let manager = manager(&network, &["first", "second"]);
        let address = "memory:somewhere".parse().expect("an address");
        let chosen = manager.transport_for(&address).expect("both can");
        assert!(Arc::ptr_eq(
            chosen,
            manager.get("first").expect("it is there")
        ));
        let strange = "smoke:signals".parse().expect("an address");
        assert!(!manager.can_handle_address(&strange));
        let error = manager
            .transport_for(&strange)
            .map(|_| ())
            .expect_err("none can");
        assert_eq!(error.kind(), TransportErrorKind::UnusableAddress);
        assert!(
            error.to_string().contains("memory, memory"),
            "it lists the transports: {error}"
        );
    }

    #[test]
    fn a_name_is_taken_once() {
        let network = MemoryNetwork::new();
        let mut manager = manager(&network, &["one"]);
        let again = manager.register("one", Arc::new(network.transport("two").build()));
        assert!(again.is_err());
        assert_eq!(manager.names().collect::<Vec<_>>(), ["one"]);
    }
}
