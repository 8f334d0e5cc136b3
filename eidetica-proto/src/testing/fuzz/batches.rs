//! Packed batches: arbitrary bytes, and genuine batches that were changed.

use std::collections::HashSet;

use eidetica_dag::testing::fuzz::{Input, assert_entry, genuine};
use eidetica_dag::{Body, SignedEntry, TreeId, VerifiedEntry, verify_batch};

use crate::batch::{BATCH_BYTES_MAX, COMPRESSION_RATIO_MAX, Packer, unpack, unpack_purely};

/// Unpacks bytes: what comes out keeps every limit, is well formed, has the ids of its bytes, and
/// survives being packed and unpacked again.
pub fn batch(data: &[u8]) -> bool {
    let Some(entries) = unpack_with_both(data) else {
        return false;
    };
    assert_unpacked(&entries, data.len());
    true
}

/// Unpacks with either decoder of compressed batches: they never give different entries. One of them
/// may refuse what the other accepts, if a checksum was forged.
fn unpack_with_both(data: &[u8]) -> Option<Vec<SignedEntry>> {
    let purely = unpack_purely(tree(), data).ok();
    let entries = unpack(tree(), data).ok();
    if let (Some(entries), Some(purely)) = (&entries, &purely) {
        assert_eq!(entries, purely);
    }
    entries.or(purely)
}

/// Packs some of the genuine entries and changes the batch: of what comes out, only genuine entries
/// are taken for authentic.
pub fn batch_edit(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let chosen = input.byte();
    let places = 0..genuine().len();
    let chosen = places.filter(|place| chosen >> place & 1 == 1);
    let mut batch = pack(chosen.map(|place| &genuine()[place]));
    input.edit(&mut batch);
    let Some(entries) = unpack_with_both(&batch) else {
        return false;
    };
    assert_unpacked(&entries, batch.len());
    for entry in verify_batch(entries).verified {
        let entry = VerifiedEntry::into_inner(entry);
        assert!(genuine().contains(&entry), "a forgery: {entry:?}");
    }
    true
}

/// The tree of the genuine entries.
pub(super) fn tree() -> TreeId {
    TreeId::from_root(genuine()[0].id())
}

/// Checks what a batch of `batch_bytes` unpacked to.
fn assert_unpacked(entries: &[SignedEntry], batch_bytes: usize) {
    assert!(!entries.is_empty(), "an empty batch counts for nothing");
    let bytes: usize = entries.iter().map(|entry| entry.encoded().len()).sum();
    assert!(bytes <= BATCH_BYTES_MAX);
    let payload_bytes = entries.iter().map(|entry| match &entry.entry().body {
        Body::Data(data) | Body::Extension { bytes: data, .. } => data.len(),
        Body::Access(_) | Body::Genesis(_) => 0,
    });
    assert!(payload_bytes.sum::<usize>() <= batch_bytes * COMPRESSION_RATIO_MAX);
    for entry in entries {
        assert_entry(entry);
        assert!(entry.entry().tree.is_none_or(|named| named == tree()));
    }

    // A peer may repeat an entry, but this side packs none twice.
    let mut seen = HashSet::new();
    let once = entries.iter().filter(|entry| seen.insert(entry.id()));
    let once: Vec<SignedEntry> = once.cloned().collect();
    let packed = pack(&once);
    assert_eq!(unpack(tree(), &packed).as_ref(), Ok(&once));
    assert_eq!(pack(&once), packed, "the same entries, the same bytes");
}

fn pack<'a>(entries: impl IntoIterator<Item = &'a SignedEntry>) -> Vec<u8> {
    let mut packer = Packer::new();
    for entry in entries {
        packer.push(entry);
    }
    packer.finish()
}

/// Batches that are compressed and batches that are not: a few entries are too small for it.
pub(super) fn batch_seeds() -> Vec<Vec<u8>> {
    let all = genuine();
    let parts = [all, &all[..1], &all[1..2], &all[2..4], &all[4..], &all[3..]];
    parts.into_iter().map(pack).collect()
}

pub(super) fn batch_edit_seeds() -> Vec<Vec<u8>> {
    let unchanged = [0x7f, 0x01, 0x02, 0x0c, 0x70].map(|chosen| vec![chosen]);
    // The third byte from the front of a batch is before all hashes, and is exclusive-ored with 0.
    let nothing_done = vec![0x7f, 0, 2, 0, 0];
    unchanged.into_iter().chain([nothing_done]).collect()
}
