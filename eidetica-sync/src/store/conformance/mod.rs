//! What every store must do, as tests that any store can run.
//!
//! Implement [`Subject`] for a store and expand [`store_conformance!`](crate::store_conformance) in
//! a module of tests: it makes one test of each case.

mod authors;
mod metadata;
#[cfg(feature = "postgres")]
pub mod postgres;

use std::ops::ControlFlow;
use std::thread;

use bytes::Bytes;
use eidetica_dag::{
    AccessId, AppendOutcome, Arrival, Body, EntryId, EntryView, LANDMARK_INTERVAL, MemoryDag, Role,
    Rule, VerifiedEntry, walk,
};

use super::{Snapshot, Store};
pub use authors::Authors;
pub use metadata::*;

/// A store under test.
pub trait Subject: Sized {
    /// Makes an empty store of its own.
    fn create() -> Self;

    /// Returns the store.
    fn store(&self) -> &dyn Store;

    /// Closes the store and opens it again, or returns `None` if it keeps nothing.
    fn reopen(self) -> Option<Self>;
}

/// Makes a test of each case of the conformance suite, for a type that implements
/// [`Subject`](crate::store::conformance::Subject). An attribute after the type goes to each test.
#[macro_export]
macro_rules! store_conformance {
    ($subject:ty $(, #[$attribute:meta])?) => {
        $crate::store_conformance! { @ $subject, ($(#[$attribute])?):
            an_absent_tree_is_empty
            entries_come_back_in_order
            orphans_wait_and_leave_nothing
            duplicates_are_counted
            a_refused_entry_keeps_what_stood_before_it
            a_snapshot_shows_its_moment
            trees_are_apart
            thousands_of_tips
            random_trees_equal_the_reference
            differences_equal_the_reference
            access_changes_are_kept
            the_largest_entry_fits
            unknown_extensions_are_kept
            metadata_is_kept
            metadata_has_limits
            updates_see_the_present_value
            threads_update_one_value
            everything_survives_reopening
            the_log_keeps_its_identity
            threads_append_to_one_tree
            threads_append_to_their_own_trees
        }
    };
    (@ $subject:ty, $attributes:tt: $($case:ident)*) => {
        $($crate::store_conformance! { @@ $subject, $attributes, $case })*
    };
    (@@ $subject:ty, ($($attribute:tt)*), $case:ident) => {
        #[test]
        $($attribute)*
        fn $case() {
            $crate::store::conformance::$case(
                <$subject as $crate::store::conformance::Subject>::create(),
            );
        }
    };
}

/// Checks that two views show the same tree, whatever can be asked of them.
///
/// # Panics
/// At the first difference.
pub fn assert_same_view(
    found: &(impl EntryView + ?Sized),
    expected: &(impl EntryView + ?Sized),
    ids: &[EntryId],
) {
    assert_eq!(found.entry_count(), expected.entry_count());
    assert_eq!(found.tips().unwrap(), expected.tips().unwrap());
    let mut height_max = 0;
    for at in (0..expected.entry_count()).map(Arrival) {
        let node = expected.node(at).unwrap();
        height_max = height_max.max(node.height);
        assert_eq!(found.node(at).unwrap(), node);
        assert_eq!(found.entry(at).unwrap(), expected.entry(at).unwrap());
        assert_eq!(found.encoded(at).unwrap(), expected.encoded(at).unwrap());
    }
    assert_same_visits(found, expected);
    for id in ids {
        assert_eq!(found.arrival(id).unwrap(), expected.arrival(id).unwrap());
    }
    assert_same_tips(found, expected);
    for height in (0..=height_max + LANDMARK_INTERVAL).step_by(LANDMARK_INTERVAL as usize) {
        for limit in [0, 1, usize::MAX] {
            let landmarks = expected.landmarks(height, limit).unwrap();
            assert_eq!(found.landmarks(height, limit).unwrap(), landmarks);
        }
    }
    assert_eq!(found.access_count(), expected.access_count());
    for id in (0..expected.access_count()).map(AccessId) {
        let state = expected.access(id).unwrap();
        let same = found.access(id).unwrap();
        assert_eq!(same, state);
        assert!(same.roles().eq(state.roles()), "{same:?} and {state:?}");
        assert_eq!(found.find_access(&state.key()).unwrap(), Some(id));
    }
    let (current, expected) = (found.ledger().unwrap(), expected.ledger().unwrap());
    assert_eq!(current.current(), expected.current());
    assert!(current.current().roles().eq(expected.current().roles()));
}

/// Checks what two views say of tips, here and at each checkpoint.
fn assert_same_tips(found: &(impl EntryView + ?Sized), expected: &(impl EntryView + ?Sized)) {
    let tips = expected.tips().unwrap();
    assert_eq!(found.tip_count() as usize, tips.len());
    for at in (0..expected.entry_count()).map(Arrival) {
        assert_eq!(found.is_tip(at).unwrap(), tips.binary_search(&at).is_ok());
    }
    for (from, limit) in [(0, 3), (1, 1), (expected.entry_count() / 2, usize::MAX)] {
        let from = Arrival(from);
        let some = expected.tips_from(from, limit).unwrap();
        assert_eq!(found.tips_from(from, limit).unwrap(), some);
    }
    let mut below = Some(expected.entry_count());
    while let Some(at) = below {
        let checkpoint = expected.last_checkpoint(at).unwrap();
        assert_eq!(found.last_checkpoint(at).unwrap(), checkpoint);
        if let Some(stored) = checkpoint {
            let tips = expected.checkpoint(stored).unwrap();
            assert_eq!(found.checkpoint(stored).unwrap(), tips);
        }
        below = checkpoint.and_then(|stored| stored.checked_sub(1));
    }
}

/// Checks that a visitor is shown the same entries from anywhere to anywhere, and no more than it
/// wants.
fn assert_same_visits(found: &(impl EntryView + ?Sized), expected: &(impl EntryView + ?Sized)) {
    let count = expected.entry_count();
    for numbers in [
        0..count,
        count / 3..count / 2,
        count / 2..count,
        0..0,
        count..count,
    ] {
        let all: Vec<_> = numbers
            .clone()
            .map(|number| expected.entry(Arrival(number)).unwrap())
            .map(|entry| (entry.id(), entry.encoded().to_vec()))
            .collect();
        for wanted in [all.len(), all.len().min(1), all.len() / 2] {
            let mut shown = Vec::new();
            let visited = found.visit_encoded(numbers.clone(), &mut |id, entry| {
                if shown.len() == wanted {
                    return ControlFlow::Break(());
                }
                shown.push((id, entry.bytes.to_vec()));
                ControlFlow::Continue(())
            });
            visited.unwrap();
            assert_eq!(shown, all[..wanted], "{wanted} of {numbers:?}");
        }
    }
}

fn append(subject: &impl Subject, authors: &Authors, batch: &[VerifiedEntry]) -> AppendOutcome {
    let store = subject.store();
    store.append(authors.tree(), batch.to_vec()).unwrap()
}

fn snapshot(subject: &impl Subject, authors: &Authors) -> Snapshot {
    subject.store().snapshot(authors.tree()).unwrap()
}

fn ids(authors: &Authors) -> Vec<EntryId> {
    authors.entries().iter().map(|e| e.get().id()).collect()
}

/// Gives the store and the reference the same batches, cut at random, out of a random tree.
fn fill(subject: &impl Subject, authors: &mut Authors) -> MemoryDag {
    let mut reference = MemoryDag::new(authors.tree());
    let mut from = 0;
    while from < authors.entries().len() {
        let to = (from + 1 + authors.below(300)).min(authors.entries().len());
        let batch = &authors.entries()[from..to];
        let outcome = append(subject, authors, batch);
        let expected = reference.append(batch.to_vec());
        assert_eq!(outcome.stored, expected.stored);
        assert!(outcome.refused.is_none() && outcome.waiting.is_empty());
        from = to;
    }
    reference
}

/// A tree that was never heard of has no entries, and asking for it does not make it one.
pub fn an_absent_tree_is_empty(subject: impl Subject) {
    let authors = Authors::new(1);
    let view = snapshot(&subject, &authors);
    assert_same_view(&*view, &MemoryDag::new(authors.tree()), &ids(&authors));
    assert!(append(&subject, &authors, &[]).stored.is_empty());
    assert_eq!(subject.store().trees().unwrap(), []);
}

/// What is appended is there, under the numbers of its order.
pub fn entries_come_back_in_order(subject: impl Subject) {
    let mut authors = Authors::new(2);
    authors.write_data(1, &[0]);
    authors.write_data(2, &[0]);
    authors.write_data(0, &[1, 2]);
    assert_eq!(
        append(&subject, &authors, &authors.entries()[..3]).stored,
        0..3
    );
    assert_eq!(
        append(&subject, &authors, &authors.entries()[3..]).stored,
        3..4
    );
    let view = snapshot(&subject, &authors);
    assert_eq!(view.tips().unwrap(), [Arrival(3)]);
    for (number, entry) in (0..).zip(authors.entries()) {
        assert_eq!(view.entry(Arrival(number)).unwrap(), *entry.get());
        assert_eq!(
            view.arrival(&entry.get().id()).unwrap(),
            Some(Arrival(number))
        );
    }
    assert_eq!(
        view.node(Arrival(3)).unwrap().parents,
        [Arrival(1), Arrival(2)]
    );
    assert_eq!(subject.store().trees().unwrap(), [authors.tree()]);
}

/// Entries without their parents are handed back, and the store says what to ask for.
pub fn orphans_wait_and_leave_nothing(subject: impl Subject) {
    let mut authors = Authors::new(3);
    let first = authors.write_data(0, &[0]);
    let second = authors.write_data(1, &[first]);
    let third = authors.write_data(2, &[second]);
    let orphans = [authors.entry(second), authors.entry(third)];
    let outcome = append(&subject, &authors, &orphans);
    assert_eq!(outcome.waiting, orphans);
    assert_eq!(outcome.missing, [authors.id(first)]);
    assert!(outcome.stored.is_empty());
    assert_eq!(snapshot(&subject, &authors).entry_count(), 0);
    assert_eq!(subject.store().trees().unwrap(), [], "no root, no tree");

    append(&subject, &authors, &authors.entries()[..=first]);
    assert_eq!(append(&subject, &authors, &orphans).stored, 2..4);
}

/// What is there already is neither stored again nor an error.
pub fn duplicates_are_counted(subject: impl Subject) {
    let authors = Authors::grown(4, 20);
    append(&subject, &authors, &authors.entries()[..10]);
    let mut batch = authors.entries().to_vec();
    batch.push(authors.entry(19));
    let outcome = append(&subject, &authors, &batch);
    assert_eq!((outcome.stored, outcome.duplicates), (10..20, 11));
    let again = append(&subject, &authors, authors.entries());
    assert_eq!((again.stored.len(), again.duplicates), (0, 20));
    assert_eq!(snapshot(&subject, &authors).entry_count(), 20);
}

/// An entry that breaks a rule takes along the entries after it, and none before it.
pub fn a_refused_entry_keeps_what_stood_before_it(subject: impl Subject) {
    let mut authors = Authors::new(5);
    let good = authors.write_data(0, &[0]);
    let liar = authors.write_claiming(1, &[good], Body::Data(Bytes::new()), 7);
    let after = authors.write_data(2, &[good]);
    let outcome = append(&subject, &authors, authors.entries());
    let refusal = outcome.refused.unwrap();
    assert_eq!(refusal.id, authors.id(liar));
    let (claimed, actual) = (7, 2);
    assert_eq!(refusal.rule, Rule::LyingHeight { claimed, actual });
    assert_eq!(outcome.stored, 0..2);
    let view = snapshot(&subject, &authors);
    assert_eq!(view.tips().unwrap(), [Arrival(1)]);
    assert_eq!(view.arrival(&authors.id(after)).unwrap(), None);
}

/// A snapshot goes on showing what was there when it was taken, in every respect.
pub fn a_snapshot_shows_its_moment(subject: impl Subject) {
    let mut authors = Authors::grown(6, 700);
    let mut reference = MemoryDag::new(authors.tree());
    let mut moments = Vec::new();
    let empty = (snapshot(&subject, &authors), reference.clone());
    moments.push(empty);
    for from in (0..700).step_by(70) {
        let batch = &authors.entries()[from..from + 70];
        append(&subject, &authors, batch);
        reference.append(batch.to_vec());
        moments.push((snapshot(&subject, &authors), reference.clone()));
    }
    authors.write_access(&[699], Some(Role::Admin));
    append(&subject, &authors, &authors.entries()[700..]);
    let ids = ids(&authors);
    for (view, reference) in moments {
        assert_same_view(&*view, &reference, &ids);
    }
}

/// Two trees in one store know nothing of each other, and are listed in order.
pub fn trees_are_apart(subject: impl Subject) {
    let all: Vec<Authors> = (70..76).map(|seed| Authors::grown(seed, 100)).collect();
    let mut references: Vec<MemoryDag> = all.iter().map(|a| MemoryDag::new(a.tree())).collect();
    for from in (0..100).step_by(25) {
        for (authors, reference) in all.iter().zip(&mut references) {
            let batch = &authors.entries()[from..from + 25];
            append(&subject, authors, batch);
            reference.append(batch.to_vec());
        }
    }
    let every_id: Vec<EntryId> = all.iter().flat_map(ids).collect();
    for (authors, reference) in all.iter().zip(&references) {
        assert_same_view(&*snapshot(&subject, authors), reference, &every_id);
    }
    let mut trees: Vec<_> = all.iter().map(Authors::tree).collect();
    trees.sort_unstable();
    assert_eq!(subject.store().trees().unwrap(), trees);

    let stray = subject.store().append(all[0].tree(), vec![all[1].entry(5)]);
    assert_eq!(stray.unwrap().refused.unwrap().rule, Rule::OtherTree);
}

/// Tips are as many as there are.
pub fn thousands_of_tips(subject: impl Subject) {
    let mut authors = Authors::new(8);
    for number in 0..3_000 {
        authors.write_data(number % 3, &[0]);
    }
    let mut reference = MemoryDag::new(authors.tree());
    for batch in authors.entries().chunks(1_000) {
        append(&subject, &authors, batch);
        reference.append(batch.to_vec());
    }
    let view = snapshot(&subject, &authors);
    assert_eq!(view.tips().unwrap().len(), 3_000);
    assert_same_view(&*view, &reference, &ids(&authors));
    // Each checkpoint comes when as many entries have arrived as there are tips.
    let mut checkpoints = Vec::new();
    let mut below = view.entry_count();
    while let Some(stored) = view.last_checkpoint(below).unwrap() {
        checkpoints.push(stored);
        below = stored - 1;
    }
    assert_eq!(checkpoints, [512]);
    // Half of the tips get a child, and one child takes many at once.
    for tip in 1..1_500 {
        authors.write_data(tip % 3, &[tip]);
    }
    let many: Vec<usize> = (2_000..2_200).collect();
    authors.write_data(0, &many);
    for batch in authors.entries()[3_001..].chunks(400) {
        append(&subject, &authors, batch);
        reference.append(batch.to_vec());
    }
    let view = snapshot(&subject, &authors);
    assert_eq!(view.tip_count(), 3_000 - 200 + 1);
    assert_same_view(&*view, &reference, &ids(&authors));
}

/// Numbers, tips, checkpoints, landmarks and states of random trees are those of the reference.
pub fn random_trees_equal_the_reference(subject: impl Subject) {
    for seed in 90..94 {
        let mut authors = Authors::grown(seed, 1_500);
        let reference = fill(&subject, &mut authors);
        assert_same_view(&*snapshot(&subject, &authors), &reference, &ids(&authors));
    }
}

/// Walks over a snapshot find what they find in the reference.
pub fn differences_equal_the_reference(subject: impl Subject) {
    let mut authors = Authors::grown(10, 1_200);
    let reference = fill(&subject, &mut authors);
    let view = snapshot(&subject, &authors);
    for _ in 0..40 {
        let known: Vec<EntryId> = (0..1 + authors.below(4))
            .map(|_| {
                let index = authors.below(1_200);
                authors.id(index)
            })
            .collect();
        let expected = walk::difference(&reference, &known).unwrap();
        assert_eq!(walk::difference(&*view, &known).unwrap(), expected);
    }
    assert_eq!(walk::difference(&*view, &[]).unwrap().len(), 1_200);
}

/// Changes of access count for what comes after them, also in a later batch.
pub fn access_changes_are_kept(subject: impl Subject) {
    let mut authors = Authors::new(11);
    let grant = authors.write_access(&[0], Some(Role::Write));
    let revoke = authors.write_access(&[0], None);
    let merge = authors.write_data(1, &[grant, revoke]);
    authors.write_data(2, &[merge]);
    let mut reference = MemoryDag::new(authors.tree());
    for entry in authors.entries() {
        append(&subject, &authors, std::slice::from_ref(entry));
        reference.append(vec![entry.clone()]);
    }
    // The same two changes are joined once more, and two others.
    let again = authors.write_data(1, &[grant, revoke]);
    let other = authors.write_access(&[grant], Some(Role::Read));
    authors.write_data(1, &[again, other]);
    authors.write_access(&[again, other], Some(Role::Write));
    for entry in &authors.entries()[5..] {
        append(&subject, &authors, std::slice::from_ref(entry));
        reference.append(vec![entry.clone()]);
    }
    let view = snapshot(&subject, &authors);
    assert_eq!(view.access_count(), 7);
    assert_same_view(&*view, &reference, &ids(&authors));
    drop(view);
    let Some(subject) = subject.reopen() else {
        return;
    };
    let view = snapshot(&subject, &authors);
    assert_same_view(&*view, &reference, &ids(&authors));
}

/// An entry of nearly a mebibyte is kept like any other.
pub fn the_largest_entry_fits(subject: impl Subject) {
    let mut authors = Authors::new(12);
    let payload_bytes = eidetica_dag::ENTRY_BYTES_MAX - 512;
    let data = Bytes::from(vec![0xa5; payload_bytes]);
    let large = authors.write(1, &[0], Body::Data(data));
    let small = authors.write_data(2, &[large]);
    append(&subject, &authors, authors.entries());
    let view = snapshot(&subject, &authors);
    for index in [large, small] {
        let entry = view.entry(Arrival(index as u32)).unwrap();
        assert_eq!(entry, *authors.entries()[index].get());
    }
}

/// Each store has an identity of its own for its arrival logs, and keeps it.
pub fn the_log_keeps_its_identity<S: Subject>(subject: S) {
    let log = subject.store().log_id();
    assert_eq!(subject.store().log_id(), log);
    assert_ne!(S::create().store().log_id(), log);
    if let Some(reopened) = subject.reopen() {
        assert_eq!(reopened.store().log_id(), log);
    }
}

/// An extension is kept like data, whatever its kind.
pub fn unknown_extensions_are_kept(subject: impl Subject) {
    let mut authors = Authors::new(13);
    let extension = |kind| Body::Extension {
        kind,
        bytes: Bytes::from_static(b"content"),
    };
    let first = authors.write(1, &[0], extension(0));
    let last = authors.write(1, &[first], extension(u32::MAX));
    append(&subject, &authors, authors.entries());
    let view = snapshot(&subject, &authors);
    for index in [first, last] {
        let entry = view.entry(Arrival(index as u32)).unwrap();
        assert_eq!(entry, *authors.entries()[index].get());
    }
}

/// A durable store that is opened again shows what it showed before, and goes on from there.
pub fn everything_survives_reopening(subject: impl Subject) {
    let mut authors = Authors::grown(13, 1_100);
    let mut other = Authors::grown(14, 10);
    let mut reference = fill(&subject, &mut authors);
    fill(&subject, &mut other);
    subject.store().put("a key", Some(b"a value")).unwrap();
    let trees = subject.store().trees().unwrap();
    let Some(subject) = subject.reopen() else {
        return;
    };
    assert_eq!(subject.store().trees().unwrap(), trees);
    assert_eq!(subject.store().get("a key").unwrap().unwrap(), b"a value");
    assert_same_view(&*snapshot(&subject, &authors), &reference, &ids(&authors));

    authors.grow(1_200);
    append(&subject, &authors, &authors.entries()[1_100..]);
    reference.append(authors.entries()[1_100..].to_vec());
    assert_same_view(&*snapshot(&subject, &authors), &reference, &ids(&authors));
}

/// Several threads append overlapping parts of one tree; each entry is stored once.
pub fn threads_append_to_one_tree(subject: impl Subject) {
    let authors = Authors::grown(15, 400);
    let store = subject.store();
    let stored: usize = thread::scope(|scope| {
        let append_all = || {
            let chunks = authors.entries().chunks(20);
            let stored = chunks.map(|batch| {
                let outcome = store.append(authors.tree(), batch.to_vec()).unwrap();
                assert!(outcome.waiting.is_empty() && outcome.refused.is_none());
                outcome.stored.len()
            });
            stored.sum::<usize>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(append_all)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(stored, 400);
    // Every thread keeps to the one order, so the first one stores in it.
    let mut reference = MemoryDag::new(authors.tree());
    reference.append(authors.entries().to_vec());
    assert_same_view(&*snapshot(&subject, &authors), &reference, &ids(&authors));
}

/// Several threads append to trees of their own, and read them meanwhile.
pub fn threads_append_to_their_own_trees(subject: impl Subject) {
    let all: Vec<Authors> = (160..164).map(|seed| Authors::grown(seed, 200)).collect();
    let store = subject.store();
    thread::scope(|scope| {
        for authors in &all {
            scope.spawn(move || {
                for (number, batch) in (1..).zip(authors.entries().chunks(20)) {
                    store.append(authors.tree(), batch.to_vec()).unwrap();
                    let view = store.snapshot(authors.tree()).unwrap();
                    assert_eq!(view.entry_count(), number * 20);
                }
            });
        }
    });
    for authors in &all {
        let mut reference = MemoryDag::new(authors.tree());
        reference.append(authors.entries().to_vec());
        assert_same_view(&*snapshot(&subject, authors), &reference, &ids(authors));
    }
}
