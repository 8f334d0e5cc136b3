//! A peer to sync with.

use eidetica_dag::PublicKey;
use eidetica_proto::{Address, Ticket};

/// A peer to sync with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer's key, if it is known. A peer with another key is refused.
    pub key: Option<PublicKey>,
    /// The peer's addresses, in the order in which to try them. A sync by hand uses no others; without
    /// any, it uses all that are known.
    pub addresses: Vec<Address>,
}

/// A peer whose addresses are known already.
impl From<PublicKey> for Peer {
    fn from(key: PublicKey) -> Self {
        Self {
            key: Some(key),
            addresses: Vec::new(),
        }
    }
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
