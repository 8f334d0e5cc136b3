//! The protocol on a router of the program.

use std::fmt;
use std::sync::Arc;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use tracing::warn;

use crate::error::CLOSE_NOT_SERVING;
use crate::server::Server;

/// Answers exchanges on the connections that a [`Router`](iroh::protocol::Router) accepts.
///
/// While the transport's server does not run, connections are closed with a code for that. When the
/// router shuts down, the server is stopped with its grace time.
#[derive(Clone)]
pub struct EideticaProtocol {
    server: Arc<Server>,
}

impl EideticaProtocol {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

impl ProtocolHandler for EideticaProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let Some(run) = self.server.run() else {
            connection.close(CLOSE_NOT_SERVING, b"the server does not run");
            return Ok(());
        };
        // The router has completed the handshake, so the key is known.
        let newcomer = run.admit(&connection.remote_id().to_string());
        run.serve(connection, newcomer).await;
        Ok(())
    }

    async fn shutdown(&self) {
        if let Err(error) = self.server.stop().await {
            warn!(%error, "the router shut down");
        }
    }
}

impl fmt::Debug for EideticaProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EideticaProtocol")
            .field("serving", &self.server.is_running())
            .finish_non_exhaustive()
    }
}
