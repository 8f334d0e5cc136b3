//! The canonical encoding of an entry: writing it, and reading its parts in place.
//!
//! ```text
//! encoded    = canonical · signature (64 bytes)
//! canonical  = version u8 · tree · parent count varint · parents (32 bytes each) · height varint
//!              · timestamp varint · author (32) · body
//! tree       = 0, or 1 · id (32)
//! body       = 0 · length varint · data, or 1 · changes of access, or 2 · genesis,
//!              or 3 · kind varint · length varint · content of an extension
//! ```
//!
//! This is what postcard writes, and varints are LEB128. It is written by hand because every
//! entry that is read or received is decoded here, and hashes and payloads are copied whole instead
//! of byte by byte.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::access::AccessChange;
use crate::entry::{AccessRule, Body, ENTRY_BYTES_MAX, ENTRY_VERSION, Entry, EntryError, Genesis};
use crate::id::{EntryId, ID_BYTES, TreeId};
use crate::key::{PublicKey, SIGNATURE_BYTES, Signature};
use crate::varint;

const DATA: u8 = 0;
const ACCESS: u8 = 1;
const GENESIS: u8 = 2;
const EXTENSION: u8 = 3;

/// The parts of an encoded entry, borrowed from its bytes without copying.
///
/// Holding one proves only that the bytes can be split into parts.
/// [`SignedEntry::decode`](crate::SignedEntry::decode) checks that they are canonical and keep the
/// rules of entries.
#[derive(Debug, Clone, Copy)]
pub struct EncodedEntry<'a> {
    /// The tree that the entry belongs to; `None` in a root.
    pub tree: Option<TreeId>,
    /// The ids of the parents.
    pub parents: &'a [[u8; ID_BYTES]],
    /// Number of steps on the longest path to the root.
    pub height: u32,
    /// The author's claim, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The author.
    pub author: PublicKey,
    /// What the entry carries.
    pub body: EncodedBody<'a>,
    /// The signature over everything before it.
    pub signature: &'a [u8; SIGNATURE_BYTES],
    /// The whole encoding, signature included.
    pub bytes: &'a [u8],
}

/// What an encoded entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedBody<'a> {
    /// Bytes of the application.
    Data(&'a [u8]),
    /// A list of [`AccessChange`](crate::AccessChange) as postcard writes it.
    Access(&'a [u8]),
    /// A [`Genesis`](crate::Genesis) as postcard writes it.
    Genesis(&'a [u8]),
    /// Content of a kind that this crate does not interpret.
    Extension {
        /// What `bytes` mean.
        kind: u32,
        /// The content.
        bytes: &'a [u8],
    },
}

impl<'a> EncodedEntry<'a> {
    /// Computes the id: the hash of all bytes.
    pub fn id(&self) -> EntryId {
        id_of(self.bytes)
    }

    /// Splits the bytes of an entry into its parts.
    ///
    /// # Errors
    /// [`EntryError::UnknownVersion`], and [`EntryError::NotCanonical`] if the bytes are not an entry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (canonical, signature) = bytes.split_last_chunk().ok_or(EntryError::NotCanonical)?;
        match canonical.first() {
            None | Some(&ENTRY_VERSION) => {}
            Some(&other) => return Err(EntryError::UnknownVersion(other)),
        }
        Self::take(canonical, signature, bytes).ok_or(EntryError::NotCanonical)
    }

    fn take(
        canonical: &'a [u8],
        signature: &'a [u8; SIGNATURE_BYTES],
        bytes: &'a [u8],
    ) -> Option<Self> {
        let mut rest = canonical.get(1..)?;
        let tree = match take_byte(&mut rest)? {
            0 => None,
            1 => Some(EntryId::from_bytes(*take_array(&mut rest)?)),
            _ => return None,
        };
        let parent_count = usize::try_from(varint::take(&mut rest)?).ok()?;
        let parents = take_bytes(&mut rest, parent_count.checked_mul(ID_BYTES)?)?;
        let height = u32::try_from(varint::take(&mut rest)?).ok()?;
        let timestamp_ms = varint::take(&mut rest)?;
        let author = PublicKey::from_bytes(*take_array(&mut rest)?);
        let body = match take_byte(&mut rest)? {
            DATA => EncodedBody::Data(take_last(rest)?),
            ACCESS => EncodedBody::Access(rest),
            GENESIS => EncodedBody::Genesis(rest),
            EXTENSION => EncodedBody::Extension {
                kind: u32::try_from(varint::take(&mut rest)?).ok()?,
                bytes: take_last(rest)?,
            },
            _ => return None,
        };
        Some(Self {
            tree: tree.map(TreeId::from_root),
            parents: parents.as_chunks().0,
            height,
            timestamp_ms,
            author,
            body,
            signature,
            bytes,
        })
    }
}

/// Reads an entry whose payload is a slice of `encoded`, without checking its form.
pub(crate) fn decode_canonical(encoded: &Bytes) -> Result<Entry, EntryError> {
    let parts = EncodedEntry::parse(encoded)?;
    let body = match parts.body {
        EncodedBody::Data(data) => Body::Data(encoded.slice_ref(data)),
        EncodedBody::Access(bytes) => Body::Access(AccessChange::decode_all(bytes)?),
        EncodedBody::Genesis(bytes) => Body::Genesis(Genesis::decode(bytes)?),
        EncodedBody::Extension { kind, bytes } => Body::Extension {
            kind,
            bytes: encoded.slice_ref(bytes),
        },
    };
    let parents = parts.parents.iter().copied().map(EntryId::from_bytes);
    Ok(Entry {
        tree: parts.tree,
        parents: parents.collect(),
        height: parts.height,
        timestamp_ms: parts.timestamp_ms,
        author: parts.author,
        body,
    })
}

impl AccessChange {
    /// Reads a list of changes, the content of [`EncodedBody::Access`].
    ///
    /// # Errors
    /// [`EntryError::NotCanonical`] if the bytes are not a list of changes.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, EntryError> {
        from_postcard(bytes)
    }
}

impl Genesis {
    /// Reads the content of [`EncodedBody::Genesis`].
    ///
    /// # Errors
    /// [`EntryError::UnknownAccessRule`], and [`EntryError::NotCanonical`] if the bytes are not a
    /// genesis.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        // A genesis with another rule may have other fields.
        if let Ok((rule, _)) = postcard::take_from_bytes::<AccessRule>(bytes) {
            rule.check()?;
        }
        from_postcard(bytes)
    }
}

fn from_postcard<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, EntryError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(EntryError::NotCanonical),
    }
}

/// Appends an entry and its signature to `buffer`, and returns the id.
///
/// # Errors
/// The rule that the entry breaks. The buffer is left as it was.
pub(crate) fn append(
    entry: &Entry,
    signature: &Signature,
    buffer: &mut Vec<u8>,
) -> Result<EntryId, EntryError> {
    entry.check_form()?;
    let start = buffer.len();
    write_canonical(entry, buffer);
    buffer.extend_from_slice(signature.as_bytes());
    let bytes = buffer.len() - start;
    if bytes > ENTRY_BYTES_MAX {
        buffer.truncate(start);
        return Err(EntryError::TooLarge { bytes });
    }
    Ok(id_of(&buffer[start..]))
}

/// Returns the id of an entry: the hash of its canonical bytes and its signature.
pub(crate) fn id_of(encoded: &[u8]) -> EntryId {
    EntryId::from_bytes(Sha256::digest(encoded).into())
}

/// Returns the canonical bytes of an entry, with room for a signature after them.
pub(crate) fn canonical(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entry.encoded_bytes_guess());
    write_canonical(entry, &mut bytes);
    bytes
}

/// Appends the canonical bytes of an entry to `buffer`.
fn write_canonical(entry: &Entry, buffer: &mut Vec<u8>) {
    buffer.push(ENTRY_VERSION);
    match &entry.tree {
        None => buffer.push(0),
        Some(tree) => {
            buffer.push(1);
            buffer.extend_from_slice(tree.as_bytes());
        }
    }
    varint::put(buffer, entry.parents.len() as u64);
    for parent in &entry.parents {
        buffer.extend_from_slice(parent.as_bytes());
    }
    varint::put(buffer, entry.height.into());
    varint::put(buffer, entry.timestamp_ms);
    buffer.extend_from_slice(entry.author.as_bytes());
    match &entry.body {
        Body::Data(data) => {
            buffer.push(DATA);
            put_bytes(buffer, data);
        }
        Body::Access(changes) => {
            buffer.push(ACCESS);
            put_postcard(buffer, changes);
        }
        Body::Genesis(genesis) => {
            buffer.push(GENESIS);
            put_postcard(buffer, genesis);
        }
        Body::Extension { kind, bytes } => {
            buffer.push(EXTENSION);
            varint::put(buffer, (*kind).into());
            put_bytes(buffer, bytes);
        }
    }
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

fn put_postcard<T: serde::Serialize>(buffer: &mut Vec<u8>, value: &T) {
    let before = std::mem::take(buffer);
    *buffer = postcard::to_extend(value, before).expect("a vector takes every byte");
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, tail) = rest.split_first()?;
    *rest = tail;
    Some(*byte)
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (bytes, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(bytes)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (array, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(array)
}

/// Takes bytes with their length in front, after which nothing may follow.
fn take_last(mut rest: &[u8]) -> Option<&[u8]> {
    let count = varint::take(&mut rest)?;
    Some(rest).filter(|rest| rest.len() as u64 == count)
}
