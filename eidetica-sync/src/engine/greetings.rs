//! Greets peers after an absence, as a [`Greeter`](eidetica_proto::coordinator::Greeter) decides.

use std::time::Duration;

use eidetica_proto::coordinator::{GREETED_MAX, GREETING_TIMEOUT_MS, PeerId};

use super::shared::{Core, Following, Shared};

impl Shared {
    /// Has the peers of the book greeted, if this node serves: one that only makes requests is not
    /// waited for, nor is one that follows nothing.
    pub(super) async fn note_back(&self) {
        if self.following == Following::Nothing {
            return;
        }
        let own = self.dialer.manager.get_all_server_addresses_async().await;
        if own.is_empty() {
            return;
        }
        let peers = self.dialer.book.latest_reached(GREETED_MAX);
        self.input(|core, now_ms| core.greeter.handle_back(peers, now_ms));
    }

    /// Greets a peer, so that it knows that this node is there, and where.
    pub(super) async fn greet(&self, peer: PeerId) {
        let greeting = self.dialer.announce_again(peer);
        let timeout = Duration::from_millis(GREETING_TIMEOUT_MS);
        let answered = tokio::time::timeout(timeout, greeting).await;
        let answered = answered.unwrap_or(false);
        self.input(|core, now_ms| core.greeter.handle_greeted(peer, answered, now_ms));
        if answered {
            self.ask_alive(peer).await;
        }
    }
}

impl Core {
    /// Returns the peers to greet, apart from those that a check of the coordinator greets anyway.
    pub(super) fn poll_greetings(&mut self, now_ms: u64) -> Vec<PeerId> {
        let mut peers = Vec::new();
        while let Some(peer) = self.greeter.poll_greeting(now_ms) {
            match self.coordinator.statuses_of_peer(peer).next() {
                Some(_) => self.greeter.handle_greeted(peer, true, now_ms),
                None => peers.push(peer),
            }
        }
        peers
    }
}
