//! What a peer answers.

use bytes::Bytes;
use eidetica_dag::{EntryId, Role, TreeId};
use serde::{Deserialize, Serialize};

use super::growing::{growing_enum, read, take, write};
use super::{
    ADDRESSES_MAX, Alive, CHECKED_TREES_MAX, Capabilities, Hello, TREES_MAX, WANTS_MAX, check_ids,
    frame,
};
use crate::PROTOCOL_VERSION;
use crate::cursor::Cursor;
use crate::error::{ERROR_TEXT_BYTES_MAX, PeerFault, WireError};
use crate::peers::{AddressRecord, RECORDS_PER_TREE_MAX};
use crate::tips::TipDigest;

/// The kind of a refusal. No reply has it.
const REFUSAL: u16 = 0;

/// The first frame of every response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The protocol version of the response: the highest that both sides understand.
    pub version: u16,
    /// What the server can do beyond that.
    pub capabilities: Capabilities,
    /// The answer, or why there is none.
    pub reply: Result<Reply, WireError>,
}

growing_enum! {
    /// What a peer answers.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Reply {
        /// Answers [`Request::Hello`](super::Request::Hello).
        1 => Hello(Hello),
        /// Answers [`Request::ListTrees`](super::Request::ListTrees), ascending by id.
        2 => Trees(Vec<TreeSummary>),
        /// Answers [`Request::SyncTree`](super::Request::SyncTree).
        3 => Sync(SyncReply),
        /// Answers [`Request::SendEntries`](super::Request::SendEntries) once everything is durable.
        4 => Stored(Stored),
        /// Answers [`Request::Join`](super::Request::Join).
        5 => Join(JoinReply),
        /// Answers [`Request::Watch`](super::Request::Watch).
        /// [`WatchFrame`](super::WatchFrame)s follow.
        6 => Watching,
        /// Answers [`Request::CheckTrees`](super::Request::CheckTrees).
        7 => Checked(Checked),
        /// Answers [`Request::Peers`](super::Request::Peers), ascending by key.
        8 => Peers(Vec<AddressRecord>),
        /// Answers [`Request::Alive`](super::Request::Alive).
        9 => Alive(Alive),
    }
}

growing_enum! {
    /// What became of a [`Join`](super::Join).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum JoinReply {
        /// The client has this role, from before or as of this answer.
        0 => Granted(Role),
        /// If the tree is here, the request waits until an admin approves or rejects it. The answer
        /// is the same for trees that are not here, so that it does not reveal which there are.
        1 => Pending,
        /// An admin has rejected it.
        2 => Rejected,
    }
}

/// One tree in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSummary {
    /// The tree.
    pub tree: TreeId,
    /// The name that its root gives it.
    pub name: String,
    /// How many entries the server has.
    pub entries: u32,
}

growing_enum! {
    /// What the client of [`SyncTree`](super::SyncTree) lacks.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum SyncReply {
        /// Both have the same tips: neither side lacks anything. The end of the server's log.
        0 => Equal(Cursor),
        /// This many entries follow as parts, and then [`Part::End`](super::Part::End).
        1 => Entries(u32),
        /// The tips differ and the sample is too small: ask again with tips and a full one.
        2 => SendFilter,
    }
}

/// What became of entries that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// How many of them were stored.
    pub stored: u32,
    /// The server's tips.
    pub tips: TipDigest,
    /// Parents that the server lacks, so that it could not store their descendants, ascending; at
    /// most [`WANTS_MAX`].
    pub missing: Vec<EntryId>,
    /// The end of the server's log.
    pub cursor: Cursor,
}

/// Which of the trees of a [`CheckTrees`](super::CheckTrees) differ. Trees are named by their index
/// in the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// How many trees were looked at, from the first on. The others are to be asked about again.
    pub looked_at: u32,
    /// Those whose tips differ, ascending.
    pub differ: Vec<u16>,
    /// Those that are absent, or that the client may not read, ascending. The two look alike.
    pub absent: Vec<u16>,
    /// The end of the server's log of each tree that is equal, in the order of the request.
    pub equal: Vec<Cursor>,
}

impl ResponseHeader {
    /// Writes an answer as a frame.
    pub fn encode(reply: Result<Reply, WireError>) -> Bytes {
        let numbers = [PROTOCOL_VERSION.into(), Capabilities::default().0];
        match reply {
            Ok(reply) => frame(&numbers, reply.kind(), &reply.write_body()),
            Err(error) => frame(&numbers, REFUSAL, &write(&error)),
        }
    }

    /// Reads an answer and checks its lists. A reply of an unknown kind is [`Reply::Unknown`].
    ///
    /// # Errors
    /// The peer's fault.
    pub fn decode(frame: &[u8]) -> Result<Self, PeerFault> {
        let mut body = frame;
        let version: u16 = take(&mut body).ok_or(PeerFault::NotAMessage)?;
        let capabilities = Capabilities(take(&mut body).ok_or(PeerFault::NotAMessage)?);
        let kind: u16 = take(&mut body).ok_or(PeerFault::NotAMessage)?;
        let reply = if kind == REFUSAL {
            // A refusal has the same form in all versions, so that it can name the right one.
            let error: WireError = read(body).ok_or(PeerFault::NotAMessage)?;
            if error.text.len() > ERROR_TEXT_BYTES_MAX {
                return Err(PeerFault::BadList("a text is too long"));
            }
            Err(error)
        } else if version == PROTOCOL_VERSION {
            let reply = Reply::read(kind, body).ok_or(PeerFault::NotAMessage)?;
            reply.check()?;
            Ok(reply)
        } else {
            return Err(PeerFault::OtherVersion(version));
        };
        Ok(Self {
            version,
            capabilities,
            reply,
        })
    }
}

impl Reply {
    /// Checks that lists keep their limits and ascend.
    fn check(&self) -> Result<(), PeerFault> {
        let at_most = |fault, count: usize, most: usize| match count > most {
            true => Err(PeerFault::BadList(fault)),
            false => Ok(()),
        };
        let ascending = |fault, is_ascending: bool| match is_ascending {
            true => Ok(()),
            false => Err(PeerFault::BadList(fault)),
        };
        match self {
            Self::Hello(hello) => {
                at_most("too many addresses", hello.addresses.len(), ADDRESSES_MAX)
            }
            Self::Trees(trees) => {
                at_most("too many trees", trees.len(), TREES_MAX)?;
                let is_ascending = trees.is_sorted_by(|a, b| a.tree < b.tree);
                ascending("trees are not strictly ascending", is_ascending)
            }
            Self::Stored(stored) => check_ids(&stored.missing, WANTS_MAX),
            Self::Checked(checked) => {
                let looked_at = checked.looked_at as usize;
                at_most("too many trees", looked_at, CHECKED_TREES_MAX)?;
                for list in [&checked.differ, &checked.absent] {
                    ascending("indexes do not ascend", list.is_sorted_by(|a, b| a < b))?;
                    let last = list.last().map_or(0, |last| usize::from(*last) + 1);
                    at_most("an index is out of range", last, looked_at)?;
                }
                let named = checked.differ.len() + checked.absent.len() + checked.equal.len();
                ascending("each tree is in one list", named == looked_at)?;
                let both = |index: &u16| checked.absent.binary_search(index).is_ok();
                ascending("each tree is in one list", !checked.differ.iter().any(both))
            }
            Self::Peers(records) => {
                at_most("too many records", records.len(), RECORDS_PER_TREE_MAX)?;
                let is_ascending = records.is_sorted_by(|a, b| a.key() < b.key());
                ascending("records are not strictly ascending", is_ascending)
            }
            Self::Sync(_) | Self::Join(_) | Self::Watching | Self::Alive(_) | Self::Unknown(_) => {
                Ok(())
            }
        }
    }
}
