//! The asking side: one sync of one tree with one peer.

use std::collections::BTreeSet;
use std::mem;

use bytes::Bytes;
use eidetica_dag::{
    AppendOutcome, EntryId, EntryView, PublicKey, Role, TreeId, VerifiedEntry, current_access, walk,
};
use serde::Serialize;

use crate::cursor::Cursor;
use crate::error::{ErrorCode, PeerFault, WireError};
use crate::filter::{Filter, FilterBudget};
use crate::intake::{Intake, Received};
use crate::message::{
    Reply, Request, RequestHeader, ResponseHeader, Sample, SendEntries, SyncReply, SyncTree,
    WANTS_MAX,
};
use crate::outgoing::{Outgoing, listed_tips};
use crate::tips::{EndTips, TIPS_CHECKED_MAX, TIPS_LISTED_MAX, TipDigest, TipSet, TipSketch};

/// How many times a pull asks before it gives up. The second time is for a false positive of the
/// filter, one in some hundred syncs; a third is for one in the second filter, one in ten thousand.
pub const PULL_ROUNDS_MAX: u32 = 8;

/// Bytes of entries that are stored in one step while more are arriving. Larger steps write faster,
/// smaller ones take less memory, of which two are held, and lose less when the process dies.
/// Measured, the durable store takes 6 % more processor time for steps of 2 MiB than of 4 MiB.
pub const STORE_BYTES_TARGET: usize = 2 << 20;

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOptions {
    /// Whether the peer is sent what it lacks.
    pub push: bool,
    /// Whether the first request carries a filter. With it one round trip always does; without it
    /// the request is smaller, which pays where the trees are probably equal.
    pub filter_at_once: bool,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            push: true,
            filter_at_once: true,
        }
    }
}

/// What the driver does next.
pub enum Step {
    /// Take a view of the tree and hand it to [`SyncSession::handle_view`].
    View,
    /// Begin an exchange: send the header, and the entries behind it if there are any, to be made
    /// from the view last handed in.
    Exchange {
        /// The first frame of the request.
        header: Bytes,
        /// The frames behind it.
        entries: Option<Box<Outgoing>>,
    },
    /// Read the first frame of the response and hand it to [`SyncSession::handle_header`].
    ReceiveHeader,
    /// Read the next frame of the response and hand it to [`SyncSession::handle_part`].
    ReceivePart,
    /// Store these, and hand what became of them to [`SyncSession::handle_appended`]. Until then the
    /// session gives [`Step::ReceivePart`], so that more arrives meanwhile, and then
    /// [`Step::AwaitAppend`].
    Store(Vec<VerifiedEntry>),
    /// Wait for the store.
    AwaitAppend,
    /// The sync is over.
    Done(Report),
}

/// How a sync ended that nobody broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncOutcome {
    /// Both sides have the same tips.
    Equal,
    /// This side has all that the peer had; the peer was not sent what it lacks, as was wished.
    Pulled,
    /// This side has all that the peer had; the peer does not let this side write.
    PeerIsReadOnly,
    /// Each side got what the other had at first; one of them went on writing meanwhile.
    MovedOn,
    /// This side has all that the peer had; the peer was not sent what it lacks, for it may not read
    /// the tree, or did not prove that it may.
    PeerMayNotRead,
    /// The peer could not store all that it was sent, for it lacks parents of it: it was asked at
    /// the moment when it lost something. The next sync heals that.
    PeerLacksParents,
}

/// How a sync went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub ending: SyncOutcome,
    /// What it cost.
    pub stats: Stats,
    /// A place in the peer's log before which this side has everything.
    #[serde(skip)]
    pub cursor: Cursor,
}

/// What a sync cost. Bytes are those of frames, without what the transport puts around them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests until this side had everything.
    pub pull_round_trips: u32,
    /// Requests in all.
    pub round_trips: u32,
    /// Bytes of headers that were sent.
    pub request_bytes: u64,
    /// Bytes of headers and ends of streams that came back.
    pub response_bytes: u64,
    /// Bytes of batches that were received.
    pub received_bytes: u64,
    /// Bytes of batches that were sent.
    pub sent_bytes: u64,
    /// Entries that were received.
    pub received: u64,
    /// Entries that were received and stored.
    pub stored: u64,
    /// Entries that were received and had been stored before.
    pub redundant: u64,
    /// Entries that were sent.
    pub sent: u64,
    /// Entries that the peer stored of those that were sent.
    pub peer_stored: u64,
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries that the peer announced, as far as is known.
    pub expected: u64,
    /// Entries that were received.
    pub received: u64,
    /// Entries that are stored by this sync.
    pub stored: u64,
    /// Entries that the peer lacks, as far as is known.
    pub to_send: u64,
}

/// Why a sync ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncFault {
    /// The peer does not answer this request.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The peer broke the protocol.
    #[error(transparent)]
    Peer(#[from] PeerFault),
}

/// Makes one tree equal with one peer: asks for what is lacking here, stores it as it arrives, then
/// sends what is lacking there.
///
/// Ask [`SyncSession::poll_step`] what to do, do it, and hand the result to the `handle_…` that the
/// step names; over and over until [`Step::Done`]. The session owns no store and no connection: a
/// driver carries out what it says. When the driver must give up, because the connection broke or
/// the session returned a fault, [`SyncSession::poll_store`] gives what arrived and is worth
/// storing; nothing else is asked of the session then.
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
    options: SyncOptions,
    seed: [u8; 8],
    sampling: Sampling,
    /// The tips that the last request sketched, in the order of the sketch.
    sketched: Vec<EntryId>,
    state: State,
    peer: Option<PublicKey>,
    intake: Intake,
    storing: bool,
    /// What was asked for by id in the last request.
    wants: BTreeSet<EntryId>,
    /// The peer's tips at the end of its first answer. What it writes after that is for the next
    /// sync: whoever chases the tips of a busy peer never arrives.
    peer_tips: Vec<EntryId>,
    /// A place in the peer's log before which this side has everything, once it has all that came.
    cursor: Cursor,
    progress: Progress,
    stats: Stats,
}

/// How well the request samples the entries below the tips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sampling {
    /// Not at all: the trees are probably equal.
    None,
    /// For trees that differ in few of their tips.
    Small,
    /// As well as it gets.
    Full,
}

enum State {
    /// The next request is to be made.
    Ask,
    /// An exchange is to begin.
    Begin {
        header: Bytes,
        entries: Option<Box<Outgoing>>,
        then: Box<State>,
    },
    /// The first frame of the answer to a `SyncTree` is awaited.
    Asked,
    /// Parts are awaited.
    Receiving,
    /// The answer has ended.
    Pulled { retried: bool },
    /// The acknowledgement of what was sent is awaited.
    Sent,
    /// The peer has stored what was sent.
    Acknowledged {
        peer_tips: TipDigest,
        peer_lacks: bool,
        cursor: Cursor,
    },
    /// It is over.
    Done(SyncOutcome),
}

impl SyncSession {
    /// Begins a sync. The seed, eight random bytes, keys the filter.
    pub fn new(tree: TreeId, options: SyncOptions, seed: [u8; 8]) -> Self {
        Self {
            tree,
            options,
            seed,
            sampling: if options.filter_at_once {
                Sampling::Small
            } else {
                Sampling::None
            },
            sketched: Vec::new(),
            state: State::Ask,
            peer: None,
            intake: Intake::default(),
            storing: false,
            wants: BTreeSet::new(),
            peer_tips: Vec::new(),
            cursor: Cursor::NONE,
            progress: Progress::default(),
            stats: Stats::default(),
        }
    }

    /// Returns the tree.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Returns how far the sync has come.
    pub fn progress(&self) -> Progress {
        Progress {
            received: self.intake.received,
            stored: self.intake.stored,
            ..self.progress
        }
    }

    /// Returns what the sync has cost so far.
    pub fn stats(&self) -> Stats {
        Stats {
            received: self.intake.received,
            stored: self.intake.stored,
            redundant: self.intake.duplicates,
            ..self.stats
        }
    }

    /// Returns what to do next.
    pub fn poll_step(&mut self) -> Step {
        let receiving = matches!(self.state, State::Receiving);
        if !receiving || self.intake.ready_bytes() >= STORE_BYTES_TARGET {
            if self.storing {
                return Step::AwaitAppend;
            }
            if let State::Pulled { retried: false } = self.state {
                self.state = State::Pulled { retried: true };
                self.intake.retry_waiting();
            }
            if let Some(entries) = self.poll_store() {
                return Step::Store(entries);
            }
        }
        match &mut self.state {
            State::Ask | State::Pulled { .. } | State::Acknowledged { .. } => Step::View,
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
            State::Receiving => Step::ReceivePart,
            State::Done(ending) => {
                let ending = *ending;
                Step::Done(Report {
                    ending,
                    stats: self.stats(),
                    cursor: self.cursor,
                })
            }
        }
    }

    /// Returns entries that can be stored now, earlier than [`SyncSession::poll_step`] would give
    /// them: for a driver that has nothing else to do, or has to give up.
    pub fn poll_store(&mut self) -> Option<Vec<VerifiedEntry>> {
        if self.storing {
            return None;
        }
        let entries = self.intake.poll_store();
        self.storing = entries.is_some();
        entries
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
            State::Pulled { .. } => return self.pulled(view),
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
        let (tips, sample) = self.name_tips(view)?;
        // Another request, another seed: what was taken for known by mistake is so once.
        self.seed = u64::from_le_bytes(self.seed).wrapping_add(1).to_le_bytes();
        let wants = self.wants.iter().copied().collect();
        let request = Request::SyncTree(SyncTree {
            tree: self.tree,
            tips,
            sample,
            wants,
        });
        self.begin(request, None, State::Asked);
        self.stats.pull_round_trips += 1;
        Ok(())
    }

    /// Chooses how the request names the tips and samples what is below them.
    fn name_tips<V: EntryView + ?Sized>(&mut self, view: &V) -> Result<(TipSet, Sample), V::Error> {
        let digest = TipDigest::of_view(view)?;
        let tips = listed_tips(view)?;
        let count = tips.len();
        if self.sampling == Sampling::None {
            let few = count <= TIPS_CHECKED_MAX;
            let tips = if few {
                TipSet::Listed(tips)
            } else {
                TipSet::Digest(digest)
            };
            return Ok((tips, Sample::None));
        }
        let full = FilterBudget::for_tips(count);
        let small = FilterBudget::small_for_tips(count);
        if small == full {
            self.sampling = Sampling::Full;
        }
        let budget = if self.sampling == Sampling::Full {
            full
        } else {
            small
        };
        // Of an empty tree there is no filter: no tips ask for everything.
        let sample = match Filter::build(view, self.seed, budget)? {
            None => Sample::None,
            Some(filter) if self.sampling == Sampling::Full => Sample::Full(filter),
            Some(filter) => Sample::Small(filter),
        };
        if count <= TIPS_LISTED_MAX {
            return Ok((TipSet::Listed(tips), sample));
        }
        let (sketch, sketched) = TipSketch::new(digest, &tips, self.seed);
        self.sketched = sketched;
        Ok((TipSet::Sketch(sketch), sample))
    }

    fn begin(&mut self, request: Request, entries: Option<Box<Outgoing>>, then: State) {
        let header = RequestHeader::new(request).encode();
        self.state = State::Begin {
            header,
            entries,
            then: Box::new(then),
        };
    }

    /// Looks whether anything is missing after a pull, and chooses what to send if not.
    fn pulled<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Result<(), SyncFault>, V::Error> {
        let unseen_tips = self.peer_tips.iter().filter(|tip| !self.intake.waits(tip));
        let mut missing = BTreeSet::new();
        for id in self.intake.missing().chain(unseen_tips.copied()) {
            // Other syncs may have brought it since the outcome said that it was missing.
            if view.arrival(&id)?.is_none() {
                missing.insert(id);
            }
        }
        if missing.is_empty() && self.intake.has_waiting() {
            // Every parent is here, so this stores one more entry at least, or finds a liar.
            self.state = State::Pulled { retried: false };
            return Ok(Ok(()));
        }
        if let Some(first) = missing.first() {
            // What was asked for by id must have come, and the rounds must come to an end.
            if let Some(withheld) = missing.intersection(&self.wants).next() {
                return Ok(Err(PeerFault::Withheld(*withheld).into()));
            }
            if self.stats.pull_round_trips >= PULL_ROUNDS_MAX {
                return Ok(Err(PeerFault::Withheld(*first).into()));
            }
            self.wants = missing.into_iter().take(WANTS_MAX).collect();
            self.sampling = self.sampling.max(Sampling::Small);
            self.ask(view)?;
            return Ok(Ok(()));
        }

        let lacking = walk::difference(view, &self.peer_tips)?;
        self.progress.to_send = lacking.len() as u64;
        if lacking.is_empty() {
            let equal = TipDigest::of_view(view)? == TipDigest::of(&self.peer_tips);
            self.state = State::Done(if equal {
                SyncOutcome::Equal
            } else {
                SyncOutcome::MovedOn
            });
        } else if !self.options.push {
            self.state = State::Done(SyncOutcome::Pulled);
        } else if !current_access(view)?.allows(self.peer.as_ref(), Role::Read) {
            self.state = State::Done(SyncOutcome::PeerMayNotRead);
        } else {
            let outgoing = Outgoing::new(lacking, EndTips::Untold, Cursor::NONE);
            let entries = outgoing.entry_count();
            let request = Request::SendEntries(SendEntries {
                tree: self.tree,
                entries,
            });
            self.begin(request, Some(Box::new(outgoing)), State::Sent);
        }
        Ok(Ok(()))
    }

    /// Takes the key that the peer has proved. Without one, nothing is sent to it but what anyone
    /// may read.
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
                self.stats.peer_stored = stored.stored.into();
                let peer_lacks = !stored.missing.is_empty();
                self.state = State::Acknowledged {
                    peer_tips: stored.tips,
                    peer_lacks,
                    cursor: stored.cursor,
                };
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
        Err(PeerFault::OutOfPlace {
            got: "another answer",
            wanted,
        }
        .into())
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
                let fault = PeerFault::OutOfPlace {
                    got: "equal tips",
                    wanted: "the entries asked for by id",
                };
                return Err(fault.into());
            }
            SyncReply::Entries(count) => {
                self.progress.expected += u64::from(count);
                State::Receiving
            }
            SyncReply::SendFilter if self.sampling < Sampling::Full && self.wants.is_empty() => {
                self.sampling = match self.sampling {
                    Sampling::None => Sampling::Small,
                    Sampling::Small | Sampling::Full => Sampling::Full,
                };
                State::Ask
            }
            SyncReply::SendFilter => {
                let fault = PeerFault::OutOfPlace {
                    got: "a wish for a filter",
                    wanted: "entries",
                };
                return Err(fault.into());
            }
        };
        Ok(())
    }

    /// Takes the next frame of a response, unpacked, and how many bytes it had.
    ///
    /// # Errors
    /// The peer gave up, or breaks the protocol. What came before a faulty entry can be stored all
    /// the same.
    pub fn handle_part(&mut self, part: Received, frame_bytes: usize) -> Result<(), SyncFault> {
        if !matches!(self.state, State::Receiving) {
            let fault = PeerFault::OutOfPlace {
                got: "a frame",
                wanted: "the end of the response",
            };
            return Err(fault.into());
        }
        match part {
            Received::Entries(batch) => {
                self.stats.received_bytes += frame_bytes as u64;
                self.intake.handle_entries(batch)?;
                if self.intake.received > self.progress.expected {
                    return Err(PeerFault::BadList("more entries than announced").into());
                }
            }
            Received::End {
                tips: peer_tips,
                cursor,
            } => {
                self.stats.response_bytes += frame_bytes as u64;
                self.intake.handle_end()?;
                if self.intake.received < self.progress.expected {
                    return Err(PeerFault::BadList("fewer entries than announced").into());
                }
                if self.wants.is_empty() {
                    self.peer_tips = peer_tips.resolve(&self.sketched);
                    self.cursor = cursor;
                }
                self.state = State::Pulled { retried: false };
            }
            Received::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes that the response ended, cleanly, where a frame was to be received.
    ///
    /// # Errors
    /// [`PeerFault::Incomplete`] if the protocol wants more.
    pub fn handle_end(&mut self) -> Result<(), SyncFault> {
        match self.state {
            State::Asked | State::Receiving | State::Sent => Err(PeerFault::Incomplete.into()),
            _ => Ok(()),
        }
    }

    /// Takes what became of the entries of [`Step::Store`].
    ///
    /// # Errors
    /// The peer sent an entry that may not be stored. What came before it is.
    pub fn handle_appended(&mut self, outcome: AppendOutcome) -> Result<(), SyncFault> {
        self.storing = false;
        self.intake.handle_appended(outcome)?;
        Ok(())
    }

    /// Takes what was sent of the entries of [`Step::Exchange`].
    pub fn handle_sent(&mut self, entries: u64, bytes: u64) {
        self.stats.sent += entries;
        self.stats.sent_bytes += bytes;
    }
}
