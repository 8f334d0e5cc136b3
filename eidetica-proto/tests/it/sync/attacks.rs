//! What a client can do to a server with numbers that lie: little, and nothing that costs much.

use eidetica_dag::testing::shapes::build_with;
use eidetica_dag::testing::{Random, dag_of};
use eidetica_dag::{EntryId, MemoryDag, VerifiedEntry};
use eidetica_proto::answer::{AnswerError, answer_sync};
use eidetica_proto::message::{Request, RequestHeader, Sample, SyncTree};
use eidetica_proto::testing::{LINK_LOG, Link};
use eidetica_proto::tips::{TIPS_MAX, TipDigest, TipSet, TipSketch};
use eidetica_proto::{ErrorCode, Filter, FilterBudget, SyncOutcome};

use crate::sync::SEED;

fn line(count: u32) -> Vec<VerifiedEntry> {
    let parents: Vec<Vec<u32>> = (0..count)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    build_with(&parents, |_| 0, |n| n.to_le_bytes().to_vec().into())
}

fn random_ids(count: usize) -> Vec<EntryId> {
    let mut random = Random::new(1);
    let mut id = || {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).for_each(|part| {
            part.copy_from_slice(&random.next_u64().to_le_bytes());
        });
        EntryId::from_bytes(bytes)
    };
    let mut ids: Vec<EntryId> = (0..count).map(|_| id()).collect();
    ids.sort_unstable();
    ids
}

fn ask(dag: &MemoryDag, tips: TipSet, sample: Sample, wants: Vec<EntryId>) -> SyncTree {
    SyncTree {
        tree: dag.tree(),
        tips,
        sample,
        wants,
    }
}

/// Returns how many entries the answer has, or how it refuses.
fn answered(dag: &MemoryDag, request: SyncTree) -> Result<Option<u32>, ErrorCode> {
    // It must pass the decoder first, as everything from outside does.
    let frame = RequestHeader::new(Request::SyncTree(request)).encode();
    let request = match RequestHeader::decode(&frame)
        .map_err(|error| error.code)?
        .request
    {
        Request::SyncTree(request) => request,
        other => panic!("{other:?}"),
    };
    match answer_sync(dag, LINK_LOG, &request) {
        Ok(answer) => Ok(answer.entries.map(|entries| entries.entry_count())),
        Err(AnswerError::Refuse(error)) => Err(error.code),
        Err(AnswerError::View(never)) => match never {},
    }
}

#[test]
fn a_million_tips_are_refused_before_any_work() {
    let dag = dag_of(line(10));
    let tips = random_ids(1_000_000);
    let listed = ask(&dag, TipSet::Listed(tips.clone()), Sample::None, vec![]);
    assert_eq!(answered(&dag, listed), Err(ErrorCode::TooLarge));
    let sketch = TipSketch::new(TipDigest::of(&tips), &tips, SEED).0;
    let sketched = ask(&dag, TipSet::Sketch(sketch), Sample::None, vec![]);
    assert_eq!(answered(&dag, sketched), Err(ErrorCode::Malformed));
}

#[test]
fn as_many_tips_as_may_be_get_the_tree_once() {
    let dag = dag_of(line(600));
    let tips = random_ids(TIPS_MAX);
    let sketch = || TipSet::Sketch(TipSketch::new(TipDigest::of(&tips), &tips, SEED).0);
    assert_eq!(
        answered(&dag, ask(&dag, sketch(), Sample::None, vec![])),
        Ok(None)
    );
    let Ok(filter) = Filter::build(&dag_of(line(1)), SEED, FilterBudget::for_tips(1));
    let full = filter.map_or(Sample::None, Sample::Full);
    // A peer that has any entry has the root.
    assert_eq!(
        answered(&dag, ask(&dag, sketch(), full, vec![])),
        Ok(Some(599))
    );
}

#[test]
fn wants_that_do_not_exist_bring_nothing() {
    let dag = dag_of(line(600));
    let request = ask(
        &dag,
        TipSet::Listed(vec![]),
        Sample::None,
        random_ids(4_000),
    );
    assert_eq!(answered(&dag, request), Ok(Some(0)));
}

#[test]
fn a_filter_that_claims_everything_harms_its_client_alone() {
    let entries = line(600);
    let whole = dag_of(entries.clone());
    let Ok(filter) = Filter::build(&whole, SEED, FilterBudget::for_tips(1));
    let unknown = TipSet::Listed(random_ids(1));
    let sample = filter.map_or(Sample::None, Sample::Full);
    let claims = answered(&whole, ask(&whole, unknown, sample, vec![])).expect("an answer");
    assert!(claims.expect("entries") < 600, "it believes the filter");
    // An honest client is not touched by that.
    let (mut a, mut b) = (dag_of(entries[..10].to_vec()), whole);
    let report = Link::new(&mut a, &mut b).run().report();
    assert_eq!(
        (report.outcome, report.stats.stored),
        (SyncOutcome::Equal, 590)
    );
}

/// A writer grows a chain far above everybody else's work. It is the highest tip on one side, and
/// takes no more from the sample of the others than any other branch.
#[test]
fn a_tall_chain_of_spam_costs_one_round_trip_and_little_else() {
    const SHARED: u32 = 1_000;
    const SPAM: u32 = 4_000;
    let mut parents: Vec<Vec<u32>> = (0..SHARED)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    // The spam grows from the root; then each side writes ten entries on the shared work.
    parents.extend((0..SPAM).map(|n| vec![if n == 0 { 0 } else { SHARED + n - 1 }]));
    let written = |parents: &mut Vec<Vec<u32>>| {
        let first = parents.len() as u32;
        parents.extend((0..10).map(|n| vec![if n == 0 { SHARED - 1 } else { first + n - 1 }]));
        first as usize..first as usize + 10
    };
    let (by_a, by_b) = (written(&mut parents), written(&mut parents));
    let entries = build_with(&parents, |n| n % 3, |n| n.to_le_bytes().to_vec().into());
    let (shared, spam) = (
        0..SHARED as usize,
        SHARED as usize..(SHARED + SPAM) as usize,
    );
    let with = |parts: &[std::ops::Range<usize>]| {
        dag_of(
            parts
                .iter()
                .flat_map(|part| entries[part.clone()].to_vec())
                .collect(),
        )
    };
    for (spam_at_a, spam_at_b) in [(true, false), (false, true), (true, true)] {
        let side = |own: &std::ops::Range<usize>, has_spam: bool| match has_spam {
            true => with(&[shared.clone(), spam.clone(), own.clone()]),
            false => with(&[shared.clone(), own.clone()]),
        };
        let (mut a, mut b) = (side(&by_a, spam_at_a), side(&by_b, spam_at_b));
        let report = Link::new(&mut a, &mut b).run().report();
        assert_eq!(report.outcome, SyncOutcome::Equal);
        assert_eq!(report.stats.pull_round_trips, 1);
        let missing = report.stats.stored;
        assert!(
            report.stats.redundant <= 32 + missing * 3 / 100,
            "{:?}",
            report.stats
        );
    }
}
