//! Several transports at once: which one carries an exchange, and where all of them listen.

use std::sync::Arc;

use eidetica_proto::transport::Service;
use eidetica_proto::{Address, SyncTransport, TransportError, TransportErrorKind};

/// Keeps transports under names, in the order in which they were registered.
///
/// The order decides: an address goes to the first transport that can handle it, always to the same
/// one. Names are for people and for [`TransportManager::get`]; they never stand in an address, so
/// nobody else learns them.
#[derive(Default)]
pub struct TransportManager {
    transports: Vec<(String, Arc<dyn SyncTransport>)>,
}

impl TransportManager {
    /// Makes a manager without transports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transport behind those that are there. Several of one kind may be there, under
    /// different names.
    ///
    /// # Errors
    /// [`TransportErrorKind::AlreadyRunning`] if the name is taken.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        transport: Arc<dyn SyncTransport>,
    ) -> Result<(), TransportError> {
        let name = name.into();
        if self.get(&name).is_some() {
            let text = format!("there is a transport named {name:?} already; choose another name");
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                text,
            ));
        }
        self.transports.push((name, transport));
        Ok(())
    }

    /// Returns the transport of this name.
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
    /// [`TransportErrorKind::UnusableAddress`] if none can; it names those that there are.
    pub fn transport_for(
        &self,
        address: &Address,
    ) -> Result<&Arc<dyn SyncTransport>, TransportError> {
        let mut all = self.transports.iter().map(|(_, transport)| transport);
        all.find(|transport| transport.can_handle_address(address))
            .ok_or_else(|| {
                let kinds: Vec<&str> = self.transports.iter().map(|(_, t)| t.kind()).collect();
                let text = match kinds.as_slice() {
                    [] => format!("no transport is switched on, so {address} cannot be reached"),
                    kinds => format!(
                        "no transport here can reach {address}; there are: {}",
                        kinds.join(", ")
                    ),
                };
                TransportError::new(TransportErrorKind::UnusableAddress, text)
            })
    }

    /// Starts the servers of all transports, in the order of registration. Servers that run already
    /// go on.
    ///
    /// # Errors
    /// That of the first server that does not start. Those that this call started are stopped
    /// again: either all listen or it is as before.
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
                tracing::warn!(%name, %error, "a server does not start");
                for transport in started {
                    if let Err(error) = transport.stop_server().await {
                        tracing::warn!(%error, "a server does not stop");
                    }
                }
                return Err(error);
            }
            started.push(transport);
        }
        Ok(())
    }

    /// Lists where all servers listen, each with the name of its transport, in the order of
    /// registration; nothing for those that do not run.
    pub async fn get_all_server_addresses_async(&self) -> Vec<(String, Address)> {
        let mut addresses = Vec::new();
        for (name, transport) in &self.transports {
            let own = transport.server_addresses().await;
            addresses.extend(own.into_iter().map(|address| (name.clone(), address)));
        }
        addresses
    }

    /// Stops the servers of all transports. Exchanges with others go on.
    ///
    /// # Errors
    /// The first error; all are stopped nevertheless.
    pub async fn stop_accepting(&self) -> Result<(), TransportError> {
        let mut first = Ok(());
        for (_, transport) in &self.transports {
            first = first.and(transport.stop_server().await);
        }
        first
    }

    /// Closes all transports. The manager is of no use after that.
    ///
    /// # Errors
    /// The first error; all are closed nevertheless.
    pub async fn close(&self) -> Result<(), TransportError> {
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
            .expect("nobody else has the addresses");
        assert_eq!(
            addresses(&manager).await,
            ["b at memory:b", "a at memory:a"]
        );
        manager
            .accept_connections(&echo())
            .await
            .expect("those that run go on");
        manager
            .stop_accepting()
            .await
            .expect("nothing is left behind");
        assert_eq!(addresses(&manager).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn either_all_listen_or_none() {
        let network = MemoryNetwork::new();
        let first = manager(&network, &["taken"]);
        first
            .accept_connections(&echo())
            .await
            .expect("nobody else has the address");
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
    fn an_address_goes_to_the_first_that_can_handle_it() {
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
            "it says what there is: {error}"
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
