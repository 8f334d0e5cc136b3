//! Fetching entries again whose stored bytes are damaged.
//!
//! The ids of these entries are known, because a store keeps them apart from the bytes. So a peer is
//! asked for them by id, and what it sends is the same entry or is not taken: ids are computed, and
//! signatures are checked as always.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_dag::{ArrivalSet, EntryId, EntryView, TreeId, UnprovenEntries, VerifiedEntry};

use crate::cursor::Cursor;
use crate::error::PeerFault;
use crate::message::{
    GetEntries, Reply, Request, RequestHeader, ResponseHeader, SyncReply, WANTS_MAX,
};
use crate::outgoing::EntrySelection;
use crate::received::Received;
use crate::sync_fault::SyncFault;
use crate::tips::EndTips;

/// Asks one peer for entries by their ids, in requests of up to [`WANTS_MAX`].
///
/// Send each request that [`RepairSession::poll_request`] gives; hand the first frame of the response
/// to [`RepairSession::handle_header`] and each later one to [`RepairSession::handle_part`], until it
/// says that the response is over.
#[derive(Debug)]
pub struct RepairSession {
    tree: TreeId,
    /// Those that have not arrived.
    missing: BTreeSet<EntryId>,
    /// Those that were not asked for yet.
    unasked: BTreeSet<EntryId>,
    unproven: UnprovenEntries,
}

impl RepairSession {
    /// Begins to fetch these entries.
    pub fn new(tree: TreeId, damaged: impl IntoIterator<Item = EntryId>) -> Self {
        let missing: BTreeSet<EntryId> = damaged.into_iter().collect();
        Self {
            tree,
            unasked: missing.clone(),
            missing,
            unproven: UnprovenEntries::default(),
        }
    }

    /// Returns the next request, which is one frame, or `None` when the peer was asked for everything.
    pub fn poll_request(&mut self) -> Option<Bytes> {
        if self.unasked.is_empty() {
            return None;
        }
        let ids: Vec<EntryId> = self.unasked.iter().take(WANTS_MAX).copied().collect();
        self.unasked.retain(|id| !ids.contains(id));
        let tree = self.tree;
        let request = Request::GetEntries(GetEntries { tree, ids });
        Some(RequestHeader::new(request).encode())
    }

    /// Takes the first frame of a response. Parts follow.
    ///
    /// # Errors
    /// The peer refuses, or breaks the protocol.
    pub fn handle_header(&mut self, frame: &[u8]) -> Result<(), SyncFault> {
        self.unproven = UnprovenEntries::default();
        match ResponseHeader::decode(frame)?.reply? {
            Reply::Sync(SyncReply::Entries(_)) => Ok(()),
            _ => Err(PeerFault::OutOfPlace {
                got: "another answer",
                wanted: "entries",
            }
            .into()),
        }
    }

    /// Takes a part of the response. Returns the entries that were asked for, and whether more parts
    /// follow.
    ///
    /// # Errors
    /// The peer cannot go on.
    pub fn handle_part(&mut self, part: Received) -> Result<(Vec<VerifiedEntry>, bool), SyncFault> {
        let (arrived, goes_on) = match part {
            Received::Entries(batch) => (self.unproven.handle_batch(batch), true),
            Received::End { .. } => (self.unproven.take_proven(), false),
            Received::Failed(error) => return Err(error.into()),
        };
        let wanted = arrived.into_iter();
        let wanted = wanted.filter(|entry| self.missing.remove(&entry.get().id()));
        Ok((wanted.collect(), goes_on))
    }

    /// Lists the entries that have not arrived, ascending.
    pub fn missing(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.missing.iter().copied()
    }
}

/// Chooses the entries with these ids that are here. Access is checked before, as for a comparison.
///
/// # Errors
/// Those of the view.
pub fn answer_get<V: EntryView + ?Sized>(
    view: &V,
    request: &GetEntries,
) -> Result<(Bytes, EntrySelection), V::Error> {
    let mut found = ArrivalSet::new();
    for id in &request.ids {
        if let Some(at) = view.arrival(id)? {
            found.insert(at);
        }
    }
    let selection = EntrySelection::new(found, EndTips::Untold, Cursor::NONE);
    let reply = Reply::Sync(SyncReply::Entries(selection.entry_count()));
    Ok((ResponseHeader::encode(Ok(reply)), selection))
}

#[cfg(test)]
mod tests {
    use eidetica_dag::MemoryDag;
    use eidetica_dag::testing::draw;

    use super::*;

    /// Answers a request of the session, and returns what it takes of the answer.
    fn exchange(session: &mut RepairSession, peer: &MemoryDag) -> Vec<VerifiedEntry> {
        let request = session.poll_request().expect("something is missing");
        let request = RequestHeader::decode(&request).expect("sound").request;
        let Request::GetEntries(request) = request else {
            panic!("another request: {request:?}");
        };
        let Ok((header, entries)) = answer_get(peer, &request);
        session.handle_header(&header).expect("entries follow");
        let (mut outgoing, mut taken) = (entries.outgoing(), Vec::new());
        while let Ok(Some((frame, _))) = outgoing.poll_frame(peer) {
            let part = Received::from_frame(peer.tree(), &frame).expect("sound");
            let (entries, goes_on) = session.handle_part(part).expect("the peer goes on");
            taken.extend(entries);
            assert!(goes_on || outgoing.poll_frame(peer).is_ok_and(|it| it.is_none()));
        }
        taken
    }

    #[test]
    fn entries_come_from_whoever_has_them() {
        let drawn = draw("A-B-C-D    B-X-D");
        let whole = drawn.replica(&["D"]);
        let part = drawn.replica(&["C"]);
        let ids = |names: &[&str]| -> Vec<EntryId> {
            let entries = drawn.entries(names);
            entries.iter().map(|entry| entry.get().id()).collect()
        };
        let mut session = RepairSession::new(drawn.tree(), ids(&["B", "D"]));
        let taken = exchange(&mut session, &part);
        let taken: Vec<EntryId> = taken.iter().map(|entry| entry.get().id()).collect();
        assert_eq!(taken, ids(&["B"]));
        assert_eq!(session.missing().collect::<Vec<_>>(), ids(&["D"]));
        assert_eq!(session.poll_request(), None, "this peer was asked");

        let left: Vec<EntryId> = session.missing().collect();
        let mut session = RepairSession::new(drawn.tree(), left);
        assert_eq!(exchange(&mut session, &whole).len(), 1);
        assert_eq!(session.missing().count(), 0);
    }

    #[test]
    fn what_was_not_asked_for_is_not_taken() {
        let drawn = draw("A-B-C");
        let peer = drawn.replica(&["C"]);
        let wanted = drawn.entries(&["B"])[0].get().id();
        let mut session = RepairSession::new(drawn.tree(), [wanted]);
        let all = EntrySelection::new(ArrivalSet::all_below(3), EndTips::Untold, Cursor::NONE);
        let (mut outgoing, mut taken) = (all.outgoing(), Vec::new());
        while let Ok(Some((frame, _))) = outgoing.poll_frame(&peer) {
            let part = Received::from_frame(peer.tree(), &frame).expect("sound");
            taken.extend(session.handle_part(part).expect("the peer goes on").0);
        }
        let taken: Vec<EntryId> = taken.iter().map(|entry| entry.get().id()).collect();
        assert_eq!(taken, [wanted]);
    }
}
