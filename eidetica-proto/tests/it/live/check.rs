//! Checks of many trees in one request.

use eidetica_dag::testing::draw::Drawing;
use eidetica_dag::testing::{draw, genesis, key, shapes};
use eidetica_dag::{DagView, MemoryDag, PublicKey, TreeId, VerifiedEntry};
use eidetica_proto::check::{CHECK_TIPS_MAX, CheckOutcome, CheckSession, answer_check, digest};
use eidetica_proto::message::{CheckTrees, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::testing::{LINK_LOG, MemoryTrees};
use eidetica_proto::tips::TipDigest;

use crate::live::{draw_by, end_of};

fn tips(dag: &MemoryDag) -> (TreeId, TipDigest) {
    let Ok(tips) = TipDigest::of_view(dag);
    (dag.tree(), tips)
}

/// Asks until everything is answered. Returns how many requests that took.
fn check(
    asked: Vec<(TreeId, TipDigest)>,
    b: &MemoryTrees,
    client: Option<&PublicKey>,
) -> (Vec<(TreeId, CheckOutcome)>, usize) {
    let mut session = CheckSession::new(asked, *b"the seed");
    let (mut outcomes, mut requests) = (Vec::new(), 0);
    while let Some(request) = session.poll_request() {
        requests += 1;
        let frame = RequestHeader::new(Request::CheckTrees(request)).encode();
        let Ok(Request::CheckTrees(request)) = RequestHeader::decode(&frame).map(|it| it.request)
        else {
            panic!("our own");
        };
        let Ok(answered) = answer_check(b, LINK_LOG, client, &request);
        let frame = ResponseHeader::encode(Ok(Reply::Checked(answered.checked)));
        outcomes.extend(session.handle_header(&frame).expect("B is honest"));
    }
    (outcomes, requests)
}

#[test]
fn each_tree_is_equal_different_or_not_here() {
    let (equal, differs, absent) = (draw_by(1, "A-B"), draw_by(2, "R-S-T"), draw_by(3, "X-Y"));
    let body = |name: &str| (name == "P").then(|| genesis("guarded", vec![]));
    let forbidden = Drawing::of("P-Q").body(body).draw();
    let at_b = [
        equal.replica(&["B"]),
        differs.replica(&["S"]),
        forbidden.replica(&["Q"]),
    ];
    let at_a = [
        equal.replica(&["B"]),
        differs.replica(&["T"]),
        absent.replica(&["Y"]),
        forbidden.replica(&["Q"]),
    ];
    let cursor = end_of(&at_b[0]);
    let asked = at_a.iter().map(tips).collect();
    let (outcomes, requests) = check(asked, &MemoryTrees::new(at_b), None);
    let mut wanted = vec![
        (equal.tree(), CheckOutcome::Equal(cursor)),
        (differs.tree(), CheckOutcome::Differs),
        (absent.tree(), CheckOutcome::NotHere),
        (forbidden.tree(), CheckOutcome::NotHere),
    ];
    wanted.sort_by_key(|(tree, _)| *tree);
    assert_eq!((outcomes, requests), (wanted, 1));
}

/// Trees with many tips cost the server work, so the rest of the request is left for the next.
#[test]
fn work_is_bounded_for_each_request() {
    let fan = |n: u32| {
        let root = shapes::sign_on_top(None, [], &key(n), 0, genesis_of(n));
        let tree = TreeId::from_root(root.get().id());
        let tip = |at: u64| shapes::sign_on_top(Some(tree), [&root], &key(n), at, data());
        let all: Vec<VerifiedEntry> = [root.clone()].into_iter().chain((0..40).map(tip)).collect();
        shapes::dag_of(all)
    };
    let dags: Vec<MemoryDag> = (1..=5).map(fan).collect();
    let asked: Vec<_> = dags.iter().map(tips).collect();
    let b = MemoryTrees::new(dags);
    let (outcomes, requests) = check(asked.clone(), &b, None);
    assert_eq!((outcomes.len(), requests), (5, 1));
    const { assert!(CHECK_TIPS_MAX > 5 * 40) };
    let equal = |(_, outcome): &(TreeId, CheckOutcome)| matches!(outcome, CheckOutcome::Equal(_));
    assert!(outcomes.iter().all(equal));
}

fn genesis_of(n: u32) -> eidetica_dag::Body {
    eidetica_dag::testing::open_genesis(&format!("tree {n}"))
}

fn data() -> eidetica_dag::Body {
    eidetica_dag::Body::Data(Default::default())
}

/// An answer that leaves trees out is asked again; one that answers nothing is a fault.
#[test]
fn an_answer_in_parts_is_completed_and_an_empty_one_refused() {
    let drawn = [draw_by(1, "A-B"), draw_by(2, "R-S")];
    let dags = [drawn[0].replica(&["B"]), drawn[1].replica(&["S"])];
    let mut session = CheckSession::new(dags.iter().map(tips).collect(), [1; 8]);
    let answer = |looked_at: u32| {
        let differ = (0..looked_at as u16).collect();
        let (absent, equal) = (vec![], vec![]);
        let checked = eidetica_proto::message::Checked {
            looked_at,
            differ,
            absent,
            equal,
        };
        ResponseHeader::encode(Ok(Reply::Checked(checked)))
    };
    assert!(session.handle_header(&answer(0)).is_err());
    assert!(session.handle_header(&answer(3)).is_err());
    assert_eq!(session.handle_header(&answer(1)).map(|it| it.len()), Ok(1));
    assert_eq!(session.poll_request().map(|it| it.trees.len()), Some(1));
    assert_eq!(session.handle_header(&answer(1)).map(|it| it.len()), Ok(1));
    assert_eq!(session.poll_request(), None);
}

/// Digests depend on the seed, so that no author can prepare tips that look alike.
#[test]
fn digests_are_keyed() {
    let dag = draw("A-B").replica(&["B"]);
    let (tree, tips) = tips(&dag);
    assert_ne!(digest([1; 8], &tips), digest([2; 8], &tips));
    let request = CheckTrees {
        seed: [1; 8],
        trees: vec![(tree, digest([2; 8], &tips))],
    };
    let Ok(answered) = answer_check(&MemoryTrees::new([dag.clone()]), LINK_LOG, None, &request);
    assert_eq!((answered.checked.differ, dag.entry_count()), (vec![0], 2));
}

/// The client has what the server has of the trees that are equal, and of no others.
#[test]
fn an_equal_answer_tells_the_server_what_the_client_has() {
    let (equal, differs, forbidden) = (
        draw_by(1, "A-B-C"),
        draw_by(2, "R-S"),
        Drawing::of("P-Q")
            .body(|name: &str| (name == "P").then(|| genesis("guarded", vec![])))
            .draw(),
    );
    let at_b = [
        equal.replica(&["C"]),
        differs.replica(&["S"]),
        forbidden.replica(&["Q"]),
    ];
    let at_a = [
        equal.replica(&["C"]),
        differs.replica(&["R"]),
        forbidden.replica(&["Q"]),
    ];
    let session = CheckSession::new(at_a.iter().map(tips).collect(), *b"the seed");
    let request = session.poll_request().expect("three trees");
    let Ok(answered) = answer_check(&MemoryTrees::new(at_b), LINK_LOG, None, &request);
    assert_eq!(answered.equal, [(equal.tree(), 3)]);
}
