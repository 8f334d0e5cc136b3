//! Tips, named in messages by sketches and places.

use std::collections::BTreeSet;

use eidetica_dag::EntryId;
use eidetica_dag::testing::fuzz::Input;

use super::shortest::assert_shortest;
use crate::tips::{EndTips, TIPS_MAX, TipDigest, TipMatcher, TipSet, TipSketch};

/// Reads bytes as the sketch of a peer's tips, and names other tips by it.
pub fn sketch(data: &[u8]) -> bool {
    let Ok((sketch, [])) = postcard::take_from_bytes::<TipSketch>(data) else {
        return false;
    };
    let written = postcard::to_stdvec(&sketch).expect("a vector takes every byte");
    assert_shortest(data, &written);
    assert_eq!(
        TipSet::Sketch(sketch.clone()).digest(),
        Some(sketch.digest),
        "a sketch says what it is a sketch of"
    );
    let Ok(matcher) = sketch.matcher() else {
        return false;
    };
    // Each fingerprint takes at least a bit for its high part and 23 for its low one.
    assert!(matcher.tip_count() <= TIPS_MAX && matcher.tip_count() * 3 <= data.len());
    let theirs: Vec<EntryId> = (0..=255).map(id).collect();
    let end = EndTips::by_sketch(theirs.clone(), &matcher);
    let missed = theirs.iter().filter(|tip| matcher.place(tip).is_none());
    assert!(end.listed().iter().eq(missed));
    assert_places(&matcher, &theirs);
    true
}

/// Names one set of tips by the sketch of another: the maker of the sketch understands it.
///
/// The input is the seed, how many of the next bytes are the client's tips, those, and the
/// server's.
pub fn tips(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let seed = input.array();
    let count = input.byte().into();
    let own: BTreeSet<u8> = input.take(count).iter().copied().collect();
    let theirs: BTreeSet<u8> = input.rest().iter().copied().collect();
    let ids = |tips: &BTreeSet<u8>| tips.iter().copied().map(id).collect::<Vec<EntryId>>();
    let (own, theirs) = (ids(&own), ids(&theirs));

    let digest = TipDigest::of(&own);
    let (sketch, placed) = TipSketch::new(digest, &own, seed);
    let set = TipSet::Sketch(sketch.clone());
    assert_eq!(set.digest(), TipSet::Listed(own.clone()).digest());
    let written = postcard::to_stdvec(&sketch).expect("a vector takes every byte");
    assert_eq!(postcard::from_bytes(&written).as_ref(), Ok(&sketch));

    let matcher = sketch.matcher().expect("it was made so");
    assert_eq!(matcher.tip_count(), own.len());
    assert_places(&matcher, &theirs);
    let is_right = |tip: &EntryId| match matcher.place(tip) {
        Some(place) => placed.get(place) == Some(tip),
        None => !own.contains(tip),
    };
    let end = EndTips::by_sketch(theirs.clone(), &matcher);
    let understood = end.resolve(&placed);
    assert!(understood.is_sorted_by(|a, b| a < b));
    // Two of some hundred tips have the same fingerprint in one of some hundred inputs; those teach
    // nothing, for then an entry is asked for by id.
    if own.iter().chain(&theirs).all(is_right) {
        assert_eq!(understood, theirs);
    }
    !own.is_empty() && !theirs.is_empty()
}

fn assert_places(matcher: &TipMatcher, tips: &[EntryId]) {
    let mut places = tips.iter().filter_map(|tip| matcher.place(tip));
    assert!(places.all(|place| place < matcher.tip_count()));
}

/// Ids ascend like the numbers they are made of.
fn id(number: u8) -> EntryId {
    EntryId::from_bytes([number; 32])
}

pub(super) fn sketch_seeds() -> Vec<Vec<u8>> {
    let sketch = |count: u8| {
        let own: Vec<EntryId> = (0..count).map(id).collect();
        let (sketch, _) = TipSketch::new(TipDigest::of(&own), &own, *b"the seed");
        postcard::to_stdvec(&sketch).expect("a vector takes every byte")
    };
    [0, 1, 9, 30].map(sketch).into()
}

pub(super) fn tips_seeds() -> Vec<Vec<u8>> {
    let plan = |own: &[u8], theirs: &[u8]| {
        let count = own.len() as u8;
        [b"the seed", &[count][..], own, theirs].concat()
    };
    vec![
        plan(b"abc", b"abc"),
        plan(b"abcdefghi", b"cdefghijkl"),
        plan(b"x", b"yz"),
    ]
}
