//! Walks against slow and obvious answers, on every shape and on the real history.

use std::collections::{BTreeSet, HashSet};

use eidetica_dag::TotalOrder;
use eidetica_dag::testing::{Oracle, Random, Shape, Skeleton, draw, git_history};
use eidetica_dag::walk::{Heads, ancestors, difference, difference_by, is_ancestor, merge_base};
use eidetica_dag::{Arrival, ArrivalSet, DagView, EntryId, tip_ids};
use proptest::prelude::*;

fn ids(view: &Skeleton, numbers: impl IntoIterator<Item = Arrival>) -> BTreeSet<EntryId> {
    numbers.into_iter().map(|at| id(view, at)).collect()
}

fn id(view: &Skeleton, at: Arrival) -> EntryId {
    let Ok(node) = view.node(at);
    node.id
}

fn sample(random: &mut Random, count: u32) -> Vec<Arrival> {
    (0..random.below(5))
        .map(|_| Arrival(random.below(count)))
        .collect()
}

/// A tree of some shape whose entries arrived in some order.
fn trees() -> impl Strategy<Value = (Skeleton, Random)> {
    let shapes = prop::sample::select(Shape::ALL.to_vec());
    (shapes, 1..90_u32, any::<u64>()).prop_map(|(shape, count, seed)| {
        let built = Skeleton::new(&shape.parents(count, seed));
        let mut random = Random::new(seed);
        let order = random_order(&built, &mut random);
        (built.replica(order), random)
    })
}

/// Returns a random order in which parents come first.
fn random_order(view: &Skeleton, random: &mut Random) -> Vec<Arrival> {
    let mut left: Vec<Arrival> = (0..view.entry_count()).map(Arrival).collect();
    let mut placed = ArrivalSet::new();
    let mut order = Vec::new();
    while !left.is_empty() {
        random.shuffle(&mut left);
        left.retain(|at| {
            let Ok(node) = view.node(*at);
            let ready = node.parents.iter().all(|parent| placed.contains(*parent));
            if ready {
                placed.insert(*at);
                order.push(*at);
            }
            !ready
        });
    }
    order
}

proptest! {
    #[test]
    fn sets_of_ancestors_agree((view, mut random) in trees()) {
        let oracle = Oracle::of(&view);
        let count = view.entry_count();
        let heads = sample(&mut random, count);
        let head_ids = ids(&view, heads.clone());

        let Ok(found) = ancestors(&view, &heads);
        prop_assert_eq!(ids(&view, found.iter()), oracle.ancestors(&head_ids));

        let unknown = EntryId::from_bytes([0xaa; 32]);
        let known: Vec<EntryId> = head_ids.iter().copied().chain([unknown]).collect();
        let Ok(found) = difference(&view, &known);
        prop_assert_eq!(ids(&view, found.iter()), oracle.difference(&known));

        let Ok(mut order) = TotalOrder::of(&view, &found);
        let mut ordered = Vec::new();
        while let Ok(Some(at)) = order.next(&view) {
            ordered.push(id(&view, at));
            prop_assert_eq!(order.len(), found.len() - ordered.len());
        }
        prop_assert_eq!(ordered, oracle.topological(&oracle.difference(&known)));

        let Ok(tips) = tip_ids(&view);
        prop_assert_eq!(tips, oracle.tips().into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn differences_of_some_heads_agree((view, mut random) in trees()) {
        let oracle = Oracle::of(&view);
        let heads = sample(&mut random, view.entry_count());
        let known = sample(&mut random, view.entry_count());
        let mut asked = HashSet::new();
        let Ok(found) = difference_by(&view, Heads::At(&heads), |at, node| {
            assert!(asked.insert(at), "asked twice");
            assert_eq!(node.id, id(&view, at));
            known.contains(&at)
        });
        let wanted = oracle.ancestors(&ids(&view, heads.iter().copied()));
        let known = oracle.ancestors(&ids(&view, known.iter().copied()));
        prop_assert_eq!(ids(&view, found.iter()), &wanted - &known);
    }

    #[test]
    fn pairs_agree((view, mut random) in trees()) {
        let oracle = Oracle::of(&view);
        for _ in 0..20 {
            let a = Arrival(random.below(view.entry_count()));
            let b = Arrival(random.below(view.entry_count()));
            let (a_id, b_id) = (id(&view, a), id(&view, b));
            let Ok(found) = is_ancestor(&view, a, b);
            prop_assert_eq!(found, oracle.is_ancestor(&a_id, &b_id));
            let Ok(found) = merge_base(&view, a, b);
            prop_assert!(found.is_sorted());
            prop_assert_eq!(ids(&view, found), oracle.merge_base(&a_id, &b_id));
        }
    }
}

#[test]
fn drawn_answers() {
    let drawn = draw(
        r"
      C-D
     /   \
A---B     G-H
     \   /
      E-F-I
",
    );
    let Ok(missing) = difference(&drawn.dag, &drawn.ids(&["D"]));
    assert_eq!(drawn.names(&missing), "E F G H I");
    let Ok(missing) = difference(&drawn.dag, &drawn.ids(&["G", "I"]));
    assert_eq!(drawn.names(&missing), "H");
    let base = |a, b| {
        let Ok(base) = merge_base(&drawn.dag, drawn.arrival(a), drawn.arrival(b));
        drawn.names_at(&base)
    };
    assert_eq!(base("D", "F"), "B");
    assert_eq!(base("H", "I"), "F");
    assert_eq!(base("H", "H"), "H");
    assert_eq!(base("A", "H"), "A");
}

#[test]
fn crossed_branches_have_two_merge_bases() {
    let drawn = draw(
        r"
A-B-D  C-D
A-C-E  B-E
",
    );
    let Ok(bases) = merge_base(&drawn.dag, drawn.arrival("D"), drawn.arrival("E"));
    assert_eq!(drawn.names_at(&bases), "B C");
}

#[test]
fn an_empty_tree_has_no_ancestors() {
    let empty = Skeleton::default();
    let Ok(found) = difference(&empty, &[EntryId::from_bytes([1; 32])]);
    assert!(found.is_empty());
    let Ok(found) = ancestors(&empty, &[]);
    assert!(found.is_empty());
}

/// Trees of several checkpoints, where entries are asked about ahead of their turn.
#[test]
fn differences_across_checkpoints_agree() {
    let mut random = Random::new(2);
    for shape in Shape::ALL {
        let mut parents = shape.parents(2_000, 2);
        for list in &mut parents[1..] {
            if list.is_empty() {
                list.push(0);
            }
        }
        let view = Skeleton::new(&parents);
        for _ in 0..8 {
            let mut known: Vec<u32> = (0..1 + random.below(6))
                .map(|_| random.below(2_000))
                .collect();
            // A peer that has nearly everything, in half of the rounds.
            if random.one_in(2) {
                let Ok(tips) = Skeleton::new(&parents[..1_900]).tips();
                known.extend(tips.into_iter().skip(1).map(|at| at.0));
            }
            let of_known = marked(&parents, &known);
            let just_below = known.iter().flat_map(|at| &parents[*at as usize]);
            let below_known = marked(&parents, &just_below.copied().collect::<Vec<_>>());
            let mut asked = HashSet::new();
            let Ok(missing) = difference_by(&view, Heads::Tips, |at, _| {
                assert!(asked.insert(at), "{shape:?}: asked twice about {at:?}");
                assert!(
                    !below_known[at.index()],
                    "{shape:?}: {at:?} is below a known one"
                );
                known.contains(&at.0)
            });
            let expected = (0..2_000).filter(|at| !of_known[*at as usize]);
            assert!(missing.iter().map(|at| at.0).eq(expected), "{shape:?}");
        }
    }
}

/// Marks an entry and its ancestors, the plain way.
fn marked(parents: &[Vec<u32>], heads: &[u32]) -> Vec<bool> {
    let mut marks = vec![false; parents.len()];
    let mut ahead = heads.to_vec();
    while let Some(at) = ahead.pop() {
        if !std::mem::replace(&mut marks[at as usize], true) {
            ahead.extend(&parents[at as usize]);
        }
    }
    marks
}

#[test]
fn the_real_history_agrees_on_sampled_pairs() {
    let mut parents = git_history();
    assert_eq!(parents.len(), 81_966);
    assert_eq!(parents.iter().filter(|it| it.is_empty()).count(), 7);
    assert_eq!(parents.iter().filter(|it| it.len() > 1).count(), 21_215);
    assert_eq!(parents.iter().map(Vec::len).max(), Some(10));
    for list in &mut parents[1..] {
        if list.is_empty() {
            list.push(0);
        }
    }
    let view = Skeleton::new(&parents);
    let count = view.entry_count();
    let mut random = Random::new(1);
    for round in 0..16 {
        // Near each other in half of the rounds, anywhere in the others.
        let a = random.below(count);
        let b = match round % 2 {
            0 => random.below(count),
            _ => a.saturating_sub(random.below(2_000)),
        };
        let (of_a, of_b) = (marked(&parents, &[a]), marked(&parents, &[b]));

        let Ok(found) = is_ancestor(&view, Arrival(b), Arrival(a));
        assert_eq!(found, of_a[b as usize]);

        let heads = [Arrival(a)];
        let Ok(found) = difference_by(&view, Heads::At(&heads), |at, _| at.0 == b);
        let expected = (0..count).filter(|at| of_a[*at as usize] && !of_b[*at as usize]);
        assert!(found.iter().map(|at| at.0).eq(expected), "{a} without {b}");

        let Ok(bases) = merge_base(&view, Arrival(a), Arrival(b));
        let bases: Vec<u32> = bases.into_iter().map(|at| at.0).collect();
        let of_bases = marked(&parents, &bases);
        let common = (0..parents.len()).map(|at| of_a[at] && of_b[at]);
        assert!(
            common.eq(of_bases.iter().copied()),
            "the bases of {a} and {b} cover what they share"
        );
        for base in &bases {
            let others: Vec<u32> = bases.iter().copied().filter(|it| it != base).collect();
            assert!(
                !marked(&parents, &others)[*base as usize],
                "{base} is below another base"
            );
        }
    }
}
