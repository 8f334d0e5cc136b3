//! Watches between honest peers.

use eidetica_dag::testing::draw::Drawing;
use eidetica_dag::testing::shapes::{build, dag_of, sign_on_top};
use eidetica_dag::testing::{Drawn, draw, genesis, key};
use eidetica_dag::{
    AccessChange, Body, DagView, EntryId, Role, Subject, TreeId, VerifiedEntry, tip_ids,
};
use eidetica_proto::testing::{LINK_LOG, MemoryTrees, WatchLink};
use eidetica_proto::watch::{HEARTBEAT_MS, SILENCE_MAX_MS, WATCH_BEHIND_MAX, WatchStep};
use eidetica_proto::{Cursor, LogId};

use crate::live::{START_MS, draw_by, end_of, entries, place};

fn named(drawn: &Drawn) -> impl Fn(&EntryId) -> String + 'static {
    let all = entries(&drawn.dag, 0);
    let names: Vec<(EntryId, String)> = all
        .iter()
        .map(|entry| entry.get().id())
        .map(|id| (id, drawn.name_of(&id).to_owned()))
        .collect();
    move |id| {
        let name = names.iter().find(|(known, _)| known == id);
        name.map_or("?".to_owned(), |(_, name)| name.clone())
    }
}

/// A watch of one drawn tree by A, which has everything up to these names, as B has.
fn watching(drawn: &Drawn, names: &[&str]) -> (MemoryTrees, MemoryTrees, WatchLink) {
    let dag = drawn.replica(names);
    let link = WatchLink::open([(drawn.tree(), end_of(&dag))], None, LINK_LOG, START_MS);
    let (a, b) = (MemoryTrees::new([dag.clone()]), MemoryTrees::new([dag]));
    (a, b, link.names(named(drawn)))
}

#[test]
fn news_takes_one_frame() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b, mut link) = watching(&drawn, &["B"]);
    link.run(&mut a, &b);
    assert!(link.take_transcript().is_empty(), "nothing is new");
    let tree = drawn.tree();
    link.append_at_b(&mut b, tree, drawn.entries(&["C"]), None);
    link.run(&mut a, &b);
    assert_eq!(
        link.take_transcript(),
        ["B -> A news of 0: C", "A stores C"]
    );
    assert_eq!(link.cursors[&tree], end_of(&b.dag(tree)));
    link.append_at_b(&mut b, tree, drawn.entries(&["D"]), None);
    link.run(&mut a, &b);
    assert_eq!(
        link.take_transcript(),
        ["B -> A news of 0: D", "A stores D"]
    );
    assert_eq!(tip_ids(&*a.dag(tree)), tip_ids(&*b.dag(tree)));
}

#[test]
fn one_watch_carries_several_trees() {
    let drawn = [draw_by(1, "A-B"), draw_by(2, "R-S-T")];
    let starts = [drawn[0].replica(&["A"]), drawn[1].replica(&["R"])];
    let cursors = starts.iter().map(|dag| (dag.tree(), end_of(dag)));
    let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    let (mut a, mut b) = (MemoryTrees::new(starts.clone()), MemoryTrees::new(starts));
    link.append_at_b(&mut b, drawn[1].tree(), drawn[1].entries(&["S", "T"]), None);
    link.append_at_b(&mut b, drawn[0].tree(), drawn[0].entries(&["B"]), None);
    link.run(&mut a, &b);
    let news = link.take_transcript();
    assert_eq!(news.iter().filter(|line| line.contains("news")).count(), 2);
    for drawn in &drawn {
        let tree = drawn.tree();
        assert_eq!(tip_ids(&*a.dag(tree)), tip_ids(&*b.dag(tree)));
        assert_eq!(link.cursors[&tree], end_of(&b.dag(tree)));
    }
}

#[test]
fn what_the_watcher_brought_is_not_sent_back() {
    let drawn = draw("A-B-C-D-E");
    let tree = drawn.tree();
    let dag = drawn.replica(&["B"]);
    let client = key(5).public();
    let cursor = end_of(&dag);
    let mut link =
        WatchLink::open([(tree, cursor)], Some(client), LINK_LOG, START_MS).names(named(&drawn));
    let mut a = MemoryTrees::new([drawn.replica(&["D"])]);
    let mut b = MemoryTrees::new([dag]);
    link.append_at_b(&mut b, tree, drawn.entries(&["C", "D"]), Some(client));
    link.run(&mut a, &b);
    assert!(link.take_transcript().is_empty());
    link.append_at_b(&mut b, tree, drawn.entries(&["E"]), Some(key(6).public()));
    link.run(&mut a, &b);
    assert_eq!(
        link.take_transcript(),
        ["B -> A news of 0: E", "A stores E"]
    );
    assert_eq!(link.redundant, 0);
}

/// While the connection has no room, the server keeps one number; then all comes in one batch.
#[test]
fn a_slow_watcher_gets_larger_batches_later() {
    let parents: Vec<Vec<u32>> = (0..400_u32)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    let all = build(&parents);
    let dag = dag_of(all[..1].to_vec());
    let tree = dag.tree();
    let mut link = WatchLink::open([(tree, end_of(&dag))], None, LINK_LOG, START_MS);
    let (mut a, mut b) = (MemoryTrees::new([dag.clone()]), MemoryTrees::new([dag]));
    for entry in &all[1..] {
        link.append_at_b(&mut b, tree, vec![entry.clone()], None);
    }
    let frame = link.poll_frame(&b).expect("there is news");
    assert_eq!(link.poll_frame(&b), None, "one frame has all of it");
    link.deliver(&mut a, &frame).expect("B is honest");
    assert_eq!(a.dag(tree).entry_count(), 400);
}

#[test]
fn a_revoked_peer_gets_nothing_more() {
    let reader = key(7).public();
    let access = vec![AccessChange::grant(Subject::Key(reader), Role::Read)];
    let body = |name: &str| (name == "A").then(|| genesis("guarded", access.clone()));
    let drawn = Drawing::of("A-B-C").body(body).draw();
    let tree = drawn.tree();
    let dag = drawn.replica(&["B"]);
    let open = |client| {
        let cursors = [(tree, end_of(&dag))];
        WatchLink::open(cursors, client, LINK_LOG, START_MS).names(named(&drawn))
    };
    let mut a = MemoryTrees::new([dag.clone()]);
    let mut b = MemoryTrees::new([dag.clone()]);
    let mut link = open(Some(reader));
    link.append_at_b(&mut b, tree, drawn.entries(&["C"]), None);
    link.run(&mut a, &b);
    assert_eq!(
        link.take_transcript(),
        ["B -> A news of 0: C", "A stores C"]
    );
    let revoked = AccessChange {
        subject: Subject::Key(reader),
        role: None,
    };
    let last = drawn.entry("C");
    let revoke = sign_on_top(Some(tree), [&last], &key(0), 0, Body::Access(vec![revoked]));
    link.append_at_b(&mut b, tree, vec![revoke.clone()], None);
    let more = sign_on_top(
        Some(tree),
        [&revoke],
        &key(0),
        0,
        Body::Data(Default::default()),
    );
    link.append_at_b(&mut b, tree, vec![more], None);
    link.run(&mut a, &b);
    let gone = ["B -> A 0 is gone", "A learns that it is gone"];
    assert_eq!(link.take_transcript(), gone);
    assert_eq!(a.dag(tree).entry_count(), 3);
    // A stranger, an absent tree and a client without a key get the same bytes.
    let mut frames = Vec::new();
    for (client, trees) in [
        (Some(key(8).public()), &b),
        (Some(reader), &MemoryTrees::default()),
        (None, &b),
    ] {
        frames.push(open(client).poll_frame(trees));
    }
    frames.dedup();
    assert_eq!(frames.len(), 1);
}

#[test]
fn a_useless_cursor_leads_to_a_comparison() {
    let drawn = draw("A-B-C    B-X-Y");
    let tree = drawn.tree();
    let (dag, restored) = (drawn.replica(&["C"]), drawn.replica(&["Y"]));
    let compare = ["B -> A compare 0 first", "A has to compare"];
    let foreign = LogId::from_bytes([9; 8]);
    let Ok(of_another_log) = Cursor::at_end(foreign, &dag);
    for cursor in [of_another_log, end_of(&restored), Cursor::NONE] {
        let mut link = WatchLink::open([(tree, cursor)], None, LINK_LOG, START_MS);
        let (mut a, mut b) = (
            MemoryTrees::new([dag.clone()]),
            MemoryTrees::new([dag.clone()]),
        );
        link.run(&mut a, &b);
        assert_eq!(link.take_transcript(), compare, "{cursor:?}");
        // Nothing more is said of it.
        link.append_at_b(&mut b, tree, drawn.entries(&["X"]), None);
        link.run(&mut a, &b);
        assert!(link.take_transcript().is_empty());
    }
    // A log that becomes shorter while it is watched.
    let (mut a, mut b, mut link) = watching(&drawn, &["C"]);
    link.run(&mut a, &b);
    b.replace(drawn.replica(&["B"]));
    link.server.handle_changed(tree);
    link.run(&mut a, &b);
    assert_eq!(link.take_transcript(), compare);
}

#[test]
fn a_cursor_too_far_behind_leads_to_a_comparison() {
    let parents: Vec<Vec<u32>> = (0..WATCH_BEHIND_MAX + 2)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    let dag = dag_of(build(&parents));
    let tree = dag.tree();
    let b = MemoryTrees::new([dag.clone()]);
    for (position, is_near) in [(1, false), (2, true)] {
        let cursors = [(tree, place(&dag, position))];
        let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
        let frame = link.poll_frame(&b).expect("there is something to say");
        let mut a = MemoryTrees::default();
        // A has nothing, so that it must compare in either case; what B says is what counts.
        link.deliver(&mut a, &frame).expect("B is honest");
        let said = link.take_transcript().remove(0);
        assert_eq!(said.contains("news"), is_near, "{said}");
    }
}

#[test]
fn heartbeats_fill_silence() {
    let drawn = draw("A-B-C");
    let (mut a, mut b, mut link) = watching(&drawn, &["B"]);
    let beat = START_MS + HEARTBEAT_MS;
    let Ok(step) = link.server.poll(&b, &link.origins, START_MS);
    assert_eq!(step, WatchStep::WaitUntil(beat));
    link.now_ms = beat - 1;
    assert_eq!(link.poll_frame(&b), None);
    link.now_ms = beat;
    link.run(&mut a, &b);
    assert_eq!(link.take_transcript(), ["B -> A heartbeat"]);
    assert_eq!(link.client.timeout_ms(), beat + SILENCE_MAX_MS);
    // News counts as a sign of life, and puts the next heartbeat off.
    link.now_ms = beat + HEARTBEAT_MS - 1;
    link.append_at_b(&mut b, drawn.tree(), drawn.entries(&["C"]), None);
    link.run(&mut a, &b);
    assert_eq!(link.client.timeout_ms(), link.now_ms + SILENCE_MAX_MS);
    let Ok(step) = link.server.poll(&b, &link.origins, link.now_ms);
    assert_eq!(step, WatchStep::WaitUntil(link.now_ms + HEARTBEAT_MS));
}

/// 16,384 trees: opening says nothing of equal ones, in bounded steps; news of one is found at once.
#[test]
fn as_many_trees_as_fit() {
    use eidetica_proto::message::WATCHED_TREES_MAX;
    use eidetica_proto::watch::TREES_PER_STEP_MAX;
    let drawn = draw("A-B");
    let start = drawn.replica(&["A"]);
    let absent = |n: u32| {
        let mut bytes = [0; 32];
        bytes[28..].copy_from_slice(&n.to_be_bytes());
        TreeId::from_root(EntryId::from_bytes(bytes))
    };
    let foreign = Cursor::from_bytes(&[9; 20]).expect("short enough");
    let others = (1..WATCHED_TREES_MAX as u32).map(|n| (absent(n), foreign));
    let cursors = others.chain([(drawn.tree(), end_of(&start))]);
    let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    let (mut a, mut b) = (MemoryTrees::new([start.clone()]), MemoryTrees::new([start]));
    link.run(&mut a, &b);
    let gone = link.take_transcript().len();
    assert_eq!(
        gone,
        2 * (WATCHED_TREES_MAX - 1),
        "each absent tree is gone"
    );
    link.append_at_b(&mut b, drawn.tree(), drawn.entries(&["B"]), None);
    let Ok(step) = link.server.poll(&b, &link.origins, START_MS);
    assert!(matches!(step, WatchStep::Frame(_)));
    const { assert!(TREES_PER_STEP_MAX < WATCHED_TREES_MAX) };
}

/// Absent trees of which nothing is known are waited for in silence.
#[test]
fn an_awaited_tree_is_announced_once_it_is_there() {
    let drawn = draw("A-B-C");
    let tree = drawn.tree();
    let mut link = WatchLink::open([(tree, Cursor::NONE)], None, LINK_LOG, START_MS);
    let (mut a, mut b) = (MemoryTrees::default(), MemoryTrees::default());
    assert_eq!(link.poll_frame(&b), None);
    assert_eq!(link.server.live_count(), 1);
    assert_eq!(link.server.brought_trees().count(), 0);
    link.server.handle_changed(tree);
    assert_eq!(link.poll_frame(&b), None, "it is not there");
    link.append_at_b(&mut b, tree, drawn.entries(&["A"]), None);
    link.append_at_b(&mut b, tree, drawn.entries(&["B"]), None);
    link.run(&mut a, &b);
    let announced = ["B -> A compare 0 first", "A has to compare"];
    assert_eq!(link.take_transcript(), announced);
    link.append_at_b(&mut b, tree, drawn.entries(&["C"]), None);
    assert_eq!(link.poll_frame(&b), None, "it is said once");
    assert_eq!(link.server.live_count(), 0);
}

/// A tree that may not be read looks absent, whatever is written to it, until a grant.
#[test]
fn an_awaited_tree_is_announced_once_it_may_be_read() {
    let reader = key(7).public();
    let body = |name: &str| (name == "A").then(|| genesis("guarded", vec![]));
    let drawn = Drawing::of("A-B-C").body(body).draw();
    let tree = drawn.tree();
    let open = |client| WatchLink::open([(tree, Cursor::NONE)], client, LINK_LOG, START_MS);
    let (mut granted, mut stranger, mut keyless) =
        (open(Some(reader)), open(Some(key(8).public())), open(None));
    let (mut a, mut b) = (MemoryTrees::default(), MemoryTrees::default());
    for name in ["A", "B", "C"] {
        granted.append_at_b(&mut b, tree, drawn.entries(&[name]), None);
        assert_eq!(granted.poll_frame(&b), None);
    }
    let grant = AccessChange::grant(Subject::Key(reader), Role::Read);
    let last = drawn.entry("C");
    let grant = sign_on_top(Some(tree), [&last], &key(0), 0, Body::Access(vec![grant]));
    granted.append_at_b(&mut b, tree, vec![grant], None);
    granted.run(&mut a, &b);
    let announced = ["B -> A compare 0 first", "A has to compare"];
    assert_eq!(granted.take_transcript(), announced);
    for other in [&mut stranger, &mut keyless] {
        other.server.handle_changed(tree);
        assert_eq!(other.poll_frame(&b), None);
    }
}

/// A server with one tree that is always busy sends the news of the other one too.
#[test]
fn a_busy_tree_keeps_no_other_waiting() {
    let parents: Vec<Vec<u32>> = (0..4_000_u32)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    let busy: Vec<VerifiedEntry> = build(&parents);
    let drawn = draw("A-B");
    let (long, short) = (dag_of(busy.clone()), drawn.replica(&["A"]));
    let cursors = [
        (long.tree(), place(&long, 1)),
        (short.tree(), end_of(&short)),
    ];
    let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    let mut a = MemoryTrees::new([dag_of(busy[..1].to_vec()), short.clone()]);
    let mut b = MemoryTrees::new([long.clone(), short.clone()]);
    let first = link.poll_frame(&b).expect("the long tree");
    link.append_at_b(&mut b, short.tree(), drawn.entries(&["B"]), None);
    let mut frames = vec![first];
    while a.dag(short.tree()).entry_count() < 2 {
        let frame = frames
            .pop()
            .or_else(|| link.poll_frame(&b))
            .expect("more to come");
        link.deliver(&mut a, &frame).expect("B is honest");
    }
    assert!(
        a.dag(long.tree()).entry_count() < 4_000,
        "it came before the end of the long one"
    );
    link.run(&mut a, &b);
    assert_eq!(a.dag(long.tree()).entry_count(), 4_000);
}

/// The server learns from cursors of its log what the watcher has, once, and nothing from others.
#[test]
fn cursors_tell_the_server_what_the_watcher_has() {
    let drawn = [
        draw_by(1, "A-B-C"),
        draw_by(2, "R-S"),
        draw_by(3, "X-Y"),
        draw_by(4, "P-Q"),
    ];
    let at_b = drawn.each_ref().map(|it| it.dag.clone());
    let foreign = LogId::from_bytes([9; 8]);
    let Ok(foreign) = Cursor::at_end(foreign, &at_b[2]);
    let cursors = [
        (drawn[0].tree(), place(&at_b[0], 2)),
        (drawn[1].tree(), end_of(&at_b[1])),
        (drawn[2].tree(), foreign),
        (drawn[3].tree(), Cursor::NONE),
    ];
    let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    assert!(link.server.take_shown().is_empty(), "nothing is looked at");
    let at_a = [drawn[0].replica(&["B"]), at_b[1].clone()];
    let (mut a, b) = (MemoryTrees::new(at_a), MemoryTrees::new(at_b));
    link.run(&mut a, &b);
    let mut expected = vec![(drawn[0].tree(), 2), (drawn[1].tree(), 2)];
    expected.sort_unstable();
    assert_eq!(link.server.take_shown(), expected);
    link.server.handle_changed(drawn[0].tree());
    link.run(&mut a, &b);
    assert!(link.server.take_shown().is_empty(), "it is told once");
}
