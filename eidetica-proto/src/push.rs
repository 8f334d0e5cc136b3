//! Sending new entries without asking first, and giving a tree to a peer that lacks it.
//!
//! Up to some arrival the peer is known to have everything, because a comparison ended equal or an
//! acknowledgement said so. What arrived later, less what the peer brought, is sent at once. If the
//! peer turns out to lack parents of it, a comparison finds out what.

use bytes::Bytes;
use eidetica_dag::{Arrival, ArrivalSet, EntryView, PublicKey, Role, TreeId, current_access};

use crate::answer::{AnswerError, check_access};
use crate::cursor::Cursor;
use crate::error::{ErrorCode, PeerFault};
use crate::message::{Reply, Request, RequestHeader, ResponseHeader, SendEntries};
use crate::origins::Origins;
use crate::outgoing::EntrySelection;
use crate::sync_fault::SyncFault;
use crate::tips::{EndTips, TipDigest};

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The peer has everything before this arrival.
    Settled {
        /// The arrival.
        up_to: u32,
        /// How many entries the peer stored; the others it had.
        stored: u32,
        /// A place in the peer's log before which this side has everything, if the peer has the same
        /// tips as this side had.
        cursor: Option<Cursor>,
    },
    /// The peer lacks parents of what was sent: compare.
    MissingParents,
    /// The peer does not have the tree, or does not let this side read it.
    NotHere,
    /// The peer lets this side read but not write.
    ReadOnly,
    /// The peer may not read the tree here, or did not prove that it may: nothing was sent.
    PeerMayNotRead,
}

/// What a push begins with.
pub enum PushStart {
    /// Send the entries.
    Send(PushSession),
    /// There is nothing to send.
    Done(PushOutcome),
}

/// Sends entries of one tree to one peer.
///
/// Send [`PushSession::header`] and the frames of [`PushSession::entries`], made from the view that
/// the session was made with; hand the first frame of the response to
/// [`PushSession::handle_header`].
pub struct PushSession {
    up_to: u32,
    tips: TipDigest,
    header: Bytes,
    entries: EntrySelection,
}

impl PushSession {
    /// Chooses what arrived since `settled` and may be passed on, less what the peer brought. Take the
    /// origins before the view: they then cover all of it.
    ///
    /// # Errors
    /// Those of the view.
    pub fn begin<V: EntryView + ?Sized>(
        view: &V,
        tree: TreeId,
        settled: u32,
        peer: Option<&PublicKey>,
        origins: &Origins,
    ) -> Result<PushStart, V::Error> {
        let up_to = origins.passable(tree, view.entry_count());
        if !current_access(view)?.allows(peer, Role::Read) {
            return Ok(PushStart::Done(PushOutcome::PeerMayNotRead));
        }
        let (mut chosen, mut at) = (ArrivalSet::new(), settled.min(up_to));
        while let Some(range) = origins.next_for(tree, at..up_to, peer) {
            at = range.end;
            for arrival in range {
                chosen.insert(Arrival(arrival));
            }
        }
        if chosen.is_empty() {
            return Ok(PushStart::Done(PushOutcome::Settled {
                up_to,
                stored: 0,
                cursor: None,
            }));
        }
        let tips = TipDigest::of_view(view)?;
        let entries = EntrySelection::new(chosen, EndTips::Untold, Cursor::NONE);
        let request = Request::SendEntries(SendEntries {
            tree,
            entries: entries.entry_count(),
        });
        Ok(PushStart::Send(Self {
            up_to,
            tips,
            header: RequestHeader::new(request).encode(),
            entries,
        }))
    }

    /// Chooses the whole tree, for a peer that lacks it and may accept it.
    ///
    /// # Errors
    /// Those of the view.
    pub fn give<V: EntryView + ?Sized>(
        view: &V,
        tree: TreeId,
        peer: Option<&PublicKey>,
    ) -> Result<PushStart, V::Error> {
        Self::begin(view, tree, 0, peer, &Origins::new())
    }

    /// Returns the first frame of the request.
    pub fn header(&self) -> Bytes {
        self.header.clone()
    }

    /// Returns what follows the header.
    pub fn entries(&self) -> &EntrySelection {
        &self.entries
    }

    /// Takes the first frame of the response.
    ///
    /// # Errors
    /// The peer refuses for another reason than those of [`PushOutcome`], or breaks the protocol.
    pub fn handle_header(&self, frame: &[u8]) -> Result<PushOutcome, SyncFault> {
        match ResponseHeader::decode(frame)?.reply {
            Ok(Reply::Stored(stored)) if stored.missing.is_empty() => Ok(PushOutcome::Settled {
                up_to: self.up_to,
                stored: stored.stored,
                cursor: (stored.tips == self.tips).then_some(stored.cursor),
            }),
            Ok(Reply::Stored(_)) => Ok(PushOutcome::MissingParents),
            Ok(_) => Err(PeerFault::OutOfPlace {
                got: "another answer",
                wanted: "an acknowledgement",
            }
            .into()),
            Err(error) if error.code == ErrorCode::NotFound => Ok(PushOutcome::NotHere),
            Err(error) if error.code == ErrorCode::ReadOnly => Ok(PushOutcome::ReadOnly),
            Err(error) => Err(error.into()),
        }
    }
}

/// Checks that `key`, the proved key of the client, may send entries of the tree of this view.
///
/// From the keys for which `accepts_from` says so, which is this side's own setting, a tree that is
/// not here is accepted, and so is the rest of a tree that the key may read: a gift that was cut
/// could not go on otherwise. Each entry is judged by its author's role in any case.
///
/// # Errors
/// Those of [`check_access`].
pub fn check_push<V: EntryView + ?Sized>(
    view: &V,
    key: Option<&PublicKey>,
    accepts_from: impl FnOnce(&PublicKey) -> bool,
) -> Result<(), AnswerError<V::Error>> {
    let is_accepted = key.is_some_and(accepts_from);
    if is_accepted && view.entry_count() == 0 {
        return Ok(());
    }
    let role = match is_accepted {
        true => Role::Read,
        false => Role::Write,
    };
    check_access(view, key, role)
}
