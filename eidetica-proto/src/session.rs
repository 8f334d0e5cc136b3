//! The asking side: one sync of one tree with one peer.

mod comparison;

use std::collections::BTreeSet;
use std::mem;

use bytes::Bytes;
use eidetica_dag::{EntryId, EntryView, PublicKey, Role, TreeId, current_access, walk};

use crate::cursor::Cursor;
use crate::error::{ErrorCode, PeerFault};
use crate::message::{
    Reply, Request, RequestHeader, ResponseHeader, SendEntries, Stored, SyncReply, WANTS_MAX,
};
use crate::outgoing::EntrySelection;
use crate::receiver::EntryReceiver;
use crate::report::{Progress, Report, Stats, SyncOptions, SyncOutcome};
use crate::sync_fault::SyncFault;
use crate::tips::{EndTips, TipDigest};

use comparison::Comparison;

/// How many times a pull asks before it gives up. The second time is for a false positive of the
/// filter, one in some hundred syncs; a third is for one in the second filter, one in ten thousand.
pub const PULL_ROUNDS_MAX: u32 = 8;

/// What the driver does next.
pub enum Step {
    /// Take a view of the tree and hand it to [`SyncSession::handle_view`].
    View,
    /// Begin an exchange: send the header, and after it the entries if there are any, made from the
    /// view last handed in.
    Exchange {
        /// The first frame of the request.
        header: Bytes,
        /// What follows it.
        entries: Option<EntrySelection>,
    },
    /// Read the first frame of the response and hand it to [`SyncSession::handle_header`].
    ReceiveHeader,
    /// The entries of the response follow: carry out what [`SyncSession::receiver`] says.
    Receive,
    /// The sync is over.
    Done(Report),
}

/// Makes one tree equal with one peer: asks for the entries that this side lacks, stores them as they
/// arrive, then sends those that the peer lacks.
///
/// Ask [`SyncSession::poll_step`] what to do, do it, and hand the result to the `handle_…` that the
/// step names, over and over until [`Step::Done`]. The session owns no store and no connection: a
/// driver carries out what it says. When the driver must give up, because the connection broke or
/// the session returned a fault, it tells the receiver
/// ([`EntryReceiver::handle_break`]) and stores what that still gives; it asks the session
/// nothing else then.
///
/// ```text
/// Ask ── view ──> Asked ── header ──> Receiving ── end ──> Pulled ── view ──┐
///  ^                │ equal                                                 │ parents or tips missing
///  └────────────────┼───────────────────────────────────────────────────────┤
///                   v                                                       v
///                 Done <── view ── Acknowledged <── header ── Sent <── peer lacks entries
/// ```
pub struct SyncSession {
    tree: TreeId,
    push: bool,
    comparison: Comparison,
    state: State,
    peer: Option<PublicKey>,
    receiver: EntryReceiver,
    /// What was asked for by id in the last request.
    wants: BTreeSet<EntryId>,
    /// The peer's tips at the end of its first answer. What it writes after that is for the next
    /// sync: a sync that chased the tips of a busy peer would never end.
    peer_tips: Vec<EntryId>,
    to_send: u64,
    /// A place in the peer's log before which this side has everything, once it has all that came.
    cursor: Cursor,
    /// What is not counted by the receiver.
    stats: Stats,
}

enum State {
    /// The next request is to be made.
    Ask,
    /// An exchange is to begin.
    Begin {
        header: Bytes,
        entries: Option<EntrySelection>,
        then: Box<State>,
    },
    /// The session awaits the first frame of the answer to a `SyncTree`.
    Asked,
    /// The receiver receives, or stores what it received.
    Receiving,
    /// Everything that arrived and can be stored is stored.
    Pulled,
    /// The session awaits the acknowledgement of what was sent.
    Sent,
    /// The peer has stored what was sent.
    Acknowledged {
        peer_tips: TipDigest,
        peer_lacks: bool,
        cursor: Cursor,
    },
    /// The sync is over.
    Done(SyncOutcome),
}

impl SyncSession {
    /// Begins a sync. The seed, eight random bytes, keys the filter.
    pub fn new(tree: TreeId, options: SyncOptions, seed: [u8; 8]) -> Self {
        Self {
            tree,
            push: options.push,
            comparison: Comparison::new(tree, options.filter_at_once, seed),
            state: State::Ask,
            peer: None,
            receiver: EntryReceiver::new(tree),
            wants: BTreeSet::new(),
            peer_tips: Vec::new(),
            to_send: 0,
            cursor: Cursor::NONE,
            stats: Stats::default(),
        }
    }

    /// Returns the tree.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Returns the machine that receives the entries of responses, for [`Step::Receive`].
    pub fn receiver(&mut self) -> &mut EntryReceiver {
        &mut self.receiver
    }

    /// Returns how far the sync has come.
    pub fn progress(&self) -> Progress {
        Progress::of(self.receiver.counts(), self.to_send)
    }

    /// Returns what the sync has cost so far.
    pub fn stats(&self) -> Stats {
        let counts = self.receiver.counts();
        Stats {
            response_bytes: self.stats.response_bytes + counts.end_bytes,
            received_bytes: counts.batch_bytes,
            received: counts.received,
            stored: counts.stored,
            redundant: counts.duplicates,
            ..self.stats
        }
    }

    /// Returns what to do next.
    pub fn poll_step(&mut self) -> Step {
        if matches!(self.state, State::Receiving) && self.receiver.is_done() {
            if let Some((tips, cursor)) = self.receiver.take_end()
                && self.wants.is_empty()
            {
                self.cursor = cursor;
                self.peer_tips = self.comparison.resolve(tips);
            }
            self.state = State::Pulled;
        }
        match &mut self.state {
            State::Ask | State::Pulled | State::Acknowledged { .. } => Step::View,
            State::Begin {
                header,
                entries,
                then,
            } => {
                let header = mem::take(header);
                let entries = entries.take();
                self.state = mem::replace(then, State::Ask);
                self.stats.round_trips += 1;
                self.stats.request_bytes += header.len() as u64;
                Step::Exchange { header, entries }
            }
            State::Asked | State::Sent => Step::ReceiveHeader,
            State::Receiving => Step::Receive,
            State::Done(outcome) => {
                let outcome = *outcome;
                let stats = self.stats();
                let cursor = self.cursor;
                Step::Done(Report {
                    outcome,
                    stats,
                    cursor,
                })
            }
        }
    }

    /// Takes a view of the tree, which may be empty.
    ///
    /// # Errors
    /// The peer's fault, or the view's error.
    pub fn handle_view<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Result<(), SyncFault>, V::Error> {
        match mem::replace(&mut self.state, State::Ask) {
            State::Ask => self.ask(view)?,
            State::Pulled => return self.pulled(view),
            State::Acknowledged {
                peer_tips,
                peer_lacks,
                cursor,
            } => {
                let is_equal = TipDigest::of_view(view)? == peer_tips;
                if is_equal {
                    self.cursor = cursor;
                }
                self.state = State::Done(match is_equal {
                    true => SyncOutcome::Equal,
                    false if peer_lacks => SyncOutcome::PeerLacksParents,
                    false => SyncOutcome::MovedOn,
                });
            }
            other => self.state = other,
        }
        Ok(Ok(()))
    }

    fn ask<V: EntryView + ?Sized>(&mut self, view: &V) -> Result<(), V::Error> {
        let wants = self.wants.iter().copied().collect();
        let request = self.comparison.request(view, wants)?;
        self.begin(request, None, State::Asked);
        self.stats.pull_round_trips += 1;
        Ok(())
    }

    fn begin(&mut self, request: Request, entries: Option<EntrySelection>, then: State) {
        self.state = State::Begin {
            header: RequestHeader::new(request).encode(),
            entries,
            then: Box::new(then),
        };
    }

    /// Looks whether anything is missing after a pull, and chooses what to send if not.
    fn pulled<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Result<(), SyncFault>, V::Error> {
        let missing = self.missing(view)?;
        if let Some(first) = missing.first() {
            // What was asked for by id must have come, and the rounds must come to an end.
            if let Some(withheld) = missing.intersection(&self.wants).next() {
                return Ok(Err(PeerFault::Withheld(*withheld).into()));
            }
            if self.stats.pull_round_trips >= PULL_ROUNDS_MAX {
                return Ok(Err(PeerFault::Withheld(*first).into()));
            }
            self.wants = missing.into_iter().take(WANTS_MAX).collect();
            self.comparison.sample();
            self.ask(view)?;
        } else if self.receiver.has_waiting() {
            // Every parent is here, so this stores one more entry at least, or finds a liar.
            self.receiver.retry();
            self.state = State::Receiving;
        } else {
            self.push(view)?;
        }
        Ok(Ok(()))
    }

    /// Returns the parents and the tips of the peer that are neither stored nor waiting.
    fn missing<V: EntryView + ?Sized>(&self, view: &V) -> Result<BTreeSet<EntryId>, V::Error> {
        let unseen_tips = self
            .peer_tips
            .iter()
            .filter(|tip| !self.receiver.waits(tip));
        let mut missing = BTreeSet::new();
        for id in self.receiver.missing().chain(unseen_tips.copied()) {
            // Other syncs may have brought it since the outcome said that it was missing.
            if view.arrival(&id)?.is_none() {
                missing.insert(id);
            }
        }
        Ok(missing)
    }

    /// Chooses what the peer lacks, and ends if it is to be sent nothing.
    fn push<V: EntryView + ?Sized>(&mut self, view: &V) -> Result<(), V::Error> {
        let lacking = walk::difference(view, &self.peer_tips)?;
        self.to_send = lacking.len() as u64;
        if lacking.is_empty() {
            let equal = TipDigest::of_view(view)? == TipDigest::of(&self.peer_tips);
            self.state = State::Done(match equal {
                true => SyncOutcome::Equal,
                false => SyncOutcome::MovedOn,
            });
        } else if !self.push {
            self.state = State::Done(SyncOutcome::Pulled);
        } else if !current_access(view)?.allows(self.peer.as_ref(), Role::Read) {
            self.state = State::Done(SyncOutcome::PeerMayNotRead);
        } else {
            let selection = EntrySelection::new(lacking, EndTips::Untold, Cursor::NONE);
            let request = Request::SendEntries(SendEntries {
                tree: self.tree,
                entries: selection.entry_count(),
            });
            self.begin(request, Some(selection), State::Sent);
        }
        Ok(())
    }

    /// Takes the key that the peer has proved. Without one, the peer is sent only what anyone may
    /// read.
    pub fn handle_peer(&mut self, key: Option<PublicKey>) {
        self.peer = key;
    }

    /// Takes the first frame of a response.
    ///
    /// # Errors
    /// The peer refuses, or breaks the protocol.
    pub fn handle_header(&mut self, frame: &[u8]) -> Result<(), SyncFault> {
        self.stats.response_bytes += frame.len() as u64;
        let reply = ResponseHeader::decode(frame)?.reply;
        let wanted = match (mem::replace(&mut self.state, State::Ask), reply) {
            (State::Asked, Ok(Reply::Sync(reply))) => return self.handle_sync_reply(reply),
            (State::Sent, Ok(Reply::Stored(stored))) => {
                self.handle_stored(stored);
                return Ok(());
            }
            (State::Sent, Err(error)) if error.code == ErrorCode::ReadOnly => {
                self.state = State::Done(SyncOutcome::PeerIsReadOnly);
                return Ok(());
            }
            (_, Err(error)) => return Err(error.into()),
            (State::Sent, _) => "an acknowledgement",
            (_, _) => "an answer to a comparison of tips",
        };
        Err(out_of_place("another answer", wanted))
    }

    fn handle_sync_reply(&mut self, reply: SyncReply) -> Result<(), SyncFault> {
        self.state = match reply {
            SyncReply::Equal(cursor) if self.wants.is_empty() => {
                self.cursor = cursor;
                State::Done(SyncOutcome::Equal)
            }
            SyncReply::Unknown(kind) => {
                let what = "an answer to a comparison";
                return Err(PeerFault::UnknownKind { what, kind }.into());
            }
            SyncReply::Equal(_) => {
                return Err(out_of_place("equal tips", "the entries asked for by id"));
            }
            SyncReply::Entries(count) => {
                self.receiver.begin(count);
                State::Receiving
            }
            SyncReply::SendFilter if self.wants.is_empty() && self.comparison.sample_better() => {
                State::Ask
            }
            SyncReply::SendFilter => return Err(out_of_place("a wish for a filter", "entries")),
        };
        Ok(())
    }

    /// Takes that the peer stored this many entries of those to send, in requests before the one whose
    /// answer follows. Entries that are too many for one request are sent in several.
    pub fn handle_stored_before(&mut self, stored: u32) {
        self.stats.peer_stored += u64::from(stored);
    }

    fn handle_stored(&mut self, stored: Stored) {
        self.stats.peer_stored += u64::from(stored.stored);
        self.state = State::Acknowledged {
            peer_tips: stored.tips,
            peer_lacks: !stored.missing.is_empty(),
            cursor: stored.cursor,
        };
    }

    /// Takes that the response ended, cleanly, where its first frame was expected.
    ///
    /// # Errors
    /// [`PeerFault::Incomplete`] if the protocol wants more.
    pub fn handle_end(&mut self) -> Result<(), SyncFault> {
        match self.state {
            State::Asked | State::Sent => Err(PeerFault::Incomplete.into()),
            _ => Ok(self.receiver.handle_end()?),
        }
    }

    /// Takes what was sent of the entries of [`Step::Exchange`].
    pub fn handle_sent(&mut self, entries: u64, bytes: u64) {
        self.stats.sent += entries;
        self.stats.sent_bytes += bytes;
    }
}

fn out_of_place(got: &'static str, wanted: &'static str) -> SyncFault {
    PeerFault::OutOfPlace { got, wanted }.into()
}
