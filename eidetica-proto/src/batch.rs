//! Batches: entries packed for the wire.
//!
//! A batch is self-contained: it can be unpacked without earlier batches, on any thread. What can be
//! computed from the rest is left out. The tree is known from the request. Ids are
//! computed. A parent in the same batch is given by its distance; other parents are listed once.
//! Authors are listed once. Heights and timestamps are differences to the entry before. All that,
//! followed by the payloads, is compressed; keys, hashes and signatures do not compress, and precede
//! it as they are.
//!
//! ```text
//! batch      = mode u8 · packed length varint · raw length varint · entry count varint
//!              · author count varint · external count varint
//!              · authors (32 bytes each) · externals (32 each) · signatures (64 each) · packed
//! packed     = raw, or raw as one zstd frame with a checksum, by the mode
//! raw        = records · payloads
//! record     = author index · height − previous (zigzag) · timestamp − previous (zigzag)
//!              · body kind and length (length × 4 + kind) · what an extension means
//!              · parent count · parents
//! parent     = 2 × distance back in the batch, or 2 × index of an external + 1
//! ```
//!
//! All numbers are varints (LEB128). The parents of an entry are sorted by id after unpacking.

mod reader;

use std::collections::HashMap;

use bytes::Bytes;
use eidetica_dag::{
    AccessChange, Assembler, Body, ENTRY_BYTES_MAX, EncodedBody, EncodedEntry, Entry, EntryId,
    Genesis, IdMap, PARENTS_MAX, PublicKey, SIGNATURE_BYTES, Signature, SignedEntry, TreeId,
    varint,
};

use crate::batch_error::BatchError;
use crate::compression::{compress, decompress};
use reader::{Reader, put_difference};

pub use crate::batch_error::COMPRESSION_RATIO_MAX;

/// Most bytes, as they are stored, of the entries in a batch of several. Large enough that
/// compression and durable writes pay, small enough that a few of them in flight cost no memory.
pub const BATCH_BYTES_TARGET: usize = 256 << 10;

/// Most bytes of entries in any batch: a larger entry than [`BATCH_BYTES_TARGET`] goes alone.
pub const BATCH_BYTES_MAX: usize = ENTRY_BYTES_MAX;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

const KIND_DATA: u64 = 0;
const KIND_ACCESS: u64 = 1;
const KIND_GENESIS: u64 = 2;
const KIND_EXTENSION: u64 = 3;

/// Packs entries into batches.
///
/// Call [`Packer::push`] for each entry, parents before children; before it [`Packer::finish`] where
/// [`Packer::has_room_for`] says no, and at the end. A packer is used again for the next batch.
#[derive(Debug, Default)]
pub struct Packer {
    entry_bytes: usize,
    authors: Vec<PublicKey>,
    author_index: HashMap<PublicKey, u64>,
    externals: Vec<EntryId>,
    external_index: IdMap<u64>,
    position: IdMap<u64>,
    signatures: Vec<u8>,
    records: Vec<u8>,
    payloads: Vec<u8>,
    packed: Vec<u8>,
    previous: Previous,
}

#[derive(Debug, Default, Clone, Copy)]
struct Previous {
    height: u32,
    timestamp_ms: u64,
}

impl Packer {
    /// Makes a packer with an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an entry into the batch.
    pub fn push(&mut self, signed: &SignedEntry) {
        self.push_encoded(signed.id(), signed.parts());
    }

    /// Puts an entry into the batch, as a store keeps it.
    pub fn push_encoded(&mut self, id: EntryId, entry: EncodedEntry<'_>) {
        let index = self.position.len() as u64;
        self.entry_bytes += entry.bytes.len();

        let author = self.author(entry.author);
        varint::put(&mut self.records, author);
        put_difference(
            &mut self.records,
            u64::from(entry.height),
            self.previous.height.into(),
        );
        put_difference(
            &mut self.records,
            entry.timestamp_ms,
            self.previous.timestamp_ms,
        );
        self.previous = Previous {
            height: entry.height,
            timestamp_ms: entry.timestamp_ms,
        };

        let (kind, payload) = match entry.body {
            EncodedBody::Data(data) => (KIND_DATA, data),
            EncodedBody::Access(changes) => (KIND_ACCESS, changes),
            EncodedBody::Genesis(genesis) => (KIND_GENESIS, genesis),
            EncodedBody::Extension { bytes, .. } => (KIND_EXTENSION, bytes),
        };
        self.payloads.extend_from_slice(payload);
        varint::put(&mut self.records, (payload.len() as u64) << 2 | kind);
        if let EncodedBody::Extension { kind, .. } = entry.body {
            varint::put(&mut self.records, kind.into());
        }

        varint::put(&mut self.records, entry.parents.len() as u64);
        for parent in entry.parents {
            let parent = EntryId::from_bytes(*parent);
            let reference = match self.position.get(&parent) {
                Some(position) => (index - position) << 1,
                None => self.external(parent) << 1 | 1,
            };
            varint::put(&mut self.records, reference);
        }
        self.signatures.extend_from_slice(entry.signature);
        self.position.insert(id, index);
    }

    /// Returns the place of an author in the list.
    fn author(&mut self, author: PublicKey) -> u64 {
        let authors = &mut self.authors;
        *self.author_index.entry(author).or_insert_with(|| {
            authors.push(author);
            authors.len() as u64 - 1
        })
    }

    /// Returns the place in the list of a parent that is not in the batch.
    fn external(&mut self, parent: EntryId) -> u64 {
        let externals = &mut self.externals;
        *self.external_index.entry(parent).or_insert_with(|| {
            externals.push(parent);
            externals.len() as u64 - 1
        })
    }

    /// Returns whether the batch has room for an entry of this many encoded bytes. An empty batch
    /// takes any.
    pub fn has_room_for(&self, encoded_bytes: usize) -> bool {
        self.has_room_within(BATCH_BYTES_TARGET, encoded_bytes)
    }

    /// Returns the same for a batch of another size.
    pub(crate) fn has_room_within(&self, target: usize, encoded_bytes: usize) -> bool {
        self.is_empty() || self.entry_bytes + encoded_bytes <= target
    }

    /// Returns how many entries are in the batch.
    pub fn len(&self) -> usize {
        self.position.len()
    }

    /// Returns whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.position.is_empty()
    }

    /// Returns the packed batch and begins an empty one.
    pub fn finish(&mut self) -> Vec<u8> {
        self.records.append(&mut self.payloads);
        let raw = &self.records;
        let packed = &mut self.packed;
        let is_packed = compress(raw, packed)
            && packed.len() < raw.len()
            && raw.len() <= packed.len() * COMPRESSION_RATIO_MAX;
        let (mode, packed) = if is_packed {
            (ZSTD, &self.packed)
        } else {
            (STORED, raw)
        };
        let hashes = 32 * (self.authors.len() + self.externals.len());
        let mut batch = Vec::with_capacity(packed.len() + self.signatures.len() + hashes + 32);
        batch.push(mode);
        let counts = [
            packed.len(),
            raw.len(),
            self.len(),
            self.authors.len(),
            self.externals.len(),
        ];
        counts
            .iter()
            .for_each(|count| varint::put(&mut batch, *count as u64));
        self.authors
            .iter()
            .for_each(|author| batch.extend_from_slice(author.as_bytes()));
        self.externals
            .iter()
            .for_each(|id| batch.extend_from_slice(id.as_bytes()));
        batch.extend_from_slice(&self.signatures);
        batch.extend_from_slice(packed);
        self.clear();
        batch
    }

    /// Empties everything and keeps the memory for the next batch.
    fn clear(&mut self) {
        self.entry_bytes = 0;
        self.authors.clear();
        self.author_index.clear();
        self.externals.clear();
        self.external_index.clear();
        self.position.clear();
        self.signatures.clear();
        self.records.clear();
        self.payloads.clear();
        self.previous = Previous::default();
    }
}

/// Unpacks a batch of entries of `tree`, computing every id. Signatures are not checked.
///
/// Work and memory are bounded by [`BATCH_BYTES_MAX`], whatever the bytes say.
///
/// # Errors
/// The rule that the batch breaks; none of it is of use then.
pub fn unpack(tree: TreeId, batch: &[u8]) -> Result<Vec<SignedEntry>, BatchError> {
    unpack_with(decompress, tree, batch)
}

/// Does what [`unpack`] does without the feature `zstd`.
#[cfg(feature = "test-utils")]
pub(crate) fn unpack_purely(tree: TreeId, batch: &[u8]) -> Result<Vec<SignedEntry>, BatchError> {
    unpack_with(crate::compression::decompress_purely, tree, batch)
}

fn unpack_with(
    decompress: fn(&[u8], usize) -> Option<Bytes>,
    tree: TreeId,
    batch: &[u8],
) -> Result<Vec<SignedEntry>, BatchError> {
    let mut input = Reader::new(batch);
    let mode = input.byte()?;
    let packed_bytes = input.count(batch.len())?;
    let raw_bytes = input.count(BATCH_BYTES_MAX)?;
    let entry_count = input.count(batch.len() / SIGNATURE_BYTES)?;
    if entry_count == 0 {
        // Empty batches could follow each other for ever without anything to count.
        return Err(BatchError::Malformed);
    }
    let author_count = input.count(entry_count)?;
    let external_count = input.count(batch.len() / 32)?;
    let authors = input
        .array(author_count)?
        .iter()
        .copied()
        .map(PublicKey::from_bytes);
    let authors: Vec<PublicKey> = authors.collect();
    let externals = input
        .array(external_count)?
        .iter()
        .copied()
        .map(EntryId::from_bytes);
    let externals: Vec<EntryId> = externals.collect();
    let signatures = input.array::<SIGNATURE_BYTES>(entry_count)?;
    let packed = input.bytes(packed_bytes)?;
    input.end()?;

    let raw: Bytes = match mode {
        STORED if packed.len() == raw_bytes => Bytes::copy_from_slice(packed),
        ZSTD if raw_bytes > packed.len().saturating_mul(COMPRESSION_RATIO_MAX) => {
            return Err(BatchError::RatioTooHigh);
        }
        ZSTD => {
            let raw = decompress(packed, raw_bytes);
            raw.ok_or(BatchError::NotCompressed)?
        }
        _ => return Err(BatchError::Malformed),
    };
    let mut records = Reader::new(&raw);
    let heads = Heads::read(&mut records, entry_count)?;
    let mut payloads = raw.slice_ref(records.rest());

    let encoded_bytes = payloads.len() + heads.encoded_bytes_max();
    let encoded_bytes = encoded_bytes.min(BATCH_BYTES_MAX);
    let mut entries = Assembler::with_capacity(entry_count, encoded_bytes);
    let mut references = heads.references.as_slice();
    for (index, (head, signature)) in heads.heads.iter().zip(signatures).enumerate() {
        let (own, rest) = references.split_at(head.parent_count);
        references = rest;
        let parent = |reference: &u64| {
            let number = usize::try_from(reference >> 1).map_err(|_| BatchError::Malformed)?;
            let known = if reference & 1 == 1 {
                externals.get(number).copied()
            } else {
                let position = index.checked_sub(number).filter(|_| number > 0);
                position.and_then(|position| entries.id(position))
            };
            known.ok_or(BatchError::Malformed)
        };
        let parents = own.iter().map(parent);
        let mut parents = parents.collect::<Result<Vec<EntryId>, _>>()?;
        parents.sort_unstable();
        if payloads.len() < head.payload_bytes {
            return Err(BatchError::Malformed);
        }
        let payload = payloads.split_to(head.payload_bytes);
        let body = match head.kind {
            Kind::Data => Body::Data(payload),
            Kind::Access => Body::Access(AccessChange::decode_all(&payload)?),
            Kind::Genesis => Body::Genesis(Genesis::decode(&payload)?),
            Kind::Extension(kind) => Body::Extension {
                kind,
                bytes: payload,
            },
        };
        let author = authors.get(head.author).ok_or(BatchError::Malformed)?;
        let entry = Entry {
            tree: (!matches!(body, Body::Genesis(_))).then_some(tree),
            parents,
            height: head.height,
            timestamp_ms: head.timestamp_ms,
            author: *author,
            body,
        };
        entries.push(entry, &Signature::from_bytes(*signature))?;
        if entries.encoded_bytes() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge);
        }
    }
    if payloads.is_empty() {
        Ok(entries.finish())
    } else {
        Err(BatchError::Malformed)
    }
}

/// The records of a batch.
struct Heads {
    heads: Vec<Head>,
    /// The parents of all entries, one after the other.
    references: Vec<u64>,
}

/// A record as encoded in the batch.
struct Head {
    author: usize,
    height: u32,
    timestamp_ms: u64,
    kind: Kind,
    payload_bytes: usize,
    parent_count: usize,
}

/// The kind of a body in a record.
enum Kind {
    Data,
    Access,
    Genesis,
    Extension(u32),
}

impl Kind {
    fn read(records: &mut Reader<'_>, kind: u64) -> Result<Self, BatchError> {
        Ok(match kind {
            KIND_DATA => Self::Data,
            KIND_ACCESS => Self::Access,
            KIND_GENESIS => Self::Genesis,
            KIND_EXTENSION => {
                let kind = records.varint()?;
                Self::Extension(u32::try_from(kind).map_err(|_| BatchError::Malformed)?)
            }
            _ => return Err(BatchError::Malformed),
        })
    }
}

impl Heads {
    fn read(records: &mut Reader<'_>, entry_count: usize) -> Result<Self, BatchError> {
        let mut heads = Vec::with_capacity(entry_count);
        let mut references = Vec::with_capacity(entry_count);
        let mut previous = Previous::default();
        for _ in 0..entry_count {
            let author = records.count(entry_count)?;
            let height = records.difference(previous.height.into())?;
            let height = u32::try_from(height).map_err(|_| BatchError::Malformed)?;
            let timestamp_ms = records.difference(previous.timestamp_ms)?;
            previous = Previous {
                height,
                timestamp_ms,
            };
            let kind_and_bytes = records.varint()?;
            let payload_bytes =
                usize::try_from(kind_and_bytes >> 2).map_err(|_| BatchError::Malformed)?;
            let kind = Kind::read(records, kind_and_bytes & 3)?;
            let parent_count = records.count(PARENTS_MAX)?;
            for _ in 0..parent_count {
                references.push(records.varint()?);
            }
            heads.push(Head {
                author,
                height,
                timestamp_ms,
                kind,
                payload_bytes,
                parent_count,
            });
        }
        Ok(Self { heads, references })
    }

    /// Returns how many bytes the entries have at most when they are encoded, payloads excepted.
    fn encoded_bytes_max(&self) -> usize {
        // Version, tree, number of parents, height, timestamp, author, body, extension, length.
        const FIXED_BYTES_MAX: usize = 1 + 33 + 2 + 5 + 10 + 32 + 1 + 5 + 5 + SIGNATURE_BYTES;
        self.heads.len() * FIXED_BYTES_MAX + self.references.len() * 32
    }
}
