//! What a peer asks.

use bytes::Bytes;
use eidetica_dag::{EntryId, PublicKey, Purpose, Role, SecretKey, Signature, TreeId};
use serde::{Deserialize, Serialize};

use super::growing::{growing_enum, take};
use super::{
    ADDRESSES_MAX, Alive, CHECKED_TREES_MAX, Capabilities, Hello, NOTE_BYTES_MAX, WANTS_MAX,
    WATCHED_TREES_MAX, frame, list_fault,
};
use crate::cursor::Cursor;
use crate::error::{ErrorCode, WireError};
use crate::filter::Filter;
use crate::peers::{AddressRecord, RECORDS_PER_TREE_MAX};
use crate::tips::{TIPS_LISTED_MAX, TipSet};
use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// The first version whose headers begin with a range of versions.
const RANGE_SINCE: u16 = 2;

/// The first frame of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The lowest and the highest protocol version that the client understands.
    pub versions: (u16, u16),
    /// What the client can do beyond that.
    pub capabilities: Capabilities,
    /// What it asks.
    pub request: Request,
}

growing_enum! {
    /// What a peer asks of another.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Request {
        /// Asks who the peer is and where it listens, and says the same of the client.
        0 => Hello(Hello),
        /// Asks which trees the client may read.
        1 => ListTrees(ListTrees),
        /// Asks for what the client lacks of a tree.
        2 => SyncTree(SyncTree),
        /// Sends entries that the peer lacks. Parts follow.
        3 => SendEntries(SendEntries),
        /// Asks for a role on a tree.
        4 => Join(Join),
        /// Asks for everything that arrives after some cursors, for as long as both sides live.
        5 => Watch(Watch),
        /// Asks which of many trees differ.
        6 => CheckTrees(CheckTrees),
        /// Swaps the addresses of peers that share a tree.
        7 => Peers(Peers),
        /// Says which start of the client makes the request, and asks the same.
        8 => Alive(Alive),
        /// Asks for entries by their ids.
        9 => GetEntries(GetEntries),
    }
}

/// Asks for the trees that the client may read, in steps of up to
/// [`TREES_MAX`](super::TREES_MAX).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTrees {
    /// Only trees with higher ids than this one.
    pub after: Option<TreeId>,
}

/// Asks for what the client lacks of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTree {
    /// The tree.
    pub tree: TreeId,
    /// The client's tips. None listed: the whole tree.
    pub tips: TipSet,
    /// A sample of the client's entries, for a server that does not know all the tips.
    pub sample: Sample,
    /// Entries that an earlier answer took for known, ascending; at most [`WANTS_MAX`]. If there
    /// are any, only they and the missing entries below them are asked for.
    pub wants: Vec<EntryId>,
}

growing_enum! {
    /// A sample of the client's entries.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Sample {
        /// No sample: a server that needs one says
        /// [`SyncReply::SendFilter`](super::SyncReply::SendFilter).
        0 => None,
        /// A small one, for trees of many tips of which few differ: a server that finds that many
        /// differ says [`SyncReply::SendFilter`](super::SyncReply::SendFilter).
        1 => Small(Filter),
        /// The best sample that the client makes.
        2 => Full(Filter),
    }
}

impl Sample {
    /// Returns the filter, if there is one.
    pub fn filter(&self) -> Option<&Filter> {
        match self {
            Self::None | Self::Unknown(_) => None,
            Self::Small(filter) | Self::Full(filter) => Some(filter),
        }
    }
}

/// Announces entries that follow as parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEntries {
    /// The tree.
    pub tree: TreeId,
    /// How many entries follow.
    pub entries: u32,
}

/// Asks for a role on a tree, for the key that the request proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The tree.
    pub tree: TreeId,
    /// The role.
    pub role: Role,
    /// Says to an admin who asks; at most [`NOTE_BYTES_MAX`] bytes.
    pub note: String,
    /// Shows an invite, which is granted at once, with the invite's role.
    pub invite: Option<InviteProof>,
}

/// Proves that the client holds the secret of an invite without revealing it. The proof has no use
/// to another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteProof {
    /// The public half of the invite's key.
    pub invite: PublicKey,
    /// Made with the invite's key over the tree and the client's key.
    pub signature: Signature,
}

/// Asks for everything that arrives after these cursors. [`WatchFrame`](super::WatchFrame)s answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The trees, ascending, each with a cursor of the server; at most [`WATCHED_TREES_MAX`].
    pub trees: Vec<(TreeId, Cursor)>,
}

/// Asks which trees differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTrees {
    /// Keys the digests: eight random bytes, so that no writer can make two sets of tips that look
    /// alike.
    pub seed: [u8; 8],
    /// The trees, ascending, each with the client's digest of its tips, as
    /// [`check::digest`](crate::check::digest) makes it; at most [`CHECKED_TREES_MAX`].
    pub trees: Vec<(TreeId, [u8; 8])>,
}

/// Tells where peers that share a tree can be reached, and asks the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The tree.
    pub tree: TreeId,
    /// What the client knows, ascending by key; at most [`RECORDS_PER_TREE_MAX`].
    pub records: Vec<AddressRecord>,
}

/// Asks for the entries with these ids, to repair a copy whose bytes are damaged. The answer is
/// [`SyncReply::Entries`](super::SyncReply::Entries) with those that are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetEntries {
    /// The tree.
    pub tree: TreeId,
    /// The ids, ascending; at most [`WANTS_MAX`].
    pub ids: Vec<EntryId>,
}

impl RequestHeader {
    /// Makes the header of a request.
    pub fn new(request: Request) -> Self {
        Self {
            versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
            capabilities: Capabilities::default(),
            request,
        }
    }

    /// Writes the header as a frame.
    pub fn encode(&self) -> Bytes {
        let (lowest, highest) = self.versions;
        let numbers = [lowest.into(), highest.into(), self.capabilities.0];
        frame(&numbers, self.request.kind(), &self.request.write_body())
    }

    /// Reads a header and checks its versions and its lists. A request of an unknown kind is
    /// [`Request::Unknown`].
    ///
    /// # Errors
    /// What to answer.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let malformed = || WireError::new(ErrorCode::Malformed, "the frame is not a request");
        let mut body = frame;
        // The versions come first: under another one, everything after them may be different.
        let lowest: u16 = take(&mut body).ok_or_else(malformed)?;
        if lowest < RANGE_SINCE {
            return Err(WireError::unsupported_version(lowest));
        }
        let highest: u16 = take(&mut body).ok_or_else(malformed)?;
        if highest < lowest {
            return Err(malformed());
        }
        if lowest > PROTOCOL_VERSION {
            return Err(WireError::unsupported_version(lowest));
        }
        if highest < PROTOCOL_VERSION_MIN {
            return Err(WireError::unsupported_version(highest));
        }
        let capabilities = Capabilities(take(&mut body).ok_or_else(malformed)?);
        let kind: u16 = take(&mut body).ok_or_else(malformed)?;
        let request = Request::read(kind, body).ok_or_else(malformed)?;
        request.check()?;
        Ok(Self {
            versions: (lowest, highest),
            capabilities,
            request,
        })
    }
}

impl Request {
    /// Checks that lists and texts keep their limits and that lists ascend.
    fn check(&self) -> Result<(), WireError> {
        let at_most = |what: &str, count: usize, most: usize| match count > most {
            true => {
                let text = format!("too many {what}: {count}, at most {most}");
                Err(WireError::new(ErrorCode::TooLarge, text))
            }
            false => Ok(()),
        };
        let ascending = |what: &str, is_ascending: bool| match is_ascending {
            true => Ok(()),
            false => {
                let text = format!("{what} are not strictly ascending");
                Err(WireError::new(ErrorCode::Malformed, text))
            }
        };
        match self {
            Self::Hello(hello) => at_most("addresses", hello.addresses.len(), ADDRESSES_MAX),
            Self::SyncTree(sync) => {
                if let TipSet::Listed(tips) = &sync.tips {
                    at_most("tips", tips.len(), TIPS_LISTED_MAX)?;
                    ascending("tips", list_fault(tips, TIPS_LISTED_MAX).is_none())?;
                }
                at_most("entries wanted", sync.wants.len(), WANTS_MAX)?;
                ascending("ids", list_fault(&sync.wants, WANTS_MAX).is_none())
            }
            Self::Join(join) => at_most("bytes in the note", join.note.len(), NOTE_BYTES_MAX),
            Self::Watch(watch) => {
                at_most("trees", watch.trees.len(), WATCHED_TREES_MAX)?;
                ascending("trees", watch.trees.is_sorted_by(|a, b| a.0 < b.0))
            }
            Self::CheckTrees(check) => {
                at_most("trees", check.trees.len(), CHECKED_TREES_MAX)?;
                ascending("trees", check.trees.is_sorted_by(|a, b| a.0 < b.0))
            }
            Self::Peers(peers) => {
                at_most("records", peers.records.len(), RECORDS_PER_TREE_MAX)?;
                let is_ascending = peers.records.is_sorted_by(|a, b| a.key() < b.key());
                ascending("records", is_ascending)
            }
            Self::GetEntries(get) => {
                at_most("entries wanted", get.ids.len(), WANTS_MAX)?;
                ascending("ids", list_fault(&get.ids, WANTS_MAX).is_none())
            }
            Self::ListTrees(_) | Self::SendEntries(_) | Self::Alive(_) | Self::Unknown(_) => Ok(()),
        }
    }
}

impl InviteProof {
    /// Shows the invite whose key is `invite`, for a client who proves to be `client`.
    pub fn new(invite: &SecretKey, tree: TreeId, client: &PublicKey) -> Self {
        Self {
            invite: invite.public(),
            signature: invite.sign(Purpose::Invite, &Self::message(tree, client)),
        }
    }

    /// Tells whether the client holds the secret of the invite.
    pub fn is_of(&self, tree: TreeId, client: &PublicKey) -> bool {
        let message = Self::message(tree, client);
        (self.invite)
            .verify(Purpose::Invite, &message, &self.signature)
            .is_ok()
    }

    fn message(tree: TreeId, client: &PublicKey) -> Vec<u8> {
        [tree.as_bytes().as_slice(), client.as_bytes()].concat()
    }
}
