//! Signatures, checked once for each author's run instead of once for each entry.
//!
//! A signature that verifies says that the author signed bytes in which the parents are named by
//! their hashes, and an id covers the entry with its signature. So whoever signed an entry has
//! vouched for exactly these parents. Where a parent claims the **same author**, that author has
//! vouched for an entry in its own name, which is what the parent's own signature would say; and so
//! on along an unbroken path of the author's own entries. An author's program signs only on top of
//! entries that its own store admitted, so a forged entry does not get below a genuine one.
//!
//! A path ends at an entry of somebody else: that one vouches only for itself and for its own
//! author. Each author's newest entries in a batch, the ends of the runs, are checked one by one.
//!
//! It follows that a broken signature can be good: if its author has vouched for the entry by a later
//! one. An entry alone may then be refused where both together are taken, and replicas would judge
//! differently, if either could be stored without the other. So it cannot: [`crate::admit()`] stores
//! what is vouched for only together with what vouches for it, every replica that has the one has the
//! other, and a receiver to whom they come in different batches keeps the first until the second is
//! there: [`UnprovenEntries`].

use crate::entry::SignedEntry;
use crate::id::{EntryId, IdMap};
use crate::key::SecretKey;

/// An entry that its author signed, or vouched for with a later one.
///
/// Holding one proves authenticity, not that the author was allowed to write: that depends on
/// where the entry stands, see [`crate::admit()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry(SignedEntry);

/// An entry whose author neither signed it nor vouched for it: somebody forged or damaged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature of entry {id} is not its author's")]
pub struct Forged {
    /// The entry.
    pub id: EntryId,
}

/// What [`verify_batch`] found.
#[derive(Debug, Default)]
pub struct Verification {
    /// The entries that are proved by themselves or by each other, up to the first that is not.
    pub verified: Vec<VerifiedEntry>,
    /// That one and everything behind it, in the order given. It is forged, or what vouches for it
    /// stands in another batch.
    pub unproved: Vec<SignedEntry>,
    /// How many signatures were checked.
    pub signatures_checked: usize,
}

impl Verification {
    /// Returns the first entry that is not proved.
    pub fn forged(&self) -> Option<Forged> {
        let first = self.unproved.first()?;
        Some(Forged { id: first.id() })
    }
}

impl VerifiedEntry {
    /// Checks the signature of one entry.
    ///
    /// # Errors
    /// [`Forged`] if it is not the author's.
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
    pub fn sign(entry: crate::Entry, key: &SecretKey) -> Result<Self, crate::EntryError> {
        SignedEntry::sign(entry, key).map(Self)
    }

    /// Returns the entry.
    pub fn get(&self) -> &SignedEntry {
        &self.0
    }

    /// Returns the entry with its bytes in an allocation of their own: see
    /// [`SignedEntry::detached`].
    #[must_use]
    pub fn detached(self) -> Self {
        Self(self.0.detached())
    }

    /// Returns the entry.
    pub fn into_inner(self) -> SignedEntry {
        self.0
    }
}

/// Checks a batch in which parents stand before their children, one signature for each run.
pub fn verify_batch(entries: Vec<SignedEntry>) -> Verification {
    let scan = scan(&entries);
    let mut verification = Verification {
        signatures_checked: scan.signatures_checked,
        ..Verification::default()
    };
    let mut vouching = UnprovenEntries::default();
    verification.verified = if scan.forged.is_empty() {
        entries.into_iter().map(VerifiedEntry).collect()
    } else {
        // What is vouched for by an entry that is not proved yet must stay with it.
        verification.signatures_checked += entries.len();
        vouching.hold(entries);
        let verified = vouching.look();
        verification.unproved = vouching.held;
        verified
    };
    verification
}

/// Keeps entries that are not proved until what vouches for them comes in a later batch, and
/// everything behind them with them.
///
/// Here each signature is checked, so that what is given out is proved within itself. Nobody but
/// who signs wrongly on purpose ever gets here.
#[derive(Debug, Default)]
pub struct UnprovenEntries {
    held: Vec<SignedEntry>,
    /// Whether the signature of each is its author's.
    signed: Vec<bool>,
    bytes: usize,
    /// How many bytes came since it was last looked what is proved.
    unseen_bytes: usize,
}

/// Most bytes from the beginning of an entry whose signature is not good to the end of what vouches
/// for it, what stands between included. Whoever took both had them that close, stored them in one
/// step, and hands them on like that: so whoever keeps as much, and one batch more, takes them too.
pub const UNPROVEN_BYTES_MAX: usize = 8 << 20;

/// How many bytes come before it is looked again what is proved: each look is at all that is kept.
const LOOK_BYTES: usize = 256 << 10;

impl UnprovenEntries {
    /// Takes the next batch as it was verified, and returns what is proved by now, in order.
    pub fn handle(&mut self, batch: Verification) -> Vec<VerifiedEntry> {
        if self.held.is_empty() && batch.unproved.is_empty() {
            return batch.verified;
        }
        let begins = self.held.is_empty();
        let arrived = batch.verified.into_iter().map(VerifiedEntry::into_inner);
        self.hold(arrived.chain(batch.unproved).collect());
        if begins || self.unseen_bytes >= LOOK_BYTES {
            self.look()
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

    /// Returns what is proved by now, in order: to be asked when nothing more comes.
    pub fn look(&mut self) -> Vec<VerifiedEntry> {
        self.unseen_bytes = 0;
        let proved: Vec<SignedEntry> = self.held.drain(..self.proved()).collect();
        self.signed.drain(..proved.len());
        self.bytes -= bytes_of(&proved);
        proved.into_iter().map(VerifiedEntry).collect()
    }

    /// Returns how many entries at the front are proved without those behind them.
    fn proved(&self) -> usize {
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
        // For each entry, how far one has to read to know that it is proved.
        let mut reaches: Vec<Option<usize>> = (self.signed.iter().enumerate())
            .map(|(place, signed)| signed.then_some(place))
            .collect();
        for (place, entry) in self.held.iter().enumerate().rev() {
            let (Some(reach), said) = (reaches[place], entry.entry()) else {
                continue;
            };
            for parent in said.parents.iter().filter_map(|parent| places.get(parent)) {
                // A second entry of the same id may stand behind.
                let is_below = *parent < place;
                let is_own = self.held[*parent].entry().author == said.author;
                if is_below && is_own && ends[reach] - begins(*parent) <= UNPROVEN_BYTES_MAX {
                    let known = reaches[*parent].unwrap_or(reach);
                    reaches[*parent] = Some(known.min(reach));
                }
            }
        }
        let mut proved = 0;
        let mut furthest = 0;
        for (place, reach) in reaches.into_iter().enumerate() {
            let Some(reach) = reach else { break };
            furthest = furthest.max(reach);
            if furthest == place {
                proved = place + 1;
            }
        }
        proved
    }

    /// Returns the first entry that is not proved.
    pub fn first_unproved(&self) -> Option<Forged> {
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
    /// The places of all entries in the batch that are neither signed nor vouched for, descending.
    pub(crate) forged: Vec<usize>,
    /// How many signatures were checked.
    pub(crate) signatures_checked: usize,
}

/// Finds every forged entry of a batch in which parents stand before their children.
pub(crate) fn scan(entries: &[SignedEntry]) -> Scan {
    // A second entry of the same id, which no store needs, is not vouched for: it is checked.
    let places: IdMap<usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.id(), place))
        .collect();
    let mut is_vouched = vec![false; entries.len()];
    let mut forged = Vec::new();
    let mut signatures_checked = 0;
    // From the last to the first, so that whoever vouches is looked at before it is believed.
    for (index, entry) in entries.iter().enumerate().rev() {
        if !is_vouched[index] {
            signatures_checked += 1;
            if !entry.has_valid_signature() {
                forged.push(index);
                continue;
            }
        }
        let said = entry.entry();
        for place in said.parents.iter().filter_map(|parent| places.get(parent)) {
            is_vouched[*place] |= entries[*place].entry().author == said.author;
        }
    }
    Scan {
        forged,
        signatures_checked,
    }
}
