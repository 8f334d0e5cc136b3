//! The peers of a node: the peer book, and which trees are followed where.

use std::sync::Arc;

use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::Address;
use eidetica_proto::peer_book::{AddressOrigin, KnownPeer};

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::engine::follows::{self, RememberedFollow};
use crate::store::StoreError;

impl Node {
    /// Returns the follows that the store remembers, by peer and tree.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn remembered_follows(&self) -> Result<Vec<RememberedFollow>, StoreError> {
        follows::remembered(&self.0.store).await
    }

    /// Stops keeping a tree in sync with a peer, and remembers that: the peer is not followed by
    /// itself either, until [`Node::follow_with`]. Running exchanges are cut.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn pause(&self, tree: TreeId, peer: PublicKey) -> Result<(), StoreError> {
        self.0.shared.unfollow(peer, tree);
        follows::pause(&self.0.store, peer, tree).await
    }

    /// Returns the keys that were noticed to be in use on two machines at once within the last hour, each
    /// with when that was noticed last, in milliseconds since 1970. This node's own key may be among
    /// them.
    pub fn duplicate_keys(&self) -> Vec<(PublicKey, u64)> {
        self.0.shared.duplicate_keys()
    }

    /// Returns what the peer book knows, in the order of the keys.
    pub fn known_peers(&self) -> Vec<(PublicKey, KnownPeer)> {
        self.0.shared.dialer.book.known()
    }

    /// Returns the known addresses of a peer, most promising first.
    pub fn addresses_of(&self, peer: &PublicKey) -> Vec<Address> {
        self.0.shared.dialer.book.addresses(peer)
    }

    /// Returns the key of a peer. One of which only addresses are known is greeted, unless one of
    /// them names a key, as those of iroh do, or an earlier exchange has pinned a key to one.
    ///
    /// # Errors
    /// Returns an error if no address answers.
    pub async fn identify(&self, peer: &Peer) -> Result<PublicKey, Arc<SyncError>> {
        let (key, _) = self.0.shared.dialer.meet(peer).await?;
        Ok(key)
    }

    /// Adds addresses of a peer, as entered by a person.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn add_addresses(
        &self,
        peer: PublicKey,
        addresses: Vec<Address>,
    ) -> Result<(), StoreError> {
        let shared = &self.0.shared;
        let is_news = (shared.dialer.book).learn(peer, addresses, AddressOrigin::Manual);
        if is_news {
            shared.input(|core, now_ms| core.coordinator.handle_address_learned(peer, now_ms));
        }
        shared.dialer.book.save().await;
        Ok(())
    }

    /// Forgets an address of a peer. Tells whether it was known.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn remove_address(
        &self,
        peer: PublicKey,
        address: &Address,
    ) -> Result<bool, StoreError> {
        let book = &self.0.shared.dialer.book;
        let was_known = book.remove_address(peer, address);
        book.save().await;
        Ok(was_known)
    }

    /// Forgets a peer and stops following it. It is known again when it makes contact.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn remove_peer(&self, peer: PublicKey) -> Result<(), StoreError> {
        let follows = self.remembered_follows().await?;
        let of_peer = follows.iter().filter(|it| it.peer == peer);
        let mut trees: Vec<TreeId> = of_peer.map(|it| it.tree).collect();
        trees.extend(
            self.status()
                .iter()
                .filter(|it| it.peer == peer)
                .map(|it| it.tree),
        );
        for tree in trees {
            self.unfollow(tree, peer).await?;
        }
        let book = &self.0.shared.dialer.book;
        book.remove(peer);
        book.save().await;
        Ok(())
    }
}
