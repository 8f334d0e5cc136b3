//! The last known addresses of a tree's peers, which the store remembers.

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::proto::Address;
use eidetica_sync::proto::ticket::TICKET_ADDRESSES_MAX;
use eidetica_sync::store::{META_VALUE_BYTES_MAX, Store};
use serde::{Deserialize, Serialize};

use crate::output::failure::{Context, Hint, Result};

/// How many peers of one tree are remembered: a tree with more peers has a server.
const PEERS_MAX: usize = 16;

/// A peer that has, or had, the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedPeer {
    /// Its public key in hexadecimal digits, if it is known.
    peer: Option<String>,
    /// Its addresses, most promising first.
    pub(crate) addresses: Vec<Address>,
}

impl RememberedPeer {
    pub(crate) fn new(peer: Option<PublicKey>, addresses: Vec<Address>) -> Self {
        let peer = peer.map(|key| key.to_string());
        Self { peer, addresses }
    }

    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.peer.as_deref().and_then(|key| key.parse().ok())
    }
}

fn meta_key(tree: TreeId) -> String {
    format!("peers/{tree}")
}

/// Returns the peers of a tree, the latest first.
pub(crate) fn load(store: &dyn Store, tree: TreeId) -> Result<Vec<RememberedPeer>> {
    let failed = "could not read the addresses of the tree's peers";
    match store.get(&meta_key(tree)).context(failed)? {
        Some(json) => Ok(serde_json::from_slice(&json)
            .context(failed)
            .hint("run `eidetica join` with a ticket, which has addresses")?),
        None => Ok(Vec::new()),
    }
}

/// Puts a peer before the others.
pub(crate) fn remember(store: &dyn Store, tree: TreeId, peer: RememberedPeer) -> Result<()> {
    let mut known = with(load(store, tree).unwrap_or_default(), peer);
    let failed = "could not remember the addresses of the tree's peers";
    let mut json = serde_json::to_vec(&known).context(failed)?;
    while json.len() > META_VALUE_BYTES_MAX {
        known.pop();
        json = serde_json::to_vec(&known).context(failed)?;
    }
    Ok(store.put(&meta_key(tree), Some(&json)).context(failed)?)
}

/// Forgets the peers of a tree.
pub(crate) fn forget(store: &dyn Store, tree: TreeId) -> Result<()> {
    let forgotten = store.put(&meta_key(tree), None);
    Ok(forgotten.context("could not forget the addresses of the tree's peers")?)
}

fn with(mut known: Vec<RememberedPeer>, mut peer: RememberedPeer) -> Vec<RememberedPeer> {
    // The latest addresses of a peer replace its earlier ones. Peers without a key cannot be told
    // apart, so their addresses are merged.
    known.retain_mut(|other| {
        if other.peer.is_none() && peer.peer.is_none() {
            other.addresses.retain(|it| !peer.addresses.contains(it));
            peer.addresses.append(&mut other.addresses);
        }
        other.peer != peer.peer
    });
    peer.addresses.truncate(TICKET_ADDRESSES_MAX);
    known.insert(0, peer);
    known.truncate(PEERS_MAX);
    known
}

#[cfg(test)]
mod tests {
    use eidetica_sync::dag::EntryId;
    use eidetica_sync::store::MemoryStore;

    use super::*;

    fn known(key: Option<u8>, ports: &[u16]) -> RememberedPeer {
        let address = |port| {
            format!("http:127.0.0.1:{port}")
                .parse()
                .expect("an address")
        };
        let key = key.map(|byte| PublicKey::from_bytes([byte; 32]));
        RememberedPeer::new(key, ports.iter().map(address).collect())
    }

    #[test]
    fn the_latest_addresses_of_a_peer_replace_the_earlier_ones() {
        let store = MemoryStore::new();
        let tree = TreeId::from_root(EntryId::from_bytes([7; 32]));
        for peer in [
            known(Some(1), &[1, 2]),
            known(None, &[9, 8]),
            known(Some(2), &[3]),
            known(Some(1), &[4]),
            known(None, &[8, 7]),
        ] {
            remember(&store, tree, peer).expect("room");
        }
        let expected = vec![
            known(None, &[8, 7, 9]),
            known(Some(1), &[4]),
            known(Some(2), &[3]),
        ];
        assert_eq!(load(&store, tree).expect("readable"), expected);
        forget(&store, tree).expect("room");
        assert_eq!(load(&store, tree).expect("readable"), []);
    }

    #[test]
    fn memory_of_peers_is_bounded() {
        let store = MemoryStore::new();
        let tree = TreeId::from_root(EntryId::from_bytes([7; 32]));
        let long = |n| format!("iroh:{n:0>1000}").parse().expect("an address");
        for byte in 0..=PEERS_MAX as u8 {
            let key = Some(PublicKey::from_bytes([byte; 32]));
            let addresses = (0..2 * TICKET_ADDRESSES_MAX).map(long).collect();
            remember(&store, tree, RememberedPeer::new(key, addresses)).expect("it fits");
        }
        let known = load(&store, tree).expect("readable");
        assert_eq!(
            known[0].key(),
            Some(PublicKey::from_bytes([PEERS_MAX as u8; 32]))
        );
        assert!((1..=PEERS_MAX).contains(&known.len()));
    }
}
