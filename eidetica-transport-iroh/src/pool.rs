//! The connections to peers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_proto::TransportError;
use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr, EndpointId};
use tokio::time::timeout;

use crate::alpn::ALPN;
use crate::error::{self, CLOSE_LEAVING};
use crate::limits::{CONNECTIONS_TO_PEER_MAX, Deadlines, STREAMS_PER_CONNECTION_MAX, WINDOW_BYTES};

/// Held while one address is dialled, so that exchanges begun together share one connection.
type Dial = Arc<tokio::sync::Mutex<()>>;

/// The connections to peers, and the attempts to make more.
///
/// It holds no task: the endpoint keeps connections alive, and closes them when the peer has left.
/// The accepting side closes connections that are not used.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// The connections to each peer, in the order in which they were made.
    connections: Mutex<BTreeMap<EndpointId, Vec<Pooled>>>,
    /// By address rather than by peer: an address that does not answer must not delay another
    /// address of the same peer.
    dials: Mutex<BTreeMap<EndpointAddr, Dial>>,
    closed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Pooled {
    connection: Connection,
    /// One more reference than there are exchanges on the connection.
    in_use: Arc<()>,
}

/// The place of one exchange on a connection. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) connection: Connection,
    /// Whether the connection was there before, so that the peer may have lost it since.
    pub(crate) reused: bool,
    _in_use: Arc<()>,
}

impl Pooled {
    fn exchanges(&self) -> usize {
        Arc::strong_count(&self.in_use) - 1
    }

    fn is_alive(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn place(&self, reused: bool) -> Place {
        Place {
            connection: self.connection.clone(),
            reused,
            _in_use: self.in_use.clone(),
        }
    }
}

impl Pool {
    /// Returns a place on a connection to `peer`, and makes a connection if none has room.
    pub(crate) async fn place(
        &self,
        endpoint: &Endpoint,
        peer: &EndpointAddr,
        deadlines: Deadlines,
    ) -> Result<Place, TransportError> {
        if let Some(place) = self.pooled(peer.id) {
            return Ok(place);
        }
        let dial = self.dial(peer);
        let connect = async {
            let _dialling = dial.lock().await;
            // Another exchange may have made one in the meantime.
            if let Some(place) = self.pooled(peer.id) {
                return Ok(place);
            }
            let connected = endpoint.connect(peer.clone(), ALPN).await;
            // The peer's key needs no check here. The dialled id is in the TLS server name, iroh's
            // verifier accepts exactly that raw public key, and the handshake's signature proves
            // that the peer holds its secret half: with any other key there is no connection.
            let connection = connected.map_err(error::of_connect)?;
            connection.set_receive_window(WINDOW_BYTES.into());
            self.add(peer.id, connection)
        };
        timeout(deadlines.connect, connect).await.map_err(|_| {
            let id = peer.id.fmt_short();
            TransportError::timed_out(format!(
                "{id} did not answer within {:?}: it is off, or the address is old",
                deadlines.connect
            ))
        })?
    }

    /// Takes a connection, and those made before it, out of the pool. Exchanges on them go on.
    pub(crate) fn forget(&self, peer: EndpointId, connection: &Connection) {
        if let Some(pooled) = self.connections().get_mut(&peer) {
            let is_it = |pooled: &Pooled| pooled.connection.stable_id() == connection.stable_id();
            if let Some(position) = pooled.iter().position(is_it) {
                pooled.drain(..=position);
            }
        }
    }

    /// Returns a flag that is set once the pool is closed.
    pub(crate) fn closed(&self) -> Arc<AtomicBool> {
        self.closed.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes every connection. Exchanges in progress end with an error.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for pooled in std::mem::take(&mut *self.connections()).into_values() {
            for pooled in pooled {
                pooled.connection.close(CLOSE_LEAVING, b"closed");
            }
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Vec<Pooled>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place on a live connection, unless another connection should be made.
    fn pooled(&self, peer: EndpointId) -> Option<Place> {
        let mut connections = self.connections();
        connections.retain(|_, pooled| {
            pooled.retain(Pooled::is_alive);
            !pooled.is_empty()
        });
        let pooled = connections.get(&peer)?;
        let least = pooled.iter().min_by_key(|pooled| pooled.exchanges())?;
        // If all are full and no more may be made, the exchange waits for its turn.
        let has_room = least.exchanges() < STREAMS_PER_CONNECTION_MAX as usize;
        (has_room || pooled.len() >= CONNECTIONS_TO_PEER_MAX).then(|| least.place(true))
    }

    fn add(&self, peer: EndpointId, connection: Connection) -> Result<Place, TransportError> {
        let mut connections = self.connections();
        if self.is_closed() {
            connection.close(CLOSE_LEAVING, b"closed");
            return Err(error::of_closed());
        }
        let pooled = Pooled {
            connection,
            in_use: Arc::default(),
        };
        let place = pooled.place(false);
        connections.entry(peer).or_default().push(pooled);
        Ok(place)
    }

    fn dial(&self, peer: &EndpointAddr) -> Dial {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        dials.retain(|_, dial| Arc::strong_count(dial) > 1);
        dials.entry(peer.clone()).or_default().clone()
    }
}
