//! One signature for each run, and no forged entry gets through.

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Random, Shape, build, build_with, key, open_genesis};
use eidetica_dag::{
    Body, Entry, Forged, MemoryDag, Rule, Signature, SignedEntry, TreeId, UNPROVEN_BYTES_MAX,
    UnprovenEntries, VerifiedEntry, verify_batch,
};
use proptest::prelude::*;

const ANN: u32 = 1;
const BEN: u32 = 2;
const MALLORY: u32 = 3;

/// What an entry in a chain is.
enum Link {
    /// Signed by its author.
    Genuine(u32),
    /// Claims an author who never signed it.
    Forged(u32),
}
use Link::{Forged as Fake, Genuine};

/// Puts an entry on top of others, signed or forged.
fn put(tree: Option<TreeId>, parents: &[&SignedEntry], link: &Link, body: Body) -> SignedEntry {
    let (author, genuine) = match link {
        Genuine(author) => (*author, true),
        Fake(author) => (*author, false),
    };
    let mut ids: Vec<_> = parents.iter().map(|parent| parent.id()).collect();
    ids.sort_unstable();
    let height = parents.iter().map(|parent| parent.entry().height + 1).max();
    let entry = Entry {
        tree,
        parents: ids,
        height: height.unwrap_or(0),
        timestamp_ms: 0,
        author: key(author).public(),
        body,
    };
    if genuine {
        SignedEntry::sign(entry, &key(author)).unwrap()
    } else {
        SignedEntry::from_parts(entry, &Signature::from_bytes([5; 64])).unwrap()
    }
}

/// A root by Ann and a chain on top of it.
fn chain(links: &[Link]) -> Vec<SignedEntry> {
    let mut entries = vec![put(None, &[], &Genuine(ANN), open_genesis("chain"))];
    let tree = TreeId::from_root(entries[0].id());
    for link in links {
        let data = Body::Data(Bytes::from_static(b"chain"));
        entries.push(put(Some(tree), entries.last().as_slice(), link, data));
    }
    entries
}

/// Asserts that everything before an entry is believed, and it is not.
fn assert_stops_at(entries: &[SignedEntry], index: usize) {
    let verification = verify_batch(entries.to_vec());
    let id = entries[index].id();
    assert_eq!(verification.forged(), Some(Forged { id }));
    assert_eq!(verification.unproven, entries[index..]);
    let verified: Vec<SignedEntry> = verification
        .verified
        .into_iter()
        .map(VerifiedEntry::into_inner)
        .collect();
    assert_eq!(verified, entries[..index]);
}

#[test]
fn an_entry_that_is_twice_in_a_batch_is_judged_each_time() {
    let entries = chain(&[Genuine(ANN), Genuine(ANN), Genuine(ANN)]);
    let twice: Vec<_> = entries.iter().chain(&entries).cloned().collect();
    let checked = verify_batch(twice);
    assert_eq!(checked.forged(), None);
    assert_eq!(checked.verified.len(), 8);

    let forged = chain(&[Genuine(ANN), Fake(ANN), Genuine(BEN)]);
    let twice: Vec<_> = forged.iter().chain(&forged).cloned().collect();
    assert_stops_at(&twice, 2);
}

#[test]
fn a_forged_tip_is_found() {
    assert_stops_at(&chain(&[Genuine(ANN), Genuine(ANN), Fake(ANN)]), 3);
}

#[test]
fn a_forged_tip_in_anothers_name_is_found() {
    assert_stops_at(&chain(&[Genuine(ANN), Genuine(ANN), Fake(BEN)]), 3);
}

/// Altering an entry in the middle of a run changes its id, and the run breaks there.
#[test]
fn an_altered_entry_in_mid_run_is_found() {
    let mut entries = chain(&[Genuine(ANN), Genuine(ANN), Genuine(ANN)]);
    let altered = Entry {
        timestamp_ms: 1,
        ..entries[2].entry().clone()
    };
    entries[2] = SignedEntry::from_parts(altered, &entries[2].signature()).unwrap();
    assert_stops_at(&entries, 2);
}

#[test]
fn a_run_that_is_forged_to_its_end_is_found_at_its_beginning() {
    assert_stops_at(&chain(&[Genuine(ANN), Fake(ANN), Fake(ANN), Fake(ANN)]), 2);
}

/// Mallory's signature says what Mallory builds on, and nothing about who wrote that.
#[test]
fn another_author_proves_nothing() {
    assert_stops_at(&chain(&[Fake(ANN), Genuine(MALLORY)]), 1);
    assert_stops_at(
        &chain(&[Genuine(ANN), Fake(ANN), Genuine(MALLORY), Genuine(MALLORY)]),
        2,
    );
}

/// Ann wrote later, on top of Mallory's entry: the path of her own entries is broken between.
#[test]
fn an_author_proves_nothing_across_anothers_entry() {
    assert_stops_at(&chain(&[Fake(ANN), Genuine(MALLORY), Genuine(ANN)]), 1);
}

#[test]
fn a_forged_entry_proves_nothing() {
    assert_stops_at(
        &chain(&[Fake(BEN), Fake(BEN), Genuine(MALLORY), Genuine(ANN)]),
        1,
    );
}

/// Ann merges a branch that has her name on it but not her signature: her own store would not have
/// admitted it, so this is her doing. Her own entry below the merge, which she has not signed either,
/// is only as good as the merge, which cannot be stored.
#[test]
fn an_author_proves_only_entries_in_its_own_name() {
    let root = put(None, &[], &Genuine(ANN), open_genesis("merge"));
    let tree = Some(TreeId::from_root(root.id()));
    let data = |text: &'static str| Body::Data(Bytes::from_static(text.as_bytes()));
    let own = put(tree, &[&root], &Fake(ANN), data("own"));
    let other = put(tree, &[&root], &Fake(BEN), data("other"));
    let merge = put(tree, &[&own, &other], &Genuine(ANN), data("merge"));
    assert_stops_at(&[root, own, other, merge], 1);
}

#[test]
fn single_entries_are_checked_by_themselves() {
    let entries = chain(&[Genuine(BEN), Fake(BEN)]);
    assert!(VerifiedEntry::verify(entries[1].clone()).is_ok());
    let id = entries[2].id();
    assert_eq!(
        VerifiedEntry::verify(entries[2].clone()),
        Err(Forged { id })
    );
}

#[test]
fn one_signature_is_checked_for_each_run() {
    let checked = |authors: &[u32]| {
        let links: Vec<Link> = authors.iter().map(|author| Genuine(*author)).collect();
        let count = links.len() + 1;
        let verification = verify_batch(chain(&links));
        assert_eq!(verification.forged(), None);
        assert_eq!(verification.verified.len(), count);
        verification.signatures_checked
    };
    // The root is Ann's.
    assert_eq!(checked(&[]), 1);
    assert_eq!(checked(&[ANN; 50]), 1);
    assert_eq!(checked(&[BEN; 50]), 2);
    assert_eq!(checked(&[ANN, BEN, BEN, ANN, ANN, BEN]), 4);
}

#[test]
fn merges_of_one_author_are_one_run() {
    for shape in Shape::ALL {
        let entries = build_with(&shape.parents(200, 1), |_| ANN, |_| Bytes::new());
        let tips = eidetica_dag::testing::dag_of(entries.clone()).prefix().tips;
        let entries = entries.into_iter().map(VerifiedEntry::into_inner);
        let verification = verify_batch(entries.collect());
        assert_eq!(verification.forged(), None);
        assert_eq!(verification.signatures_checked, tips.len(), "{shape:?}");
    }
}

#[test]
fn runs_of_several_authors_cost_less_than_entries() {
    let entries = build(&Shape::Linear.parents(700, 1));
    let entries = entries.into_iter().map(VerifiedEntry::into_inner);
    assert_eq!(verify_batch(entries.collect()).signatures_checked, 100);
}

#[test]
fn an_empty_batch_is_fine() {
    let verification = verify_batch(vec![]);
    assert_eq!(verification.forged(), None);
    assert_eq!(verification.signatures_checked, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Mallory forges entries anywhere in a tree and writes or forges everything on top of them, for
    /// no other author would. The first forged entry is always found.
    #[test]
    fn the_first_forged_entry_is_always_found(
        shape in prop::sample::select(Shape::ALL.to_vec()),
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        let parents = shape.parents(2 + random.below(60), seed);
        let mut tainted: Vec<bool> = Vec::new();
        let mut first_forged = None;
        let mut entries = vec![put(None, &[], &Genuine(ANN), open_genesis("random"))];
        let tree = TreeId::from_root(entries[0].id());
        for (index, parents) in parents.iter().enumerate() {
            tainted.push(parents.iter().any(|parent| tainted[*parent as usize]));
            if index == 0 {
                continue;
            }
            let link = match random.below(20) {
                0 => Fake(ANN),
                1 => Fake(BEN),
                2 => Genuine(MALLORY),
                _ if tainted[index] => Genuine(MALLORY),
                even if even % 2 == 0 => Genuine(ANN),
                _ => Genuine(BEN),
            };
            if matches!(link, Fake(_)) {
                tainted[index] = true;
                first_forged = first_forged.or(Some(index));
            }
            let root = [0];
            let parents = if parents.is_empty() { &root[..] } else { parents };
            let below: Vec<&SignedEntry> = parents.iter().map(|at| &entries[*at as usize]).collect();
            let data = Body::Data(index.to_string().into());
            let entry = put(Some(tree), &below, &link, data);
            entries.push(entry);
        }
        match first_forged {
            Some(index) => assert_stops_at(&entries, index),
            None => prop_assert_eq!(verify_batch(entries).forged(), None),
        }
    }
}

/// Tells for each number of entries whether that many, from the first on, prove each other: every
/// one is signed, or its author signed one of them that names it as a parent.
fn proved(entries: &[SignedEntry]) -> Vec<bool> {
    let signed: Vec<bool> = entries.iter().map(|it| it.has_valid_signature()).collect();
    let proves = |above: &SignedEntry, below: &SignedEntry| {
        let author = below.entry().author;
        above.entry().author == author && above.entry().parents.contains(&below.id())
    };
    let provers_of = |below: &SignedEntry| -> Vec<usize> {
        let places = 0..entries.len();
        places
            .filter(|above| proves(&entries[*above], below))
            .collect()
    };
    let provers: Vec<_> = entries.iter().map(provers_of).collect();
    let is_proved = |count: usize| {
        let mut proven = signed[..count].to_vec();
        for place in (0..count).rev() {
            let mut provers = provers[place].iter();
            proven[place] |= provers.any(|above| *above < count && proven[*above]);
        }
        proven.into_iter().all(|proven| proven)
    };
    (0..=entries.len()).map(is_proved).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// An author who signs wrongly on purpose, on a tree of any shape, in batches of any size: what
    /// is given out is proved within itself at every moment, in order, and no more is kept than must
    /// be.
    #[test]
    fn unproven_entries_wait_for_the_entry_that_proves_them(
        shape in prop::sample::select(Shape::ALL.to_vec()),
        seed: u64,
        cuts in prop::collection::vec(1..20_usize, 1..60),
    ) {
        let mut random = Random::new(seed);
        let parents = shape.parents(2 + random.below(60), seed);
        let mut entries = vec![put(None, &[], &Genuine(ANN), open_genesis("random"))];
        let tree = TreeId::from_root(entries[0].id());
        for (index, parents) in parents.iter().enumerate().skip(1) {
            let link = match random.below(6) {
                0 => Fake(ANN),
                1 => Fake(BEN),
                even if even % 2 == 0 => Genuine(ANN),
                _ => Genuine(BEN),
            };
            let root = [0];
            let parents = if parents.is_empty() { &root[..] } else { parents };
            let below: Vec<&SignedEntry> = parents.iter().map(|at| &entries[*at as usize]).collect();
            entries.push(put(Some(tree), &below, &link, Body::Data(index.to_string().into())));
        }
        let proved = proved(&entries);
        let mut unproven = UnprovenEntries::default();
        let (mut left, mut given) = (entries.as_slice(), Vec::new());
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (batch, rest) = left.split_at(cut.min(left.len()));
            left = rest;
            let out = unproven.handle_batch(verify_batch(batch.to_vec()));
            given.extend(out.into_iter().map(VerifiedEntry::into_inner));
            prop_assert!(proved[given.len()]);
            let out = unproven.take_proven();
            given.extend(out.into_iter().map(VerifiedEntry::into_inner));
            prop_assert!(proved[given.len()]);
            prop_assert_eq!(&given, &entries[..given.len()]);
            let came = entries.len() - left.len();
            let longest = (0..=came).rev().find(|count| proved[*count]);
            prop_assert_eq!(Some(given.len()), longest);
        }
        let first = entries.get(given.len()).map(SignedEntry::id);
        prop_assert_eq!(unproven.first().map(|forged| forged.id), first);
        let kept: usize = entries[given.len()..].iter().map(|it| it.encoded().len()).sum();
        prop_assert_eq!(unproven.bytes(), kept);
    }
}

/// A receiver sends on what it accepts, so the proof must be as near for the next receiver: an entry
/// too far away proves nothing, however the entries are cut into batches.
#[test]
fn an_entry_too_far_away_proves_nothing() {
    let root = put(None, &[], &Genuine(ANN), open_genesis("far"));
    let tree = Some(TreeId::from_root(root.id()));
    let fake = put(
        tree,
        &[&root],
        &Fake(ANN),
        Body::Data(Bytes::from_static(b"fake")),
    );
    let proof = put(
        tree,
        &[&fake],
        &Genuine(ANN),
        Body::Data(Bytes::from_static(b"true")),
    );
    let large = Body::Data(vec![7; 1_000_000].into());
    let filler = put(tree, &[&root], &Genuine(BEN), large);
    let ends = fake.encoded().len() + proof.encoded().len();
    let fit = (UNPROVEN_BYTES_MAX - ends) / filler.encoded().len();
    for (between, counts) in [(fit, true), (fit + 1, false)] {
        let mut unproven = UnprovenEntries::default();
        let mut given = unproven.handle_batch(verify_batch(vec![root.clone(), fake.clone()]));
        for _ in 0..between {
            given.extend(unproven.handle_batch(verify_batch(vec![filler.clone()])));
        }
        given.extend(unproven.handle_batch(verify_batch(vec![proof.clone()])));
        given.extend(unproven.take_proven());
        let expected = if counts { between + 3 } else { 1 };
        assert_eq!(given.len(), expected, "{between} between");
        assert_eq!(unproven.first().is_none(), counts);
    }
}

/// If the entry that proves another one is refused, waits, or comes after a refused one, the other
/// must be proven by its own signature.
#[test]
fn an_unproven_entry_is_not_stored_alone() {
    let entries = chain(&[Genuine(ANN), Fake(ANN), Genuine(ANN)]);
    let tree = TreeId::from_root(entries[0].id());
    let [root, below, fake, above] = entries.try_into().expect("four");
    let liar = Entry {
        height: 9,
        ..above.entry().clone()
    };
    let liar = VerifiedEntry::sign(liar, &key(ANN)).expect("well formed");
    let orphan = Entry {
        parents: vec![eidetica_dag::EntryId::from_bytes([1; 32])],
        ..above.entry().clone()
    };
    let orphan = VerifiedEntry::sign(orphan, &key(ANN)).expect("well formed");
    let whole = [root, below.clone(), fake.clone(), above.clone()];
    let whole = verify_batch(whole.into()).verified;
    let [root, below, fake, above] = whole.try_into().expect("all are proven");

    let mut dag = MemoryDag::new(tree);
    let batch = vec![
        root.clone(),
        below.clone(),
        fake.clone(),
        liar,
        above.clone(),
    ];
    let outcome = dag.append(batch);
    assert_eq!(outcome.stored, 0..2);
    let refusal = outcome.refused.expect("it proves nothing");
    assert_eq!(
        (refusal.id, refusal.rule),
        (fake.get().id(), Rule::Unproven)
    );

    let outcome = dag.append(vec![fake.clone(), orphan]);
    assert_eq!(outcome.stored, 2..2);
    assert_eq!(outcome.refused.expect("as above").rule, Rule::Unproven);
    let outcome = dag.append(vec![fake, above]);
    assert_eq!((outcome.stored, outcome.refused), (2..4, None), "together");
}

#[test]
fn what_is_signed_here_verifies() {
    let root = sign_on_top(None, [], &key(ANN), 0, open_genesis("here"));
    assert!(root.get().has_valid_signature());
}
