//! Filters: arbitrary bytes, and filters of trees of any shape.

use eidetica_dag::testing::fuzz::Input;
use eidetica_dag::testing::{Shape, Skeleton};
use eidetica_dag::{Arrival, DagView, EntryId};

use super::shortest::assert_shortest;
use crate::filter::{DECLARED_HEIGHTS_MAX, FILTER_ENTRIES_MAX, Filter, FilterBudget};

/// Most entries of a tree that a filter is made of here: enough for four steps of density.
const ENTRIES_MAX: usize = 160;

/// Most entries and bytes of a budget: about twice what such a tree fills.
const BUDGET_ENTRIES_MAX: usize = 300;
const BUDGET_BYTES_MAX: usize = 700;

/// Reads bytes as a filter and asks it: it is refused, or gives an answer for any id and height.
pub fn filter(data: &[u8]) -> bool {
    let Ok((filter, [])) = postcard::take_from_bytes::<Filter>(data) else {
        return false;
    };
    let written = postcard::to_stdvec(&filter).expect("a vector takes every byte");
    assert_shortest(data, &written);
    assert_eq!(filter.encoded_bytes(), written.len());
    let Ok(matcher) = filter.matcher() else {
        return false;
    };
    let count = filter.entry_count() as usize;
    assert!(count <= FILTER_ENTRIES_MAX);
    // Each fingerprint takes a bit at least, so what it costs is bounded by what was sent.
    assert!(count <= data.len() * 8);
    let highest = highest_declared(&written);
    for number in 0..=u8::MAX {
        let id = EntryId::from_bytes([number; 32]);
        let height = u32::from(number);
        assert!(matcher.contains(&id, 0), "the root is always known");
        for height in [height, 1 << (height % 32), u32::MAX - height] {
            let known = matcher.contains(&id, height);
            let may_be_known = count > 0 && height <= highest;
            assert!(
                height == 0 || may_be_known || !known,
                "known out of nothing"
            );
        }
    }
    true
}

/// Returns the highest declared height of a filter that was let through, having checked that the
/// others descend from it.
fn highest_declared(written: &[u8]) -> u32 {
    let head = postcard::take_from_bytes::<([u8; 8], Vec<u32>)>(written);
    let ((_, steps), _) = head.expect("a filter begins with its seed and its heights");
    assert!((1..=DECLARED_HEIGHTS_MAX).contains(&steps.len()));
    assert!(steps[1..].iter().all(|step| *step > 0));
    let below: u64 = steps[1..].iter().copied().map(u64::from).sum();
    assert!(below <= steps[0].into());
    steps[0]
}

/// Builds a filter of a tree: it keeps its budget, survives a message, and knows every entry that
/// it was made of.
///
/// The input is shape, size, seed of the shape, budget in entries and bytes, seed of the filter.
pub fn filter_build(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let shape = Shape::ALL[usize::from(input.byte()) % Shape::ALL.len()];
    let size = input.below(ENTRIES_MAX + 1) as u32;
    let view = Skeleton::new(&shape.parents(size, input.byte().into()));
    let budget = FilterBudget {
        entries: input.below(BUDGET_ENTRIES_MAX + 1),
        bytes: input.below(BUDGET_BYTES_MAX + 1),
    };
    let Ok(built) = Filter::build(&view, input.array(), budget);
    assert_eq!(built.is_some(), size > 0);
    let Some(built) = built else { return false };

    let count = built.entry_count();
    assert!(count as usize <= budget.entries);
    assert!(count == 0 || built.encoded_bytes() <= budget.bytes);
    let written = postcard::to_stdvec(&built).expect("a vector takes every byte");
    assert!(filter(&written), "it was made so");
    assert_eq!(postcard::from_bytes(&written).as_ref(), Ok(&built));

    let matcher = built.matcher().expect("it was made so");
    let is_known = |at: &Arrival| {
        let Ok(node) = view.node(*at);
        node.height > 0 && matcher.contains(&node.id, node.height)
    };
    let known = (0..size).map(Arrival).filter(is_known).count();
    assert!(known >= count as usize, "{known} known, {count} in it");
    count > 0
}

pub(super) fn filter_seeds() -> Vec<Vec<u8>> {
    let filter = |(shape, size): (Shape, u32)| {
        let view = Skeleton::new(&shape.parents(size, 1));
        let budget = FilterBudget::for_tips(1);
        let Ok(filter) = Filter::build(&view, *b"the seed", budget);
        postcard::to_stdvec(&filter.expect("it is not empty")).expect("a vector takes every byte")
    };
    let trees = [
        (Shape::Linear, 1),
        (Shape::Linear, 30),
        (Shape::Wide, 40),
        (Shape::LateBranches, 90),
    ];
    trees.map(filter).into()
}

pub(super) fn filter_build_seeds() -> Vec<Vec<u8>> {
    let plan = |(shape, size): (usize, u8)| {
        let budget = [[200, 0], 600_u16.to_le_bytes()].concat();
        [&[shape as u8, size, 0, 1], budget.as_slice(), b"the seed"].concat()
    };
    (0..Shape::ALL.len())
        .zip([40, 150].into_iter().cycle())
        .map(plan)
        .collect()
}
