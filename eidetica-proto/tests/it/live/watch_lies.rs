//! Servers that lie to a watcher. Whatever they say, what is stored stays whole.

use bytes::Bytes;
use eidetica_dag::testing::draw;
use eidetica_dag::{DagView, MemoryDag, VerifiedEntry};
use eidetica_proto::batch::Packer;
use eidetica_proto::message::WatchFrame;
use eidetica_proto::testing::{LINK_LOG, MemoryTrees, WatchLink};
use eidetica_proto::{Cursor, ErrorCode, PeerFault, SyncFault, WireError};

use crate::live::{START_MS, draw_by, end_of};

fn news(tree: u16, entries: &[VerifiedEntry]) -> Bytes {
    let mut packer = Packer::new();
    entries.iter().for_each(|entry| packer.push(entry.get()));
    let batch = &packer.finish();
    let cursor = Cursor::from_bytes(&[7; 20]).expect("short enough");
    WatchFrame::Entries {
        tree,
        cursor,
        batch,
    }
    .encode()
}

fn watching(dag: &MemoryDag) -> (MemoryTrees, WatchLink) {
    let cursors = [(dag.tree(), end_of(dag))];
    let link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    (MemoryTrees::new([dag.clone()]), link)
}

#[test]
fn a_tree_that_is_not_watched_is_a_fault() {
    let drawn = draw("A-B");
    let (mut a, mut link) = watching(&drawn.replica(&["A"]));
    for frame in [
        news(1, &drawn.entries(&["B"])),
        WatchFrame::Gone { tree: 1 }.encode(),
        WatchFrame::CompareFirst { tree: u16::MAX }.encode(),
    ] {
        let fault = link.deliver(&mut a, &frame).expect_err("a wrong index");
        let wanted = PeerFault::BadList("a tree that is not watched");
        assert_eq!(fault, SyncFault::Peer(wanted));
    }
    assert_eq!(a.dag(drawn.tree()).entry_count(), 1);
}

#[test]
fn entries_of_another_tree_are_forged() {
    let (drawn, other) = (draw_by(1, "A-B"), draw_by(2, "R-S-T"));
    let (mut a, mut link) = watching(&drawn.replica(&["A"]));
    let frame = news(0, &other.entries(&["S", "T"]));
    // Read as entries of the watched tree, they are not signed, and no entry vouches for them.
    link.deliver(&mut a, &frame)
        .expect("another entry may vouch for them later");
    assert_eq!(a.dag(drawn.tree()).entry_count(), 1);
    assert_eq!(link.cursors[&drawn.tree()], end_of(&drawn.replica(&["A"])));
}

/// The watcher keeps nothing that lacks parents: it compares, and passes over what else comes.
#[test]
fn missing_parents_lead_to_a_comparison() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut link) = watching(&drawn.replica(&["A"]));
    link.deliver(&mut a, &news(0, &drawn.entries(&["C"])))
        .expect("no fault");
    let compare = "A has to compare".to_owned();
    assert_eq!(link.take_transcript().last(), Some(&compare));
    assert!(!link.cursors.contains_key(&drawn.tree()));
    link.deliver(&mut a, &news(0, &drawn.entries(&["B", "D"])))
        .expect("no fault");
    assert_eq!(a.dag(drawn.tree()).entry_count(), 1);
    assert!(link.client.wants_frame());
    let gone = WatchFrame::Gone { tree: 0 }.encode();
    link.deliver(&mut a, &gone)
        .expect("the peer does not know that this side left");
    let twice = link.deliver(&mut a, &gone);
    assert!(matches!(
        twice,
        Err(SyncFault::Peer(PeerFault::OutOfPlace { .. }))
    ));
}

/// A tree of which nothing is known is compared, and not taken from a watch.
#[test]
fn entries_of_an_awaited_tree_are_a_fault() {
    let drawn = draw("A-B");
    let cursors = [(drawn.tree(), Cursor::NONE)];
    let mut link = WatchLink::open(cursors, None, LINK_LOG, START_MS);
    let mut a = MemoryTrees::default();
    let fault = link.deliver(&mut a, &news(0, &drawn.entries(&["A", "B"])));
    let fault = fault.expect_err("it is only awaited");
    assert!(matches!(
        fault,
        SyncFault::Peer(PeerFault::OutOfPlace { .. })
    ));
    assert_eq!(a.dag(drawn.tree()).entry_count(), 0);
}

/// Cursors are opaque, so one that runs backwards is the liar's own loss: what it sends again is
/// found redundant.
#[test]
fn repeated_news_is_stored_once() {
    let drawn = draw("A-B-C");
    let (mut a, mut link) = watching(&drawn.replica(&["A"]));
    for _ in 0..3 {
        let frame = news(0, &drawn.entries(&["B", "C"]));
        link.deliver(&mut a, &frame).expect("no fault");
    }
    assert_eq!(a.dag(drawn.tree()).entry_count(), 3);
    assert_eq!(link.redundant, 4);
}

#[test]
fn news_after_the_end_is_a_fault() {
    let drawn = draw("A-B");
    for end in [
        WatchFrame::Gone { tree: 0 },
        WatchFrame::CompareFirst { tree: 0 },
    ] {
        let (mut a, mut link) = watching(&drawn.replica(&["A"]));
        link.deliver(&mut a, &end.encode()).expect("once");
        for frame in [news(0, &drawn.entries(&["B"])), end.encode()] {
            let fault = link.deliver(&mut a, &frame).expect_err("it is over");
            assert!(matches!(
                fault,
                SyncFault::Peer(PeerFault::OutOfPlace { .. })
            ));
        }
        assert_eq!(a.dag(drawn.tree()).entry_count(), 1);
    }
}

#[test]
fn failures_end_a_watch_and_unknown_frames_do_not() {
    let drawn = draw("A-B");
    let (mut a, mut link) = watching(&drawn.replica(&["A"]));
    link.now_ms += 5;
    let later = WatchFrame::Unknown(300).encode();
    link.deliver(&mut a, &later).expect("a sign of life");
    let failed = WatchFrame::Failed(WireError::new(ErrorCode::Internal, "why")).encode();
    let fault = link.deliver(&mut a, &failed).expect_err("the peer gave up");
    assert!(matches!(fault, SyncFault::Refused(error) if error.code == ErrorCode::Internal));
    for broken in [&[][..], &[0], &[0, 0, 1, 7, 9]] {
        let fault = link.deliver(&mut a, broken).expect_err("not a frame");
        assert!(matches!(fault, SyncFault::Peer(_)));
    }
}
