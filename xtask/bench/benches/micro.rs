//! The parts by themselves: `cargo xtask bench micro [name]`.

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use eidetica_dag::testing::shapes::build_with;
use eidetica_dag::testing::{Shape, Skeleton, git_history, key};
use eidetica_dag::{
    Arrival, DagView, EntryId, SignedEntry, TreeId, VerifiedEntry, verify_batch, walk,
};
use eidetica_proto::batch::{Packer, unpack};
use eidetica_proto::{Filter, FilterBudget};

/// Entries in a batch of about 256 KiB.
const BATCH_ENTRIES: u32 = 700;

const PAYLOAD_BYTES: usize = 200;

/// Entries of the long line.
const LINE_ENTRIES: u32 = 100_000;

const SEED: [u8; 8] = *b"any seed";

/// How many entries a difference yields.
const MISSING: [u32; 3] = [10, 1_000, 10_000];

fn main() {
    divan::main();
}

/// Text of which no two payloads are the same and that compresses like text.
fn payload(number: u32) -> Bytes {
    let words = [
        "lorem", "ipsum", "dolor", "sit", "amet", "notes", "of", "a", "day", "spent",
    ];
    let mut text = format!("{{\"entry\":{number},\"text\":\"");
    let mut step = u64::from(number);
    while text.len() < PAYLOAD_BYTES {
        step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(words[(step >> 33) as usize % words.len()]);
        text.push(' ');
    }
    text.truncate(PAYLOAD_BYTES);
    Bytes::from(text)
}

/// A line by three authors in runs.
fn entries() -> Vec<SignedEntry> {
    let line = Shape::Linear.parents(BATCH_ENTRIES, 0);
    let signed = build_with(&line, |number| number / 100 % 3, payload);
    signed.into_iter().map(VerifiedEntry::into_inner).collect()
}

fn tree(entries: &[SignedEntry]) -> TreeId {
    entries[0].tree()
}

fn line() -> Skeleton {
    Skeleton::new(&Shape::Linear.parents(LINE_ENTRIES, 0))
}

fn real() -> Skeleton {
    Skeleton::new(&git_history())
}

fn id(view: &Skeleton, at: u32) -> EntryId {
    let Ok(node) = view.node(Arrival(at));
    node.id
}

#[divan::bench(args = MISSING)]
fn difference_line(bencher: Bencher, missing: u32) {
    let view = line();
    let known = id(&view, LINE_ENTRIES - 1 - missing);
    bencher
        .counter(ItemsCount::new(missing))
        .bench(|| walk::difference(&view, black_box(&[known])));
}

#[divan::bench(args = MISSING)]
fn difference_real_history(bencher: Bencher, back: u32) {
    let view = real();
    let known = id(&view, view.entry_count() - 1 - back);
    bencher
        .counter(ItemsCount::new(back))
        .bench(|| walk::difference(&view, black_box(&[known])));
}

fn build_filter(view: &Skeleton) -> Filter {
    let Ok(tips) = view.tips();
    let Ok(filter) = Filter::build(view, SEED, FilterBudget::for_tips(tips.len()));
    filter.expect("a tree with entries has a filter")
}

#[divan::bench]
fn filter_build_line(bencher: Bencher) {
    let view = line();
    bencher.bench(|| build_filter(black_box(&view)));
}

#[divan::bench]
fn filter_build_real_history(bencher: Bencher) {
    let view = real();
    bencher.bench(|| build_filter(black_box(&view)));
}

#[divan::bench]
fn filter_decode(bencher: Bencher) {
    let filter = build_filter(&line());
    bencher.bench(|| black_box(&filter).matcher());
}

#[divan::bench]
fn filter_test(bencher: Bencher) {
    let view = line();
    let filter = build_filter(&view);
    let matcher = filter.matcher().expect("the filter was built here");
    // The dense part, where every entry is hashed and looked up.
    let recent = (LINE_ENTRIES - 64..LINE_ENTRIES).map(|at| (id(&view, at), at));
    let recent: Vec<(EntryId, u32)> = recent.collect();
    bencher.counter(ItemsCount::new(recent.len())).bench(|| {
        let recent = black_box(&recent).iter();
        recent
            .filter(|(id, height)| matcher.contains(id, *height))
            .count()
    });
}

#[divan::bench]
fn entry_sign(bencher: Bencher) {
    let entry = entries().pop().expect("not empty");
    let key = key((BATCH_ENTRIES - 1) / 100 % 3);
    bencher
        .with_inputs(|| entry.entry().clone())
        .bench_values(|entry| SignedEntry::sign(entry, &key));
}

#[divan::bench]
fn entry_encode(bencher: Bencher) {
    let signed = entries().pop().expect("not empty");
    let signature = signed.signature();
    bencher
        .with_inputs(|| signed.entry().clone())
        .bench_values(|entry| SignedEntry::from_parts(entry, &signature));
}

#[divan::bench]
fn entry_decode(bencher: Bencher) {
    let encoded = entries().pop().expect("not empty").encoded().clone();
    bencher
        .with_inputs(|| encoded.clone())
        .bench_values(SignedEntry::decode);
}

#[divan::bench]
fn entry_verify(bencher: Bencher) {
    let entry = entries().pop().expect("not empty");
    bencher.bench(|| black_box(&entry).has_valid_signature());
}

#[divan::bench]
fn batch_verify(bencher: Bencher) {
    let entries = entries();
    bencher
        .counter(ItemsCount::new(entries.len()))
        .with_inputs(|| entries.clone())
        .bench_values(verify_batch);
}

fn pack(entries: &[SignedEntry]) -> Vec<u8> {
    let mut packer = Packer::new();
    entries.iter().for_each(|entry| packer.push(entry));
    packer.finish()
}

#[divan::bench]
fn batch_pack(bencher: Bencher) {
    let entries = entries();
    bencher
        .counter(ItemsCount::new(entries.len()))
        .bench(|| pack(black_box(&entries)));
}

#[divan::bench]
fn batch_unpack(bencher: Bencher) {
    let entries = entries();
    let (tree, batch) = (tree(&entries), pack(&entries));
    bencher
        .counter(ItemsCount::new(entries.len()))
        .bench(|| unpack(tree, black_box(&batch)));
}
