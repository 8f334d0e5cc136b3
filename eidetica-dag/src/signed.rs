//! Signed entries: an entry with its signature, its bytes and its id.

use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Buffer;
use crate::encoding::{self, EncodedEntry, decode_canonical};
use crate::entry::{Body, ENTRY_BYTES_MAX, Entry, EntryError};
use crate::id::{EntryId, TreeId};
use crate::key::{Purpose, SIGNATURE_BYTES, SecretKey, Signature};

/// An entry with its signature and its id.
///
/// Holding one proves that the entry is well formed, that its bytes are the canonical ones and that
/// the id was computed from them. [`verify_batch`](crate::verify_batch) checks whether the
/// signature is the author's.
///
/// A clone shares the entry's memory, and moving one moves a pointer, because entries are passed on
/// several times between the wire and the store.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEntry(Arc<Parts>);

/// What a [`SignedEntry`] is made of.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    id: EntryId,
    entry: Entry,
    /// Canonical bytes, then the signature. Data and extensions in `entry.body` are slices of it.
    encoded: Bytes,
}

impl SignedEntry {
    /// Signs an entry.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn sign(entry: Entry, key: &SecretKey) -> Result<Self, EntryError> {
        if entry.author != key.public() {
            return Err(EntryError::WrongSigner);
        }
        let signature = key.sign(Purpose::Entry, &encoding::canonical(&entry));
        Self::from_parts(entry, &signature)
    }

    /// Combines an entry and a signature, which is not checked.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn from_parts(entry: Entry, signature: &Signature) -> Result<Self, EntryError> {
        let mut buffer = Buffer::with_capacity(entry.encoded_bytes_guess());
        let id = encoding::append(&entry, signature, &mut buffer)?;
        let mut signed = Self::without_encoding(id, entry);
        signed.set_encoding(buffer.freeze());
        Ok(signed)
    }

    fn new(id: EntryId, entry: Entry, encoded: Bytes) -> Self {
        Self(Arc::new(Parts { id, entry, encoded }))
    }

    /// Begins an entry, to be finished with [`Self::set_encoding`].
    pub(crate) fn without_encoding(id: EntryId, entry: Entry) -> Self {
        Self::new(id, entry, Bytes::new())
    }

    /// Sets the bytes from which the id was computed.
    pub(crate) fn set_encoding(&mut self, encoded: Bytes) {
        let parts = Arc::make_mut(&mut self.0);
        if let Body::Data(data) | Body::Extension { bytes: data, .. } = &mut parts.entry.body {
            // The payload comes last. The caller's may be a slice of a much larger buffer, which it
            // would keep in memory.
            let end = encoded.len() - SIGNATURE_BYTES;
            *data = encoded.slice(end - data.len()..end);
        }
        parts.encoded = encoded;
    }

    /// Copies the entry's bytes into an allocation of their own. Entries from a batch share the
    /// batch's memory, which is freed only with the last of them.
    #[must_use]
    pub fn detached(mut self) -> Self {
        let encoded = Bytes::copy_from_slice(self.encoded());
        self.set_encoding(encoded);
        self
    }

    /// Reads canonical bytes followed by a signature, and computes the id. The signature is not
    /// checked.
    ///
    /// # Errors
    /// The rule that the bytes break.
    pub fn decode(encoded: Bytes) -> Result<Self, EntryError> {
        if encoded.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge {
                bytes: encoded.len(),
            });
        }
        let entry = decode_canonical(&encoded)?;
        entry.check_form()?;
        let canonical = &encoded[..encoded.len() - SIGNATURE_BYTES];
        // One entry has exactly one encoding: postcard reads some numbers in longer forms than it
        // writes, and those forms are refused here.
        if encoding::canonical(&entry) != canonical {
            return Err(EntryError::NotCanonical);
        }
        Ok(Self::new(encoding::id_of(&encoded), entry, encoded))
    }

    /// Reads back what a store wrote: bytes that were checked and hashed before they were written.
    /// Only a store calls this, with the id that it kept beside the bytes.
    ///
    /// # Errors
    /// [`EntryError::NotCanonical`] if the bytes are not an entry: the store is damaged.
    pub fn decode_stored(id: EntryId, encoded: Bytes) -> Result<Self, EntryError> {
        let entry = decode_canonical(&encoded)?;
        Ok(Self::new(id, entry, encoded))
    }

    /// Reads back what a store wrote, like [`Self::decode_stored`], and hashes it: whatever happened to
    /// the bytes since, they are the entry's.
    ///
    /// # Errors
    /// [`EntryError::NotCanonical`] if the bytes are not the entry of this id: the store is damaged.
    pub fn decode_hashed(id: EntryId, encoded: Bytes) -> Result<Self, EntryError> {
        if encoding::id_of(&encoded) != id {
            return Err(EntryError::NotCanonical);
        }
        Self::decode_stored(id, encoded)
    }

    /// Returns the id.
    pub fn id(&self) -> EntryId {
        self.0.id
    }

    /// Returns the entry without its signature.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// Returns the tree, which for a root is named by the root itself.
    pub fn tree(&self) -> TreeId {
        self.0.entry.tree.unwrap_or(TreeId::from_root(self.0.id))
    }

    /// Returns the canonical bytes followed by the signature.
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    /// Returns the parts of the encoding.
    pub fn parts(&self) -> EncodedEntry<'_> {
        EncodedEntry::parse(&self.0.encoded).expect("it was encoded here, or decoded")
    }

    /// Returns the signature.
    pub fn signature(&self) -> Signature {
        let bytes = self
            .encoded()
            .last_chunk()
            .expect("the encoding ends with a signature");
        Signature::from_bytes(*bytes)
    }

    /// Returns whether the signature is the author's.
    pub fn has_valid_signature(&self) -> bool {
        let canonical = &self.encoded()[..self.encoded().len() - SIGNATURE_BYTES];
        self.0
            .entry
            .author
            .verify(Purpose::Entry, canonical, &self.signature())
            .is_ok()
    }
}

impl std::fmt::Debug for SignedEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedEntry")
            .field("id", &self.0.id)
            .field("entry", &self.0.entry)
            .finish()
    }
}
