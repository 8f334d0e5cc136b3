//! What may be stored, in whatever order it comes.

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{
    Drawn, Random, Shape, build, dag_of, draw, draw_with, genesis, key, open_genesis,
};
use eidetica_dag::{
    AppendOutcome, Body, DagView, Entry, EntryView, MemoryDag, Refusal, Role, Rule, VerifiedEntry,
    check, tip_ids,
};
use proptest::prelude::*;

const UNEVEN_DIAMOND: &str = r"
   B
  / \
 A   E-F
  \ /
   C-D-G
";

fn names(drawn: &Drawn, entries: &[VerifiedEntry]) -> String {
    let ids: Vec<_> = entries.iter().map(|entry| entry.get().id()).collect();
    drawn.names_of(&ids)
}

#[test]
fn parents_first_is_stored_at_once() {
    let drawn = draw(UNEVEN_DIAMOND);
    let mut dag = MemoryDag::new(drawn.tree());
    let outcome = dag.append(drawn.entries(&["A", "C", "D", "B", "E", "G", "F"]));
    assert_eq!(outcome.stored, 0..7);
    assert_eq!(outcome.duplicates, 0);
    assert!(outcome.waiting.is_empty() && outcome.missing.is_empty());
    assert_eq!(outcome.refused, None);
    assert_eq!(tip_ids(&dag), tip_ids(&drawn.dag));
}

#[test]
fn children_wait_and_say_what_for() {
    let drawn = draw(UNEVEN_DIAMOND);
    let mut dag = drawn.replica(&["A"]);
    let outcome = dag.append(drawn.entries(&["F", "E", "G", "B"]));
    assert_eq!(outcome.stored, 1..2);
    assert_eq!(names(&drawn, &outcome.waiting), "F E G");
    // F waits for E, which waits itself: C and D are missing.
    let mut missing = drawn.ids(&["C", "D"]);
    missing.sort_unstable();
    assert_eq!(outcome.missing, missing);

    let mut batch = drawn.entries(&["C", "D"]);
    batch.extend(outcome.waiting);
    let outcome = dag.append(batch);
    assert_eq!(outcome.stored, 2..6);
    assert_eq!(names(&drawn, &outcome.waiting), "F");
    // Its parent came after it in the batch, so nothing needs to be fetched.
    assert!(outcome.missing.is_empty());
    assert_eq!(dag.append(outcome.waiting).stored, 6..7);
    assert_eq!(tip_ids(&dag), tip_ids(&drawn.dag));
}

#[test]
fn without_the_root_everything_waits() {
    let drawn = draw("A-B-C");
    let mut dag = MemoryDag::new(drawn.tree());
    let outcome = dag.append(drawn.entries(&["B", "C"]));
    assert_eq!(outcome.stored, 0..0);
    assert_eq!(outcome.missing, drawn.ids(&["A"]));
    assert_eq!(dag.entry_count(), 0);
}

#[test]
fn duplicates_are_counted_and_change_nothing() {
    let drawn = draw("A-B-C");
    let mut dag = drawn.replica(&["B"]);
    let outcome = dag.append(drawn.entries(&["A", "C", "B", "C"]));
    assert_eq!(outcome.stored, 2..3);
    assert_eq!(outcome.duplicates, 3);
    assert_eq!(dag.entry_count(), 3);
}

/// Offers one entry that breaks a rule, between two that do not.
fn offer(wrong: VerifiedEntry) -> AppendOutcome {
    let drawn = draw("A-B-C");
    let mut dag = drawn.replica(&["A"]);
    let [before, after] = ["B", "C"].map(|name| drawn.entry(name));
    let id = wrong.get().id();
    let outcome = dag.append(vec![before, wrong, after]);
    // What precedes it is stored; what follows it was not looked at.
    assert_eq!(outcome.stored, 1..2);
    assert!(outcome.waiting.is_empty());
    assert_eq!(outcome.refused.map(|refusal| refusal.id), Some(id));
    assert_eq!(dag.arrival(&id), Ok(None));
    assert_eq!(check(&dag, drawn.tree(), |_| {}), Ok(vec![]));
    outcome
}

fn rule(outcome: &AppendOutcome) -> Option<Rule> {
    outcome.refused.map(|Refusal { rule, .. }| rule)
}

#[test]
fn a_lying_height_is_refused() {
    let drawn = draw("A-B-C");
    for claimed in [1, 3, u32::MAX] {
        let entry = Entry {
            height: claimed,
            ..drawn.entry("C").get().entry().clone()
        };
        let wrong = VerifiedEntry::sign(entry, &key(0)).unwrap();
        let actual = 2;
        assert_eq!(
            rule(&offer(wrong)),
            Some(Rule::LyingHeight { claimed, actual })
        );
    }
}

#[test]
fn an_entry_of_another_tree_is_refused() {
    let other = sign_on_top(None, [], &key(0), 0, open_genesis("another"));
    let tree = Some(other.get().tree());
    let wrong = sign_on_top(tree, [&other], &key(0), 0, Body::Data(Bytes::new()));
    assert_eq!(rule(&offer(wrong)), Some(Rule::OtherTree));

    // Parents of this tree do not help.
    let parent = draw("A-B-C").entry("A");
    let wrong = sign_on_top(tree, [&parent], &key(0), 0, Body::Data(Bytes::new()));
    assert_eq!(rule(&offer(wrong)), Some(Rule::OtherTree));
}

#[test]
fn a_second_root_is_refused() {
    let wrong = sign_on_top(None, [], &key(0), 0, open_genesis("another"));
    assert_eq!(rule(&offer(wrong)), Some(Rule::SecondRoot));
}

#[test]
fn an_author_without_the_role_is_refused() {
    let closed = sign_on_top(None, [], &key(0), 0, genesis("closed", vec![]));
    let tree = Some(closed.get().tree());
    let by = |number, body| sign_on_top(tree, [&closed], &key(number), 0, body);
    let mut dag = dag_of(vec![closed.clone()]);
    let refused = |dag: &mut MemoryDag, entry| rule(&dag.append(vec![entry]));
    let not_allowed = |needed| {
        let author = key(1).public();
        Some(Rule::NotAllowed { author, needed })
    };
    let data = || Body::Data(Bytes::from_static(b"data"));
    let extension = || Body::Extension {
        kind: 7,
        bytes: Bytes::from_static(b"data"),
    };
    assert_eq!(refused(&mut dag, by(1, data())), not_allowed(Role::Write));
    assert_eq!(
        refused(&mut dag, by(1, extension())),
        not_allowed(Role::Write)
    );
    assert_eq!(
        refused(&mut dag, by(1, Body::Access(vec![]))),
        not_allowed(Role::Admin)
    );
    assert_eq!(refused(&mut dag, by(0, data())), None);
    assert_eq!(refused(&mut dag, by(0, extension())), None);
    assert_eq!(refused(&mut dag, by(0, Body::Access(vec![]))), None);
}

#[test]
fn every_author_of_a_drawing_may_write() {
    let drawn = draw_with(UNEVEN_DIAMOND, |name| key(u32::from(name.as_bytes()[0])));
    assert_eq!(drawn.dag.entry_count(), 7);
    let Ok(entry) = drawn.dag.entry(drawn.arrival("F"));
    assert_eq!(entry.entry().author, key(u32::from(b'F')).public());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// In whatever order and batches, all is stored in the end, and at every moment what is stored
    /// is a whole tree.
    #[test]
    fn any_order_ends_in_the_same_tree(
        shape in prop::sample::select(Shape::ALL.to_vec()),
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        let entries = build(&shape.parents(1 + random.below(50), seed));
        let expected = dag_of(entries.clone());
        let mut dag = MemoryDag::new(expected.tree());
        let mut left = entries;
        random.shuffle(&mut left);
        while !left.is_empty() {
            let cut = 1 + random.below(left.len() as u32) as usize;
            let rest = left.split_off(cut.min(left.len()));
            let before = dag.entry_count();
            let given = left.len();
            let outcome = dag.append(left);
            prop_assert_eq!(outcome.stored.start, before);
            prop_assert_eq!(outcome.refused, None);
            prop_assert_eq!(outcome.duplicates, 0);
            prop_assert_eq!(outcome.stored.len() + outcome.waiting.len(), given);
            for id in &outcome.missing {
                prop_assert!(rest.iter().any(|entry| entry.get().id() == *id));
            }
            prop_assert_eq!(check(&dag, expected.tree(), |_| {}), Ok(vec![]));
            left = rest;
            left.extend(outcome.waiting);
        }
        prop_assert_eq!(dag.entry_count(), expected.entry_count());
        prop_assert_eq!(tip_ids(&dag), tip_ids(&expected));
    }
}
