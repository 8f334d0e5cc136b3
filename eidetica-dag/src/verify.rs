//! Signature checks: one for each author's run instead of one for each entry.
//!
//! The argument for why this suffices is in the documentation of [`verify_batch`].

use crate::entry::{Entry, EntryError};
use crate::id::{EntryId, IdMap};
use crate::key::SecretKey;
use crate::signed::SignedEntry;

/// An entry proven to be its author's, by its own signature or by a later entry of the author.
///
/// Holding one proves authenticity, not that the author may write: that depends on the entry's
/// ancestors, see [`admit`](crate::admit()).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry(SignedEntry);

/// Reports an entry that neither its own signature nor another entry proves: it is forged or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature of entry {id} is not its author's")]
pub struct Forged {
    /// The entry.
    pub id: EntryId,
}

/// What [`verify_batch`] found.
#[derive(Debug, Default)]
pub struct Verification {
    /// The entries before the first unproven one, proven by themselves or by each other.
    pub verified: Vec<VerifiedEntry>,
    /// The first unproven entry and all entries after it, in the order given. The first is forged,
    /// or the entry that proves it is in another batch.
    pub unproven: Vec<SignedEntry>,
    /// How many signatures were checked.
    pub signatures_checked: usize,
}

impl Verification {
    /// Returns the first unproven entry.
    pub fn forged(&self) -> Option<Forged> {
        let first = self.unproven.first()?;
        Some(Forged { id: first.id() })
    }
}

impl VerifiedEntry {
    /// Checks the signature of one entry.
    ///
    /// # Errors
    /// [`Forged`] if the signature is not the author's.
    pub fn verify(entry: SignedEntry) -> Result<Self, Forged> {
        if entry.has_valid_signature() {
            Ok(Self(entry))
        } else {
            Err(Forged { id: entry.id() })
        }
    }

    /// Signs an entry, which makes it authentic.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn sign(entry: Entry, key: &SecretKey) -> Result<Self, EntryError> {
        SignedEntry::sign(entry, key).map(Self)
    }

    /// Takes an entry out of a store. Only for stores, about entries that came into the same store by
    /// [`admit`](crate::admit()): nothing is checked.
    pub fn stored(entry: SignedEntry) -> Self {
        Self(entry)
    }

    /// Returns the entry.
    pub fn get(&self) -> &SignedEntry {
        &self.0
    }

    /// Copies the entry's bytes into an allocation of their own: see [`SignedEntry::detached`].
    #[must_use]
    pub fn detached(self) -> Self {
        Self(self.0.detached())
    }

    /// Returns the entry.
    pub fn into_inner(self) -> SignedEntry {
        self.0
    }
}

/// Verifies a batch in which parents come before their children, with few signature checks.
///
/// # Why one signature for each run is enough
///
/// An id covers the entry and its signature, and a signed entry names its parents by their ids. So
/// the author of an entry has also signed exactly these parents. Where a parent claims the **same
/// author**, this proves what the parent's own signature would prove; and so on along an unbroken
/// path of the author's own entries. An author's program signs only on top of entries that its own
/// store admitted, so no forged entry gets below a genuine one. A path ends at an entry by another
/// author, which proves only entries of that author. Checked one by one are therefore the ends of
/// the runs: each author's newest entries in the batch.
///
/// # Entries with a bad signature that a later entry proves
///
/// An author can sign an entry badly and prove it by a later one. Taken alone, the entry is
/// refused; taken together, both are accepted. Replicas would judge differently if one could be
/// stored without the other. So [`admit`](crate::admit()) stores such an entry only together with
/// the entry that proves it: a replica that has one has the other. A receiver to which they come in
/// different batches keeps the first until the second arrives: [`UnprovenEntries`].
pub fn verify_batch(entries: Vec<SignedEntry>) -> Verification {
    let scan = scan(&entries);
    let mut verification = Verification {
        signatures_checked: scan.signatures_checked,
        ..Verification::default()
    };
    let mut unproven = UnprovenEntries::default();
    verification.verified = if scan.forged.is_empty() {
        entries.into_iter().map(VerifiedEntry).collect()
    } else {
        // An entry that only an unproven entry proves must stay with it.
        verification.signatures_checked += entries.len();
        unproven.hold(entries);
        let verified = unproven.take_proven();
        verification.unproven = unproven.held;
        verified
    };
    verification
}

/// Keeps unproven entries, and all entries after them, until a later batch proves them.
///
/// Every signature is checked here, so the entries that come out are proven among themselves. Only
/// authors who sign badly on purpose cause entries to be kept.
#[derive(Debug, Default)]
pub struct UnprovenEntries {
    held: Vec<SignedEntry>,
    /// Whether the signature of each is its author's.
    signed: Vec<bool>,
    bytes: usize,
    /// How many bytes have arrived since proven entries were last taken.
    unseen_bytes: usize,
}

/// Most bytes from the start of an entry with a bad signature to the end of the entry that proves
/// it, entries between them included. A replica that accepted both received them this close, stored
/// them in one step and sends them like that, so a receiver that keeps this much and one more batch
/// accepts them as well.
pub const UNPROVEN_BYTES_MAX: usize = 8 << 20;

/// How many bytes arrive between two searches for proven entries. Each search visits all that is
/// kept.
const SEARCH_BYTES: usize = 256 << 10;

impl UnprovenEntries {
    /// Takes the next verified batch, and returns the entries that are proven so far, in order.
    pub fn handle_batch(&mut self, batch: Verification) -> Vec<VerifiedEntry> {
        if self.held.is_empty() && batch.unproven.is_empty() {
            return batch.verified;
        }
        let begins = self.held.is_empty();
        let arrived = batch.verified.into_iter().map(VerifiedEntry::into_inner);
        self.hold(arrived.chain(batch.unproven).collect());
        if begins || self.unseen_bytes >= SEARCH_BYTES {
            self.take_proven()
        } else {
            Vec::new()
        }
    }

    fn hold(&mut self, arrived: Vec<SignedEntry>) {
        let signed = arrived.iter().map(SignedEntry::has_valid_signature);
        self.signed.extend(signed);
        let bytes = bytes_of(&arrived);
        self.bytes += bytes;
        self.unseen_bytes += bytes;
        self.held.extend(arrived);
    }

    /// Removes and returns the entries that are proven so far, in order. Call it when the input
    /// ends.
    pub fn take_proven(&mut self) -> Vec<VerifiedEntry> {
        self.unseen_bytes = 0;
        let proven: Vec<SignedEntry> = self.held.drain(..self.proven_count()).collect();
        self.signed.drain(..proven.len());
        self.bytes -= bytes_of(&proven);
        proven.into_iter().map(VerifiedEntry).collect()
    }

    /// Returns how many entries at the front are proven without those after them.
    fn proven_count(&self) -> usize {
        let places: IdMap<usize> = (self.held.iter().enumerate())
            .map(|(place, entry)| (entry.id(), place))
            .collect();
        let mut ends = Vec::with_capacity(self.held.len());
        let mut end = 0;
        for entry in &self.held {
            end += entry.encoded().len();
            ends.push(end);
        }
        let begins = |place: usize| ends[place] - self.held[place].encoded().len();
        // For each entry, the place of the last entry needed to prove it.
        let mut reaches: Vec<Option<usize>> = (self.signed.iter().enumerate())
            .map(|(place, signed)| signed.then_some(place))
            .collect();
        for (place, entry) in self.held.iter().enumerate().rev() {
            let (Some(reach), said) = (reaches[place], entry.entry()) else {
                continue;
            };
            for parent in said.parents.iter().filter_map(|parent| places.get(parent)) {
                // A second entry with the same id may come later.
                let is_below = *parent < place;
                let is_own = self.held[*parent].entry().author == said.author;
                if is_below && is_own && ends[reach] - begins(*parent) <= UNPROVEN_BYTES_MAX {
                    let known = reaches[*parent].unwrap_or(reach);
                    reaches[*parent] = Some(known.min(reach));
                }
            }
        }
        let mut proven = 0;
        let mut furthest = 0;
        for (place, reach) in reaches.into_iter().enumerate() {
            let Some(reach) = reach else { break };
            furthest = furthest.max(reach);
            if furthest == place {
                proven = place + 1;
            }
        }
        proven
    }

    /// Returns the first entry that is kept.
    pub fn first(&self) -> Option<Forged> {
        let first = self.held.first()?;
        Some(Forged { id: first.id() })
    }

    /// Returns how many bytes of entries are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(entries: &[SignedEntry]) -> usize {
    entries.iter().map(|entry| entry.encoded().len()).sum()
}

/// What [`scan`] found.
pub(crate) struct Scan {
    /// The places of all unproven entries in the batch, descending.
    pub(crate) forged: Vec<usize>,
    /// How many signatures were checked.
    pub(crate) signatures_checked: usize,
}

/// Finds every unproven entry of a batch in which parents come before their children.
pub(crate) fn scan(entries: &[SignedEntry]) -> Scan {
    // A second entry with the same id, which no store needs, is not proven by others: it is checked.
    let places: IdMap<usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.id(), place))
        .collect();
    let mut is_proven = vec![false; entries.len()];
    let mut forged = Vec::new();
    let mut signatures_checked = 0;
    // From the last to the first, so that an entry is checked before it proves others.
    for (index, entry) in entries.iter().enumerate().rev() {
        if !is_proven[index] {
            signatures_checked += 1;
            if !entry.has_valid_signature() {
                forged.push(index);
                continue;
            }
        }
        let said = entry.entry();
        for place in said.parents.iter().filter_map(|parent| places.get(parent)) {
            is_proven[*place] |= entries[*place].entry().author == said.author;
        }
    }
    Scan {
        forged,
        signatures_checked,
    }
}
