//! Receiving entries: the same machine for a pull, a push and a watch.

use std::collections::{BTreeSet, HashSet};
use std::mem;

use eidetica_dag::{
    AppendOutcome, EntryId, TreeId, UNPROVEN_BYTES_MAX, UnprovenEntries, Verification,
    VerifiedEntry,
};

use crate::batch::BATCH_BYTES_MAX;
use crate::cursor::Cursor;
use crate::error::PeerFault;
use crate::received::Received;
use crate::sync_fault::SyncFault;
use crate::tips::EndTips;

/// Bytes of entries that are stored in one step while more arrive. Larger steps write faster;
/// smaller steps take less memory, of which two are held, and lose less when the process dies.
/// Measured, the durable store takes 6 % more processor time for steps of 2 MiB than of 4 MiB.
pub const APPEND_BYTES_TARGET: usize = 2 << 20;

/// How long entries wait for more, to be stored in one step with them, while nothing arrives. It
/// bounds what a dying process loses on a slow connection.
pub const APPEND_AFTER_SILENCE_MS: u64 = 250;

/// Most entries that wait for a parent in one sync. They wait because a filter took the parent for
/// known; a false positive has a few thousand descendants at the very most.
pub const WAITING_ENTRIES_MAX: usize = 4_096;

/// Most bytes of entries that wait for a parent in one sync.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// What the driver of an [`EntryReceiver`] does next.
#[derive(Debug)]
pub enum ReceiveStep {
    /// Read the next part and hand it to [`EntryReceiver::handle_part`]. At
    /// [`EntryReceiver::poll_wake`], if that comes first, ask for a step again.
    ReceivePart,
    /// Store these durably, all in one step, and hand the outcome to
    /// [`EntryReceiver::handle_appended`]. Until then the receiver gives
    /// [`ReceiveStep::ReceivePart`], so that more arrives meanwhile, and then
    /// [`ReceiveStep::AwaitAppend`].
    Append {
        /// The tree.
        tree: TreeId,
        /// Entries, parents before children.
        entries: Vec<VerifiedEntry>,
    },
    /// Wait for the outcome before you read more.
    AwaitAppend,
    /// The message has ended, and everything that can be stored is stored.
    Done,
}

/// What a receiver has received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveCounts {
    /// Entries that were announced.
    pub announced: u64,
    /// Entries that were received.
    pub received: u64,
    /// Entries that were received and stored.
    pub stored: u64,
    /// Entries that were received and had been stored before.
    pub duplicates: u64,
    /// Bytes of frames with entries.
    pub batch_bytes: u64,
    /// Bytes of frames that ended a message.
    pub end_bytes: u64,
}

/// Receives the entries of one tree and says what to store when.
///
/// Begin each message with [`EntryReceiver::begin`], or a stream of entries that has no end with
/// [`EntryReceiver::begin_endless`]. Then ask [`EntryReceiver::poll_step`] what to do, do it, and
/// hand the result to the `handle_…` that the step names, over and over until
/// [`ReceiveStep::Done`]. After a fault, or when the connection breaks, call
/// [`EntryReceiver::handle_break`] and go on to `Done`: what arrived is worth storing, because
/// parents come first.
///
/// Entries of a message are stored in steps of [`APPEND_BYTES_TARGET`], after
/// [`APPEND_AFTER_SILENCE_MS`] without a part, and at the end; entries of an endless stream as soon
/// as the store is free. At most one step is under way. Entries whose parents are missing are kept,
/// and tried once more when the sender has sent everything.
///
/// Several messages may follow each other; what waits is kept from one to the next.
#[derive(Debug)]
pub struct EntryReceiver {
    tree: TreeId,
    phase: Phase,
    counts: ReceiveCounts,
    unproven: UnprovenEntries,
    ready: Vec<VerifiedEntry>,
    ready_bytes: usize,
    last_part_ms: u64,
    is_appending: bool,
    waiting: Vec<VerifiedEntry>,
    waiting_ids: HashSet<EntryId>,
    waiting_bytes: usize,
    retry_is_due: bool,
    missing: BTreeSet<EntryId>,
    end: Option<(EndTips, Cursor)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No message is being received.
    Closed,
    /// A message with an announced number of entries.
    Announced,
    /// A stream without an end.
    Endless,
}

impl EntryReceiver {
    /// Makes a receiver of entries of a tree.
    pub fn new(tree: TreeId) -> Self {
        Self {
            tree,
            phase: Phase::Closed,
            counts: ReceiveCounts::default(),
            unproven: UnprovenEntries::default(),
            ready: Vec::new(),
            ready_bytes: 0,
            last_part_ms: 0,
            is_appending: false,
            waiting: Vec::new(),
            waiting_ids: HashSet::new(),
            waiting_bytes: 0,
            retry_is_due: false,
            missing: BTreeSet::new(),
            end: None,
        }
    }

    /// Returns the tree.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Returns what has been received so far, in all messages.
    pub fn counts(&self) -> ReceiveCounts {
        self.counts
    }

    /// Begins a message of as many entries as were announced.
    pub fn begin(&mut self, announced: u32) {
        self.counts.announced += u64::from(announced);
        self.phase = Phase::Announced;
    }

    /// Begins a stream of entries that has no end, such as a watch.
    pub fn begin_endless(&mut self) {
        self.phase = Phase::Endless;
    }

    /// Returns what to do next. `now_ms` is any clock that does not go back.
    pub fn poll_step(&mut self, now_ms: u64) -> ReceiveStep {
        let is_open = self.phase != Phase::Closed;
        if self.is_appending {
            return match is_open && self.ready_bytes < APPEND_BYTES_TARGET {
                true => ReceiveStep::ReceivePart,
                false => ReceiveStep::AwaitAppend,
            };
        }
        if mem::take(&mut self.retry_is_due) {
            self.retry_waiting();
        }
        if !self.ready.is_empty() && self.is_append_due(now_ms) {
            self.is_appending = true;
            self.ready_bytes = 0;
            return ReceiveStep::Append {
                tree: self.tree,
                entries: mem::take(&mut self.ready),
            };
        }
        match is_open {
            true => ReceiveStep::ReceivePart,
            false => ReceiveStep::Done,
        }
    }

    fn is_append_due(&self, now_ms: u64) -> bool {
        self.phase != Phase::Announced
            || self.ready_bytes >= APPEND_BYTES_TARGET
            || now_ms >= self.last_part_ms.saturating_add(APPEND_AFTER_SILENCE_MS)
    }

    /// Returns when [`EntryReceiver::poll_step`] gives something else than
    /// [`ReceiveStep::ReceivePart`] although no part arrives.
    pub fn poll_wake(&self) -> Option<u64> {
        let waits = self.phase != Phase::Closed && !self.is_appending && !self.ready.is_empty();
        waits.then(|| self.last_part_ms.saturating_add(APPEND_AFTER_SILENCE_MS))
    }

    /// Tells whether the message has ended and everything that can be stored is stored.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Closed
            && !self.is_appending
            && !self.retry_is_due
            && self.ready.is_empty()
    }

    /// Takes the next part, unpacked, and how many bytes its frame had.
    ///
    /// # Errors
    /// The sender gave up or breaks the protocol. What came before a faulty entry can be stored all
    /// the same.
    pub fn handle_part(
        &mut self,
        part: Received,
        frame_bytes: usize,
        now_ms: u64,
    ) -> Result<(), SyncFault> {
        if self.phase == Phase::Closed {
            let fault = PeerFault::OutOfPlace {
                got: "a frame",
                wanted: "the end of the message",
            };
            return Err(fault.into());
        }
        self.last_part_ms = now_ms;
        match part {
            Received::Entries(batch) => {
                self.counts.batch_bytes += frame_bytes as u64;
                self.handle_entries(batch)?;
            }
            Received::End { tips, cursor } => {
                self.counts.end_bytes += frame_bytes as u64;
                self.handle_caught_up()?;
                if self.phase == Phase::Announced && self.counts.received < self.counts.announced {
                    return Err(PeerFault::BadList("fewer entries than announced").into());
                }
                self.phase = Phase::Closed;
                self.end = Some((tips, cursor));
            }
            Received::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn handle_entries(&mut self, batch: Verification) -> Result<(), PeerFault> {
        self.counts.received += (batch.verified.len() + batch.unproven.len()) as u64;
        let mut entries = self.unproven.handle_batch(batch);
        if self.unproven.bytes() > UNPROVEN_BYTES_MAX + BATCH_BYTES_MAX {
            entries.append(&mut self.unproven.take_proven());
        }
        self.add_ready(entries);
        if self.unproven.bytes() > UNPROVEN_BYTES_MAX + BATCH_BYTES_MAX {
            self.prove_rest()?;
        }
        if self.phase == Phase::Announced && self.counts.received > self.counts.announced {
            return Err(PeerFault::BadList("more entries than announced"));
        }
        Ok(())
    }

    /// Takes that the sender has sent everything that it has for now. What waits is tried once
    /// more.
    ///
    /// # Errors
    /// [`PeerFault::Forged`] if an entry has no valid signature and no entry proves it.
    pub fn handle_caught_up(&mut self) -> Result<(), PeerFault> {
        self.prove_rest()?;
        self.retry_is_due = true;
        Ok(())
    }

    /// Looks for proof of the entries that have none so far.
    fn prove_rest(&mut self) -> Result<(), PeerFault> {
        let entries = self.unproven.take_proven();
        self.add_ready(entries);
        match self.unproven.first() {
            Some(forged) => Err(PeerFault::Forged(forged.id)),
            None => Ok(()),
        }
    }

    fn add_ready(&mut self, entries: Vec<VerifiedEntry>) {
        self.ready_bytes += bytes_of(&entries);
        self.ready.extend(entries);
    }

    /// Takes that the stream ended, cleanly, where a frame was expected.
    ///
    /// # Errors
    /// [`PeerFault::Incomplete`] if the sender has not said that it sent everything.
    pub fn handle_end(&self) -> Result<(), PeerFault> {
        match self.phase {
            Phase::Closed => Ok(()),
            Phase::Announced | Phase::Endless => Err(PeerFault::Incomplete),
        }
    }

    /// Takes that no more parts will come, whatever the reason. What is ready is stored; what waits
    /// is not tried again.
    pub fn handle_break(&mut self) {
        self.phase = Phase::Closed;
        self.retry_is_due = false;
    }

    /// Takes the outcome of a [`ReceiveStep::Append`].
    ///
    /// # Errors
    /// The sender's fault. What came before the faulty entry is stored.
    pub fn handle_appended(&mut self, outcome: AppendOutcome) -> Result<(), PeerFault> {
        self.is_appending = false;
        self.counts.stored += outcome.stored.len() as u64;
        self.counts.duplicates += outcome.duplicates as u64;
        if let Some(refusal) = outcome.refused {
            return Err(refusal.into());
        }
        self.waiting_bytes += bytes_of(&outcome.waiting);
        self.waiting_ids
            .extend(outcome.waiting.iter().map(|entry| entry.get().id()));
        // An entry must be stored with the entry that proves it, and a retry changes the
        // order of those that wait.
        let unsigned = |entry: &&VerifiedEntry| !entry.get().has_valid_signature();
        if let Some(entry) = outcome.waiting.iter().find(unsigned) {
            return Err(PeerFault::Forged(entry.get().id()));
        }
        // A batch shares one buffer; entries that wait must not keep the stored ones in memory.
        let waiting = outcome.waiting.into_iter().map(VerifiedEntry::detached);
        self.waiting.extend(waiting);
        let waiting_ids = &self.waiting_ids;
        self.missing.extend(
            outcome
                .missing
                .iter()
                .filter(|id| !waiting_ids.contains(*id)),
        );
        if self.waiting.len() > WAITING_ENTRIES_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            return Err(PeerFault::TooManyWaiting);
        }
        Ok(())
    }

    /// Makes what waits be tried once more, because its parents may be stored by now.
    pub(crate) fn retry(&mut self) {
        self.retry_is_due = true;
    }

    /// Puts entries that waited after those that are ready. Sorted by height, parents come before
    /// their children whatever the order of arrival: their heights are lower, or a lie.
    fn retry_waiting(&mut self) {
        self.missing.clear();
        self.waiting_ids.clear();
        self.ready_bytes += mem::take(&mut self.waiting_bytes);
        self.waiting.sort_by_key(|entry| entry.get().entry().height);
        self.ready.append(&mut self.waiting);
    }

    /// Returns the sender's tips and the end of its log, once, after it has sent everything.
    pub(crate) fn take_end(&mut self) -> Option<(EndTips, Cursor)> {
        self.end.take()
    }

    /// Returns how many bytes of entries are ready to be stored.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Returns how many bytes of entries are kept because no other entry vouches for them yet.
    pub(crate) fn unproven_bytes(&self) -> usize {
        self.unproven.bytes()
    }

    /// Tells whether any entry waits for a parent.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the parents that are missing and do not wait themselves, ascending.
    pub fn missing(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.missing.iter().copied()
    }

    /// Tells whether an entry was received and waits for a parent.
    pub(crate) fn waits(&self, id: &EntryId) -> bool {
        self.waiting_ids.contains(id)
    }
}

fn bytes_of(entries: &[VerifiedEntry]) -> usize {
    entries
        .iter()
        .map(|entry| entry.get().encoded().len())
        .sum()
}
