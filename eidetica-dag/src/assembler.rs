//! Assembling many entries at once.

use crate::buffer::Buffer;
use crate::encoding;
use crate::entry::{Entry, EntryError};
use crate::id::EntryId;
use crate::key::Signature;
use crate::signed::SignedEntry;

/// Assembles entries and signatures in one allocation. The signatures are not checked.
///
/// Allocating for each entry would cost as much as hashing it, because the memory is allocated on one
/// thread and freed on another. In return, each entry keeps the bytes of all entries in memory: to
/// keep few of many, call [`SignedEntry::detached`].
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Buffer,
    /// Their encodings are still missing.
    entries: Vec<SignedEntry>,
    /// Where the encoding of each ends.
    ends: Vec<usize>,
}

impl Assembler {
    /// Reserves room for this many entries with this many encoded bytes in all.
    pub fn with_capacity(entries: usize, encoded_bytes: usize) -> Self {
        Self {
            bytes: Buffer::with_capacity(encoded_bytes),
            entries: Vec::with_capacity(entries),
            ends: Vec::with_capacity(entries),
        }
    }

    /// Adds an entry and computes its id.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn push(&mut self, entry: Entry, signature: &Signature) -> Result<(), EntryError> {
        let id = encoding::append(&entry, signature, &mut self.bytes)?;
        self.entries.push(SignedEntry::without_encoding(id, entry));
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Returns the id of the entry that was added at this position, counted from zero.
    pub fn id(&self, number: usize) -> Option<EntryId> {
        self.entries.get(number).map(SignedEntry::id)
    }

    /// Returns the size of all encodings in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the entries in the order in which they were added.
    pub fn finish(mut self) -> Vec<SignedEntry> {
        let bytes = self.bytes.freeze();
        let mut start = 0;
        for (entry, end) in self.entries.iter_mut().zip(self.ends) {
            entry.set_encoding(bytes.slice(start..end));
            start = end;
        }
        self.entries
    }
}
