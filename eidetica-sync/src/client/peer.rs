//! A peer to sync with.

use eidetica_dag::PublicKey;
use eidetica_proto::{Address, Ticket};

/// A peer to sync with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer's key, if it is known. A peer with another key is refused.
    pub key: Option<PublicKey>,
    /// The peer's addresses, in the order in which to try them.
    pub addresses: Vec<Address>,
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        Self {
            key: None,
            addresses: vec![address],
        }
    }
}

impl From<&Ticket> for Peer {
    fn from(ticket: &Ticket) -> Self {
        Self {
            key: ticket.peer,
            addresses: ticket.addresses.clone(),
        }
    }
}
