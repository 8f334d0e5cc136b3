//! What peers say: postcard messages, one in each frame.
//!
//! A request is a [`RequestHeader`] and, where it sends entries, [`Part`]s behind it. A response is a
//! [`ResponseHeader`] and, where it sends entries, parts behind it. A message that ends without its
//! [`Part::End`] was cut.
//!
//! Messages grow at their ends: variants are only ever added behind the others, and a peer that does
//! not know one answers [`ErrorCode::Malformed`].

use bytes::Bytes;
use eidetica_dag::{EntryId, PublicKey, Purpose, Role, SecretKey, Signature, TreeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::PROTOCOL_VERSION;
use crate::address::Address;
use crate::error::{ERROR_TEXT_BYTES_MAX, ErrorCode, PeerFault, WireError};
use crate::filter::Filter;
use crate::tips::{EndTips, TIPS_LISTED_MAX, TIPS_MAX, TipDigest, TipSet};

/// Most entries asked for by id in one request. Each is there because of a false positive of the
/// filter, of which a request rarely meets one.
pub const WANTS_MAX: usize = 4_096;

/// Most protocol versions in one message: more than anyone keeps alive.
pub const VERSIONS_MAX: usize = 16;

/// Most addresses in one message: every transport on every interface of a well-connected machine.
pub const ADDRESSES_MAX: usize = 32;

/// Longest note of a [`Join`] in bytes: a name and a sentence.
pub const NOTE_BYTES_MAX: usize = 256;

/// Most trees in one list; a longer list is asked for in several steps.
pub const TREES_MAX: usize = 1_024;

/// The first frame of every request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHeader {
    /// The protocol version that the asker speaks.
    pub version: u16,
    /// What it asks.
    pub request: Request,
}

/// What a peer asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you, and where do you listen? Says the same of the asker.
    Hello(Hello),
    /// Which trees may I read?
    ListTrees(ListTrees),
    /// What do I lack of this tree?
    SyncTree(SyncTree),
    /// Here is what you lack of this tree. Parts follow.
    SendEntries(SendEntries),
    /// Let me have a role on this tree.
    Join(Join),
}

/// Who somebody is and where they listen. Nothing in it is proved: the connection proves keys, or
/// [`crate::proof`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's key.
    pub key: PublicKey,
    /// Every protocol version that the node speaks; at most [`VERSIONS_MAX`].
    pub versions: Vec<u16>,
    /// Where the node can be reached; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
}

/// Asks for the trees that the asker may read, in steps of up to [`TREES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTrees {
    /// Only trees with higher ids than this one.
    pub after: Option<TreeId>,
}

/// Asks for what the asker lacks of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTree {
    /// The tree.
    pub tree: TreeId,
    /// The asker's tips. None listed: the whole tree.
    pub tips: TipSet,
    /// A sample of the asker's entries, for an answerer that does not know all the tips.
    pub sample: Sample,
    /// Entries that an earlier answer took for known, ascending; at most [`WANTS_MAX`]. If there
    /// are any, only they and what is missing below them is asked for.
    pub wants: Vec<EntryId>,
}

/// A sample of the asker's entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sample {
    /// There is none: an answerer that needs one says [`SyncReply::SendFilter`].
    None,
    /// A small one, for trees of many tips of which few differ: an answerer that finds that many
    /// differ says [`SyncReply::SendFilter`].
    Small(Filter),
    /// As good as it gets.
    Full(Filter),
}

impl Sample {
    /// Returns the filter, if there is one.
    pub fn filter(&self) -> Option<&Filter> {
        match self {
            Self::None => None,
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

/// Shows that the asker holds the secret of an invite, without giving it to anyone who listens: it
/// is of no use to another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteProof {
    /// The public half of the invite's key.
    pub invite: PublicKey,
    /// Made with the invite's key over the tree and the asker's key.
    pub signature: Signature,
}

/// The first frame of every response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHeader {
    /// The answer, or why there is none.
    pub reply: Result<Reply, WireError>,
}

/// What a peer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answers [`Request::Hello`].
    Hello(Hello),
    /// Answers [`Request::ListTrees`], ascending by id.
    Trees(Vec<TreeSummary>),
    /// Answers [`Request::SyncTree`].
    Sync(SyncReply),
    /// Answers [`Request::SendEntries`] once everything is durable.
    Stored(Stored),
    /// Answers [`Request::Join`].
    Join(JoinReply),
}

/// What became of a [`Join`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The asker has this role, from before or from now on.
    Granted(Role),
    /// If the tree is here, the request waits until an admin approves or rejects it. Trees that are
    /// not here are answered alike, so that nobody learns which there are.
    Pending,
    /// An admin has rejected it.
    Rejected,
}

/// One tree in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSummary {
    /// The tree.
    pub tree: TreeId,
    /// The name that its root gives it.
    pub name: String,
    /// How many entries the answerer has.
    pub entries: u32,
}

/// What the asker of [`SyncTree`] lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncReply {
    /// Both have the same tips: nothing is lacking on either side.
    Equal,
    /// This many entries follow as parts, and then [`Part::End`] with the answerer's tips.
    Entries(u32),
    /// The tips differ, and the sample does not do: ask again with tips and a full one.
    SendFilter,
}

/// What became of entries that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// How many of them are stored by it.
    pub stored: u32,
    /// The answerer's tips.
    pub tips: TipDigest,
    /// Parents that the answerer lacks, so that it could not store their descendants, ascending.
    pub missing: Vec<EntryId>,
}

/// A frame behind a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part<'a> {
    /// Entries, packed: see [`crate::batch`].
    Batch(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    /// That was everything. The sender's tips as of the moment the entries were chosen.
    End {
        /// The tips.
        tips: EndTips,
    },
    /// The sender cannot go on.
    Failed(WireError),
}

impl RequestHeader {
    /// Makes the header of a request.
    pub fn new(request: Request) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            request,
        }
    }

    /// Writes the header as a frame.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads a header and checks its version and its lists.
    ///
    /// # Errors
    /// What to answer to whoever sent it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let malformed = |text: &str| WireError::new(ErrorCode::Malformed, text);
        // The version is looked at first: behind another one, everything may be different.
        match postcard::take_from_bytes::<u16>(frame) {
            Ok((PROTOCOL_VERSION, _)) => {}
            Ok((other, _)) => return Err(WireError::unsupported_version(other)),
            Err(_) => return Err(malformed("this is no request")),
        }
        let header: Self = decode(frame).ok_or_else(|| malformed("this is no request"))?;
        match &header.request {
            Request::Hello(hello) if hello.addresses.len() > ADDRESSES_MAX => {
                Err(WireError::new(ErrorCode::TooLarge, "too many addresses"))
            }
            Request::Hello(hello) if hello.versions.len() > VERSIONS_MAX => {
                Err(WireError::new(ErrorCode::TooLarge, "too many versions"))
            }
            Request::SyncTree(SyncTree {
                tips: TipSet::Listed(tips),
                ..
            }) if tips.len() > TIPS_LISTED_MAX => {
                Err(WireError::new(ErrorCode::TooLarge, "too many tips"))
            }
            Request::SyncTree(SyncTree {
                tips: TipSet::Listed(tips),
                ..
            }) if !is_ascending(tips) => Err(malformed("tips are not strictly ascending")),
            Request::SyncTree(sync) if sync.wants.len() > WANTS_MAX => Err(WireError::new(
                ErrorCode::TooLarge,
                "too many entries wanted",
            )),
            Request::SyncTree(sync) if !is_ascending(&sync.wants) => {
                Err(malformed("ids are not strictly ascending"))
            }
            Request::Join(join) if join.note.len() > NOTE_BYTES_MAX => {
                Err(WireError::new(ErrorCode::TooLarge, "the note is too long"))
            }
            _ => Ok(header),
        }
    }
}

impl ResponseHeader {
    /// Writes an answer as a frame.
    pub fn encode(reply: Result<Reply, WireError>) -> Bytes {
        encode(&Self { reply })
    }

    /// Reads an answer and checks its lists.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn decode(frame: &[u8]) -> Result<Self, PeerFault> {
        let header: Self = decode(frame).ok_or(PeerFault::NotAMessage)?;
        match &header.reply {
            Ok(Reply::Hello(hello)) if hello.addresses.len() > ADDRESSES_MAX => {
                Err(PeerFault::BadList("too many addresses"))
            }
            Ok(Reply::Hello(hello)) if hello.versions.len() > VERSIONS_MAX => {
                Err(PeerFault::BadList("too many versions"))
            }
            Ok(Reply::Trees(trees)) if trees.len() > TREES_MAX => {
                Err(PeerFault::BadList("too many trees"))
            }
            Ok(Reply::Trees(trees)) if !trees.is_sorted_by(|a, b| a.tree < b.tree) => {
                Err(PeerFault::BadList("trees are not strictly ascending"))
            }
            Ok(Reply::Stored(stored)) => {
                check_ids(&stored.missing, WANTS_MAX)?;
                Ok(header)
            }
            Err(error) if error.text.len() > ERROR_TEXT_BYTES_MAX => {
                Err(PeerFault::BadList("a text is too long"))
            }
            _ => Ok(header),
        }
    }
}

impl InviteProof {
    /// Shows the invite whose key is `invite`, for an asker who proves to be `asker`.
    pub fn new(invite: &SecretKey, tree: TreeId, asker: &PublicKey) -> Self {
        Self {
            invite: invite.public(),
            signature: invite.sign(Purpose::Invite, &Self::message(tree, asker)),
        }
    }

    /// Tells whether the asker holds the secret of the invite.
    pub fn is_of(&self, tree: TreeId, asker: &PublicKey) -> bool {
        let message = Self::message(tree, asker);
        (self.invite)
            .verify(Purpose::Invite, &message, &self.signature)
            .is_ok()
    }

    fn message(tree: TreeId, asker: &PublicKey) -> Vec<u8> {
        [tree.as_bytes().as_slice(), asker.as_bytes()].concat()
    }
}

impl Part<'_> {
    /// Writes a part as a frame.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }
}

impl<'a> Part<'a> {
    /// Reads a part and checks its lists.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn decode(frame: &'a [u8]) -> Result<Self, PeerFault> {
        match postcard::take_from_bytes(frame) {
            Ok((Part::End { tips }, [])) => {
                check_ids(tips.listed(), TIPS_MAX).map(|()| Part::End { tips })
            }
            Ok((Part::Failed(error), [])) if error.text.len() > ERROR_TEXT_BYTES_MAX => {
                Err(PeerFault::BadList("a text is too long"))
            }
            Ok((part, [])) => Ok(part),
            Ok(_) | Err(_) => Err(PeerFault::NotAMessage),
        }
    }
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_stdvec(message)
        .expect("a vector takes every byte")
        .into()
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}

fn is_ascending(ids: &[EntryId]) -> bool {
    ids.is_sorted_by(|a, b| a < b)
}

fn check_ids(ids: &[EntryId], most: usize) -> Result<(), PeerFault> {
    if ids.len() > most {
        return Err(PeerFault::BadList("too many ids"));
    }
    if !is_ascending(ids) {
        return Err(PeerFault::BadList("ids are not strictly ascending"));
    }
    Ok(())
}
