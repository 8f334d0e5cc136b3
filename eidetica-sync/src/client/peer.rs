//! Whom to ask.

use eidetica_dag::PublicKey;
use eidetica_proto::{Address, Ticket};

/// Whom to sync with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its key, if it is known. A transport that proves keys refuses anybody else.
    pub key: Option<PublicKey>,
    /// Where it may be, in the order of trying.
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
