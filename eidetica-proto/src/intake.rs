//! Taking entries in: the receiving half of a pull and of a push alike.

use std::collections::{BTreeSet, HashSet};
use std::mem;

use eidetica_dag::{
    AppendOutcome, EntryId, TreeId, UNPROVEN_BYTES_MAX, UnprovenEntries, Verification,
    VerifiedEntry, verify_batch,
};

use crate::batch::{BATCH_BYTES_MAX, unpack};
use crate::error::{PeerFault, WireError};
use crate::message::Part;
use crate::tips::EndTips;

/// Most entries that wait for a parent in one sync. They wait because a filter took the parent for
/// known; a false positive has a few thousand descendants at the very most.
pub const WAITING_ENTRIES_MAX: usize = 4_096;

/// Most bytes of entries that wait for a parent in one sync.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// A part of a message, unpacked, its ids computed and its signatures checked.
///
/// Unpacking is the expensive half of receiving, and needs nothing but the frame: a driver does it
/// on whatever thread it likes, several at a time, and hands the results over in order.
#[derive(Debug)]
pub enum Received {
    /// Entries, parents before children.
    Entries(Verification),
    /// The sender has sent everything; its tips.
    End(EndTips),
    /// The sender cannot go on.
    Failed(WireError),
}

impl Received {
    /// Unpacks a frame behind a header.
    ///
    /// # Errors
    /// The peer's fault, if nothing in the frame is of use.
    pub fn from_frame(tree: TreeId, frame: &[u8]) -> Result<Self, PeerFault> {
        match Part::decode(frame)? {
            Part::Batch(batch) => {
                let entries = unpack(tree, batch)?;
                Ok(Self::Entries(verify_batch(entries)))
            }
            Part::End { tips } => Ok(Self::End(tips)),
            Part::Failed(error) => Ok(Self::Failed(error)),
        }
    }
}

/// Collects entries until they are stored.
///
/// Hand in what arrives with [`Intake::handle_entries`]; take what is to be stored with
/// [`Intake::poll_store`], store it durably, and report with [`Intake::handle_appended`]. Between the
/// two, more may be handed in. Entries whose parents are missing are kept until
/// [`Intake::retry_waiting`].
#[derive(Debug, Default)]
pub(crate) struct Intake {
    unproven: UnprovenEntries,
    ready: Vec<VerifiedEntry>,
    ready_bytes: usize,
    waiting: Vec<VerifiedEntry>,
    waiting_ids: HashSet<EntryId>,
    waiting_bytes: usize,
    missing: BTreeSet<EntryId>,
    pub(crate) received: u64,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
}

impl Intake {
    /// Takes a batch.
    ///
    /// # Errors
    /// [`PeerFault::Forged`] if an entry was kept too long and no other entry proved it.
    pub(crate) fn handle_entries(&mut self, batch: Verification) -> Result<(), PeerFault> {
        self.received += (batch.verified.len() + batch.unproven.len()) as u64;
        let mut entries = self.unproven.handle_batch(batch);
        if self.unproven.bytes() > UNPROVEN_BYTES_MAX + BATCH_BYTES_MAX {
            entries.append(&mut self.unproven.take_proven());
            if self.unproven.bytes() > UNPROVEN_BYTES_MAX + BATCH_BYTES_MAX {
                self.handle_end()?;
            }
        }
        self.take(entries);
        Ok(())
    }

    fn take(&mut self, entries: Vec<VerifiedEntry>) {
        self.ready_bytes += bytes_of(&entries);
        self.ready.extend(entries);
    }

    /// Takes that no more entries come.
    ///
    /// # Errors
    /// [`PeerFault::Forged`] if an entry is still unproven.
    pub(crate) fn handle_end(&mut self) -> Result<(), PeerFault> {
        let entries = self.unproven.take_proven();
        self.take(entries);
        match self.unproven.first() {
            Some(forged) => Err(PeerFault::Forged(forged.id)),
            None => Ok(()),
        }
    }

    /// Returns how many bytes of entries are ready to be stored.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Returns what is to be stored next, all of it in one step.
    pub(crate) fn poll_store(&mut self) -> Option<Vec<VerifiedEntry>> {
        self.ready_bytes = 0;
        Some(mem::take(&mut self.ready)).filter(|entries| !entries.is_empty())
    }

    /// Takes what became of the entries that were to be stored.
    ///
    /// # Errors
    /// The peer's fault. What came before the faulty entry is stored.
    pub(crate) fn handle_appended(&mut self, outcome: AppendOutcome) -> Result<(), PeerFault> {
        self.stored += outcome.stored.len() as u64;
        self.duplicates += outcome.duplicates as u64;
        if let Some(refusal) = outcome.refused {
            return Err(refusal.into());
        }
        self.waiting_bytes += bytes_of(&outcome.waiting);
        self.waiting_ids
            .extend(outcome.waiting.iter().map(|entry| entry.get().id()));
        // An entry must be stored with the entry that proves it, and those that wait are put into
        // another order.
        let unsigned = |entry: &&VerifiedEntry| !entry.get().has_valid_signature();
        if let Some(entry) = outcome.waiting.iter().find(unsigned) {
            return Err(PeerFault::Forged(entry.get().id()));
        }
        // Those that came with them and are stored must not stay in memory for them.
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

    /// Puts what waited behind what is ready, for its parents may have come. Parents stand before
    /// their children then, whatever the order of arrival: their heights are lower, or a lie.
    pub(crate) fn retry_waiting(&mut self) {
        self.missing.clear();
        self.waiting_ids.clear();
        self.ready_bytes += mem::take(&mut self.waiting_bytes);
        self.waiting.sort_by_key(|entry| entry.get().entry().height);
        self.ready.append(&mut self.waiting);
    }

    /// Tells whether any entry waits for a parent.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the parents that are missing and do not wait themselves, ascending.
    pub(crate) fn missing(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.missing.iter().copied()
    }

    /// Tells whether an entry is here and waits for a parent.
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
