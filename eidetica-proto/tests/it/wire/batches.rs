//! Packed batches: nothing is lost, nothing damaged gets through, nothing costs much to refuse.

use bytes::Bytes;
use eidetica_dag::testing::shapes::{build_with, sign_on_top};
use eidetica_dag::testing::{Shape, key, open_genesis};
use eidetica_dag::{
    AccessChange, Body, Role, SignedEntry, Subject, TreeId, VerifiedEntry, varint, verify_batch,
};
use eidetica_proto::batch::{COMPRESSION_RATIO_MAX, Packer, unpack};
use eidetica_proto::error::BatchError;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

fn pack<'a>(entries: impl IntoIterator<Item = &'a VerifiedEntry>) -> Vec<u8> {
    let mut packer = Packer::new();
    entries
        .into_iter()
        .for_each(|entry| packer.push(entry.get()));
    packer.finish()
}

fn ids(entries: &[SignedEntry]) -> Vec<eidetica_dag::EntryId> {
    entries.iter().map(SignedEntry::id).collect()
}

/// A few entries with every kind of body.
fn sample() -> (TreeId, Vec<VerifiedEntry>) {
    let root = sign_on_top(None, [], &key(0), 9, open_genesis("sample"));
    let tree = TreeId::from_root(root.get().id());
    let grant = Body::Access(vec![
        AccessChange::grant(Subject::Key(key(1).public()), Role::Write),
        AccessChange {
            subject: Subject::Anyone,
            role: None,
        },
    ]);
    let granted = sign_on_top(Some(tree), [&root], &key(0), u64::MAX, grant);
    let data = |text: &'static str| Body::Data(Bytes::from_static(text.as_bytes()));
    let left = sign_on_top(
        Some(tree),
        [&granted],
        &key(1),
        0,
        data("left left left left"),
    );
    let right = sign_on_top(Some(tree), [&root], &key(2), 77, data(""));
    let merge = sign_on_top(
        Some(tree),
        [&left, &right],
        &key(1),
        5,
        data("left and right"),
    );
    let extension = Body::Extension {
        kind: u32::MAX,
        bytes: Bytes::from_static(b"of a kind that no peer knows"),
    };
    let extended = sign_on_top(Some(tree), [&merge], &key(2), 6, extension);
    (tree, vec![root, granted, left, right, merge, extended])
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::put(&mut bytes, number);
    bytes
}

/// The beginning of a batch: mode, then packed length, raw length, entries, authors, externals.
fn head(mode: u8, counts: [u64; 5]) -> Vec<u8> {
    let counts = counts.into_iter().flat_map(varint);
    [mode].into_iter().chain(counts).collect()
}

#[test]
fn every_kind_of_body_survives() {
    let (tree, entries) = sample();
    let unpacked = unpack(tree, &pack(&entries)).expect("a batch");
    let wanted: Vec<SignedEntry> = entries.into_iter().map(VerifiedEntry::into_inner).collect();
    assert_eq!(unpacked, wanted);
}

#[test]
fn a_packer_is_used_again() {
    let (tree, entries) = sample();
    let mut packer = Packer::new();
    for part in [&entries[..2], &entries[2..]] {
        part.iter().for_each(|entry| packer.push(entry.get()));
        let unpacked = unpack(tree, &packer.finish()).expect("a batch needs no other");
        assert_eq!(unpacked.len(), part.len());
        assert!(packer.is_empty());
    }
}

#[test]
fn every_truncation_is_refused() {
    let (tree, entries) = sample();
    let batch = pack(&entries);
    for end in 0..batch.len() {
        assert!(unpack(tree, &batch[..end]).is_err(), "cut to {end} bytes");
    }
    let longer = [batch, vec![0]].concat();
    assert_eq!(unpack(tree, &longer), Err(BatchError::Malformed));
}

/// A flipped bit ends in an error, in entries without a valid signature, or, where the encoding has
/// two ways of saying the same, in the same entries.
#[test]
fn no_flipped_bit_makes_a_genuine_entry_of_another() {
    let (tree, entries) = sample();
    let batch = pack(&entries);
    let genuine: Vec<_> = entries.iter().map(|entry| entry.get().id()).collect();
    for bit in 0..batch.len() * 8 {
        let mut damaged = batch.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(unpacked) = unpack(tree, &damaged) else {
            continue;
        };
        if ids(&unpacked) == genuine {
            continue;
        }
        let verified = verify_batch(unpacked).verified;
        for entry in verified {
            assert!(genuine.contains(&entry.get().id()), "bit {bit}");
        }
    }
}

#[test]
fn the_wrong_tree_makes_entries_without_a_valid_signature() {
    let (_, entries) = sample();
    let other = TreeId::from_root(entries[1].get().id());
    let unpacked = unpack(other, &pack(&entries[1..])).expect("well formed");
    assert_eq!(verify_batch(unpacked).verified, []);
}

#[test]
fn decompression_bombs_are_refused() {
    let raw = vec![0; 1 << 20];
    let packed = compress_to_vec(raw.as_slice(), CompressionLevel::Fastest);
    assert!(raw.len() > packed.len() * COMPRESSION_RATIO_MAX);
    let bomb = |claimed: usize| {
        let mut batch = head(1, [packed.len() as u64, claimed as u64, 1, 0, 0]);
        batch.extend([0; 64]);
        batch.extend(&packed);
        batch
    };
    let tree = sample().0;
    assert_eq!(
        unpack(tree, &bomb(raw.len())),
        Err(BatchError::RatioTooHigh)
    );
    // It says that it is small, and is not.
    let small = packed.len() * COMPRESSION_RATIO_MAX;
    assert_eq!(unpack(tree, &bomb(small)), Err(BatchError::NotCompressed));
}

/// What compresses better than the limit allows is sent as it is.
#[test]
fn no_batch_of_ours_looks_like_a_bomb() {
    let (tree, entries) = sample();
    let zeros = Body::Data(Bytes::from(vec![0; 200_000]));
    let dull = sign_on_top(Some(tree), [&entries[0]], &key(1), 0, zeros);
    let batch = pack([&dull]);
    assert_eq!(
        ids(&unpack(tree, &batch).expect("a batch")),
        [dull.get().id()]
    );
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let tree = sample().0;
    for place in 0..5 {
        for count in [1 << 21, u64::from(u32::MAX), u64::MAX] {
            let mut counts = [0, 0, 1, 1, 0];
            counts[place] = count;
            let mut batch = head(0, counts);
            batch.extend([0; 96]);
            assert_eq!(
                unpack(tree, &batch),
                Err(BatchError::TooLarge),
                "{place}: {count}"
            );
        }
    }
    assert_eq!(
        unpack(tree, &head(0, [0; 5])),
        Err(BatchError::Malformed),
        "no entry"
    );
    let endless = [vec![0], vec![0xff; 64]].concat();
    assert_eq!(unpack(tree, &endless), Err(BatchError::Malformed));
}

/// Few bytes that stand for many: references to the same parent, over and over.
#[test]
fn what_unpacks_to_more_than_a_batch_is_refused() {
    let tree = sample().0;
    const ENTRIES: usize = 400;
    const PARENTS: usize = 256;
    // No author's index but 0, height +1, timestamp +0, data of length 0, 256 externals.
    let mut record = vec![0, 2, 0, 0];
    record.extend(varint(PARENTS as u64));
    (0..PARENTS as u64).for_each(|parent| record.extend(varint(parent << 1 | 1)));
    let raw: Vec<u8> = record.repeat(ENTRIES);
    let counts = [raw.len(), raw.len(), ENTRIES, 1, PARENTS].map(|count| count as u64);
    let mut batch = head(0, counts);
    batch.extend([1; 32]);
    (0..PARENTS).for_each(|parent| batch.extend([parent as u8; 32]));
    batch.extend([0; 64 * ENTRIES]);
    batch.extend(raw);
    assert_eq!(unpack(tree, &batch), Err(BatchError::TooLarge));
}

/// A text of 200 bytes in each of a few hundred entries.
#[cfg(feature = "zstd")]
#[test]
fn text_is_packed_to_six_tenths() {
    const WORDS: [&str; 24] = [
        "the",
        "tree",
        "of",
        "entries",
        "which",
        "peers",
        "exchange",
        "grows",
        "by",
        "every",
        "note",
        "that",
        "everyone",
        "writes",
        "and",
        "seldom",
        "removes",
        "again",
        "so",
        "its",
        "tips",
        "tell",
        "everything",
        "else",
    ];
    let mut random = eidetica_dag::testing::Random::new(1);
    let mut text = |_| {
        let mut text = String::new();
        while text.len() < 200 {
            text += WORDS[random.below(WORDS.len() as u32) as usize];
            text.push(' ');
        }
        text.truncate(200);
        Bytes::from(text)
    };
    let entries = build_with(&Shape::Braided.parents(500, 1), |n| n / 7 % 3, &mut text);
    let raw: usize = entries
        .iter()
        .map(|entry| entry.get().encoded().len())
        .sum();
    let packed = pack(&entries).len();
    assert!(packed * 10 <= raw * 6, "{raw} bytes packed into {packed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_entries_survive(
        shape in proptest::sample::select(Shape::ALL.to_vec()),
        size in 1..80_u32,
        from in 0..80_u32,
        seed in any::<u64>(),
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..9),
    ) {
        let payload = |n: u32| Bytes::from(payloads[n as usize % payloads.len()].clone());
        let entries = build_with(&shape.parents(size, seed), |n| n % 4, payload);
        let tree = entries[0].get().tree();
        let some = &entries[(from % size) as usize..];
        let unpacked = unpack(tree, &pack(some)).expect("a batch");
        let wanted: Vec<_> = some.iter().map(|entry| entry.get().clone()).collect();
        prop_assert_eq!(unpacked, wanted);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _any_verdict = unpack(sample().0, &bytes);
    }
}
