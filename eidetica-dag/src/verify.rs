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
//! What the argument does not give: an author who vouches for an entry of its own whose signature
//! is broken on purpose gets it into stores that receive both together, and not into a store that
//! receives the broken one alone until the other arrives with it. It harms nobody's entries but
//! this author's own.

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
#[derive(Debug)]
pub struct Verification {
    /// The entries before the first forged one, in the order given.
    pub verified: Vec<VerifiedEntry>,
    /// The first forged entry. What came behind it in the batch is dropped.
    pub forged: Option<Forged>,
    /// How many signatures were checked.
    pub signatures_checked: usize,
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
    let Scan {
        forged,
        signatures_checked,
    } = scan(&entries);
    let first_forged = forged.last().copied();
    let forged = first_forged.map(|index| Forged {
        id: entries[index].id(),
    });
    let genuine = first_forged.unwrap_or(entries.len());
    let verified = entries
        .into_iter()
        .take(genuine)
        .map(VerifiedEntry)
        .collect();
    Verification {
        verified,
        forged,
        signatures_checked,
    }
}

/// What [`scan`] found.
pub(crate) struct Scan {
    /// The places of all forged entries in the batch, descending.
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
