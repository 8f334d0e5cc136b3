//! Finds peers on the local network by multicast DNS (RFC 6762, RFC 6763).
//!
//! While its server runs, a node announces its key and its direct addresses as an instance of the
//! service [`SERVICE`]; it listens for the announcements of others all the time. Announcements prove
//! nothing: an address found here is a hint, and the handshake with the peer proves the key.
//!
//! iroh's own lookup crate wraps the same library. It is not used because it passes finds through a
//! short queue that drops them when it is full, and passes none of a peer that is being dialled.

mod found;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::BASE32_NOPAD;
use eidetica_proto::{Discovered, DiscoveredStream};
use futures::{FutureExt, StreamExt, stream};
use iroh::address_lookup::{AddressLookup, EndpointData, EndpointInfo, Error, Item};
use iroh::{Endpoint, EndpointAddr, EndpointId};
use swarm_discovery::{Discoverer, DropGuard, Peer};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::address::{address_of, key_of};
use crate::limits::LOCAL_LOOKUP_WAIT;
use found::Found;

/// Name of the service in DNS; at most 15 characters (RFC 6335). A name of our own, so that only
/// peers that speak this protocol are found.
const SERVICE: &str = "eidetica";

/// Announces one endpoint on the local network, and finds others there.
#[derive(Clone)]
pub(crate) struct LocalDiscovery(Arc<Inner>);

struct Inner {
    id: EndpointId,
    runtime: Handle,
    announcer: Mutex<Announcer>,
    found: Arc<watch::Sender<Found>>,
}

/// The announcement.
struct Announcer {
    /// None while the machine has no network that carries multicast.
    mdns: Option<DropGuard>,
    addrs: Vec<SocketAddr>,
    serving: bool,
    closed: bool,
}

impl LocalDiscovery {
    /// Starts to find peers for `endpoint`, which learns their addresses. Without a network it
    /// starts later, when the endpoint notices one.
    pub(crate) fn start(endpoint: &Endpoint) -> Self {
        let discovery = Self(Arc::new(Inner {
            id: endpoint.id(),
            runtime: Handle::current(),
            announcer: Mutex::new(Announcer {
                mdns: None,
                addrs: Vec::new(),
                serving: false,
                closed: false,
            }),
            found: Arc::new(watch::Sender::new(Found::default())),
        }));
        discovery.restart();
        match endpoint.address_lookup() {
            Ok(lookup) => lookup.add(discovery.clone()),
            Err(error) => debug!(%error, "the endpoint was closed"),
        }
        discovery
    }

    /// Joins the multicast group anew, as is necessary on another network, and forgets who was found.
    pub(crate) fn restart(&self) {
        let mut announcer = self.0.announcer();
        if announcer.closed {
            return;
        }
        // Stopped first: it calls back until then.
        announcer.mdns = None;
        self.0.found.send_if_modified(Found::clear);
        announcer.mdns = self.0.spawn();
        announcer.announce();
    }

    /// Sets whether the server runs: peers that do not answer are not worth finding.
    pub(crate) fn set_serving(&self, serving: bool) {
        let mut announcer = self.0.announcer();
        if announcer.serving != serving {
            announcer.serving = serving;
            announcer.announce();
        }
    }

    /// Stops announcing and finding. Streams of finds end.
    pub(crate) fn close(&self) {
        let mut announcer = self.0.announcer();
        announcer.closed = true;
        announcer.mdns = None;
        self.0.found.send_modify(Found::close);
    }

    /// Returns the peers found so far, and each one that is found from then on.
    pub(crate) fn stream(&self) -> DiscoveredStream {
        let finds = finds(self.0.found.subscribe(), None);
        let discovered = finds.map(|addr| Discovered {
            key: key_of(addr.id),
            address: address_of(&addr),
        });
        Box::pin(discovered)
    }
}

impl Inner {
    fn announcer(&self) -> MutexGuard<'_, Announcer> {
        let announcer = self.announcer.lock();
        announcer.unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self) -> Option<DropGuard> {
        let (own, found) = (self.id, self.found.clone());
        let callback = move |name: &str, peer: &Peer| match name.parse::<EndpointId>() {
            Ok(id) if id == own => {}
            Ok(id) => {
                found.send_if_modified(|found| found.handle_announced(id, peer.addrs()));
            }
            Err(error) => debug!(name, %error, "an announcement without a key"),
        };
        // In base 16 the key is longer than the 63 bytes that DNS allows.
        let name = BASE32_NOPAD.encode(self.id.as_bytes()).to_ascii_lowercase();
        let discoverer = Discoverer::new_interactive(SERVICE.to_owned(), name);
        match discoverer.with_callback(callback).spawn(&self.runtime) {
            Ok(mdns) => Some(mdns),
            Err(error) => {
                warn!(%error, "no local discovery: is there a network that carries multicast?");
                None
            }
        }
    }
}

impl Announcer {
    fn announce(&self) {
        let Some(mdns) = &self.mdns else { return };
        mdns.remove_all();
        if !self.serving {
            return;
        }
        let mut by_port = BTreeMap::<u16, Vec<IpAddr>>::new();
        for addr in &self.addrs {
            by_port.entry(addr.port()).or_default().push(addr.ip());
        }
        for (port, addrs) in by_port {
            mdns.add(port, addrs);
        }
    }
}

impl AddressLookup for LocalDiscovery {
    fn publish(&self, data: &EndpointData) {
        let mut announcer = self.0.announcer();
        let addrs = data.ip_addrs().copied().collect();
        if announcer.closed || announcer.addrs == addrs {
            return;
        }
        announcer.addrs = addrs;
        if announcer.mdns.is_none() {
            announcer.mdns = self.0.spawn();
        }
        announcer.announce();
    }

    fn resolve(&self, id: EndpointId) -> Option<stream::BoxStream<'static, Result<Item, Error>>> {
        let item = |addr: EndpointAddr| {
            let data = EndpointData::from_iter(addr.addrs);
            Ok(Item::new(
                EndpointInfo::from_parts(addr.id, data),
                SERVICE,
                None,
            ))
        };
        let finds = finds(self.0.found.subscribe(), Some(id)).map(item);
        // Made when it is polled, which happens on the endpoint's runtime.
        let finds = async { finds.take_until(sleep(LOCAL_LOOKUP_WAIT)) };
        Some(finds.flatten_stream().boxed())
    }
}

impl fmt::Debug for LocalDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDiscovery").finish_non_exhaustive()
    }
}

/// Returns the finds, of one peer or of all, until discovery is closed.
fn finds(
    found: watch::Receiver<Found>,
    only: Option<EndpointId>,
) -> impl stream::Stream<Item = EndpointAddr> + Send {
    stream::unfold((found, 0), move |(mut found, after)| async move {
        loop {
            let next = {
                let found = found.borrow_and_update();
                if found.is_closed() {
                    return None;
                }
                found.first_after(after, only)
            };
            if let Some((number, addr)) = next {
                return Some((addr, (found, number)));
            }
            // An error means that the transport was dropped.
            found.changed().await.ok()?;
        }
    })
}
