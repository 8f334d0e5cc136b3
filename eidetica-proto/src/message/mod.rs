//! What peers say: one message in each frame.
//!
//! A request is a [`RequestHeader`], followed by [`Part`]s where it sends entries. A response is a
//! [`ResponseHeader`], followed by parts where it sends entries, or by [`WatchFrame`]s if it answers
//! a watch. A message that ends without its [`Part::End`] was cut.
//!
//! Every frame begins with numbers that say what follows, and ends where its last field ends:
//!
//! ```text
//! request header   lowest version, highest version, capabilities, kind, body
//! response header  version, capabilities, kind, body            kind 0: a refusal
//! part             kind, body
//! watch frame      kind, body
//! ```
//!
//! Numbers are postcard's varints, bodies are postcard. Messages grow by kinds: a request of an
//! unknown kind is answered [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), an unknown
//! error code is a refusal with its text, an unknown watch frame is passed over. What cannot be said
//! in that way is another version; both sides use the highest version that both understand. The
//! form of a request header up to the highest version, and of a refusal, is the same in all
//! versions.

pub(crate) mod growing;
mod limits;
mod part;
mod request;
mod response;
mod watch;

use bytes::Bytes;
use eidetica_dag::{EntryId, PublicKey};
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::error::PeerFault;
use crate::proof::Epoch;

pub use limits::{
    ADDRESSES_MAX, CHECKED_TREES_MAX, NOTE_BYTES_MAX, TREES_MAX, WANTS_MAX, WATCHED_TREES_MAX,
};
pub use part::Part;
pub use request::{
    CheckTrees, GetEntries, InviteProof, Join, ListTrees, Peers, Request, RequestHeader, Sample,
    SendEntries, SyncTree, Watch,
};
pub use response::{Checked, JoinReply, Reply, ResponseHeader, Stored, SyncReply, TreeSummary};
pub use watch::WatchFrame;

/// What a peer can do beyond its protocol version, as bits. Unknown bits mean nothing. Version 2
/// defines none; the first message that needs the other side's consent defines the first bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

/// Who a peer is and where it listens. Nothing in it is proved: the connection proves keys, or
/// [`crate::proof`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's key.
    pub key: PublicKey,
    /// The lowest and the highest protocol version that the node speaks.
    pub versions: (u16, u16),
    /// Where the node can be reached; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
}

/// Which start of a node speaks, so that a key that is alive on two machines is noticed: see
/// [`Duplicates`](crate::peers::Duplicates). The connection proves the key, or [`crate::proof`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The node's epoch.
    pub epoch: Epoch,
}

/// Writes a frame: some numbers, a kind, and the body that ends with the frame.
fn frame(numbers: &[u64], kind: u16, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(numbers.len() * 2 + 3 + body.len());
    for number in numbers.iter().copied().chain([kind.into()]) {
        bytes.extend_from_slice(&growing::write(&number));
    }
    bytes.extend_from_slice(body);
    bytes.into()
}

/// Returns `what`, the broken rule of a list of ids, if it has more than `most` or does not ascend.
fn list_fault(ids: &[EntryId], most: usize) -> Option<&'static str> {
    if ids.len() > most {
        return Some("too many ids");
    }
    (!ids.is_sorted_by(|a, b| a < b)).then_some("ids are not strictly ascending")
}

fn check_ids(ids: &[EntryId], most: usize) -> Result<(), PeerFault> {
    list_fault(ids, most).map_or(Ok(()), |fault| Err(PeerFault::BadList(fault)))
}
