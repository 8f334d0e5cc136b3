//! When a receiver says to store what, with virtual time.

use eidetica_dag::testing::{Drawn, draw};
use eidetica_dag::{MemoryDag, Verification, VerifiedEntry};
use eidetica_proto::receiver::{APPEND_AFTER_SILENCE_MS, APPEND_BYTES_TARGET};
use eidetica_proto::tips::EndTips;
use eidetica_proto::{Cursor, EntryReceiver, PeerFault, ReceiveStep, Received, SyncFault};

use crate::sync::{empty, entries, tips, write};

/// The end of a message whose sender says nothing of its tips.
const END: Received = Received::End {
    tips: EndTips::Untold,
    cursor: Cursor::NONE,
};

fn part(drawn: &Drawn, names: &[&str]) -> Received {
    Received::Entries(Verification {
        verified: drawn.entries(names),
        ..Verification::default()
    })
}

/// Returns what the receiver says in a word: `receive`, `await`, `done` or `append` and the names.
fn step(receiver: &mut EntryReceiver, drawn: &Drawn, now_ms: u64, dag: &mut MemoryDag) -> String {
    match receiver.poll_step(now_ms) {
        ReceiveStep::ReceivePart => "receive".to_owned(),
        ReceiveStep::AwaitAppend => "await".to_owned(),
        ReceiveStep::Done => "done".to_owned(),
        ReceiveStep::Append { tree, entries } => {
            assert_eq!(tree, drawn.tree());
            let names = entries.iter().map(|entry| drawn.name_of(&entry.get().id()));
            let said = names.fold("append".to_owned(), |said, name| said + " " + name);
            let outcome = dag.append(entries);
            receiver.handle_appended(outcome).expect("genuine entries");
            said
        }
    }
}

#[test]
fn entries_of_a_message_are_stored_after_silence_and_at_the_end() {
    let drawn = draw("A-B-C-D");
    let mut dag = empty(&drawn);
    let mut receiver = EntryReceiver::new(drawn.tree());
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "done");
    receiver.begin(4);
    assert_eq!(step(&mut receiver, &drawn, 1_000, &mut dag), "receive");
    assert_eq!(receiver.poll_wake(), None, "nothing could be stored");

    receiver
        .handle_part(part(&drawn, &["A"]), 10, 1_000)
        .expect("in its place");
    receiver
        .handle_part(part(&drawn, &["B"]), 10, 1_100)
        .expect("in its place");
    let wake_ms = 1_100 + APPEND_AFTER_SILENCE_MS;
    assert_eq!(receiver.poll_wake(), Some(wake_ms));
    assert_eq!(
        step(&mut receiver, &drawn, wake_ms - 1, &mut dag),
        "receive"
    );
    assert_eq!(step(&mut receiver, &drawn, wake_ms, &mut dag), "append A B");
    assert_eq!(step(&mut receiver, &drawn, wake_ms, &mut dag), "receive");

    receiver
        .handle_part(part(&drawn, &["C", "D"]), 10, 2_000)
        .expect("in its place");
    assert_eq!(receiver.handle_end(), Err(PeerFault::Incomplete));
    receiver.handle_part(END, 3, 2_000).expect("in its place");
    assert_eq!(receiver.handle_end(), Ok(()));
    assert!(!receiver.is_done());
    assert_eq!(step(&mut receiver, &drawn, 2_000, &mut dag), "append C D");
    assert_eq!(step(&mut receiver, &drawn, 2_000, &mut dag), "done");
    assert!(receiver.is_done());
    let counts = receiver.counts();
    assert_eq!(
        (counts.announced, counts.received, counts.stored),
        (4, 4, 4)
    );
    assert_eq!((counts.batch_bytes, counts.end_bytes), (30, 3));
}

/// While one step is being stored, another may fill up, and nothing more is read.
#[test]
fn at_most_two_steps_of_entries_are_held() {
    let mut whole = draw("A").dag;
    let text = "x".repeat(64 << 10);
    for _ in 0..80 {
        write(&mut whole, &text);
    }
    let mut all = entries(&whole);
    let bytes = |all: &[VerifiedEntry]| -> usize {
        all.iter().map(|entry| entry.get().encoded().len()).sum()
    };
    assert!(bytes(&all) > 2 * APPEND_BYTES_TARGET, "{}", bytes(&all));
    let mut dag = MemoryDag::new(whole.tree());
    let mut receiver = EntryReceiver::new(whole.tree());
    receiver.begin(all.len() as u32);
    let mut under_way = None;
    let mut held_max = 0;
    let mut held = 0;
    loop {
        match receiver.poll_step(0) {
            ReceiveStep::ReceivePart if all.is_empty() => {
                receiver.handle_part(END, 0, 0).expect("in its place")
            }
            ReceiveStep::ReceivePart => {
                let rest = all.split_off(all.len().min(2));
                held += bytes(&all);
                held_max = held_max.max(held);
                let verified = std::mem::replace(&mut all, rest);
                let batch = Verification {
                    verified,
                    ..Verification::default()
                };
                receiver
                    .handle_part(Received::Entries(batch), 0, 0)
                    .expect("in its place");
            }
            ReceiveStep::Append { entries, .. } => {
                assert!(under_way.is_none(), "one step at a time");
                under_way = Some(entries);
            }
            ReceiveStep::AwaitAppend => {
                let entries = under_way.take().expect("a step is under way");
                held -= bytes(&entries);
                let outcome = dag.append(entries);
                receiver.handle_appended(outcome).expect("genuine entries");
            }
            ReceiveStep::Done => break,
        }
    }
    assert_eq!(tips(&dag), tips(&whole));
    // A step ends with the part that fills it, which has 128 KiB.
    assert!(held_max >= 2 * APPEND_BYTES_TARGET);
    assert!(
        held_max < 2 * APPEND_BYTES_TARGET + (256 << 10) + 1_024,
        "{held_max}"
    );
}

#[test]
fn entries_of_an_endless_stream_are_stored_at_once() {
    let drawn = draw("A-B-C-D-E");
    let mut dag = drawn.replica(&["A"]);
    let mut receiver = EntryReceiver::new(drawn.tree());
    receiver.begin_endless();
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "receive");
    for (names, said) in [(["B"], "append B"), (["C"], "append C")] {
        receiver
            .handle_part(part(&drawn, &names), 10, 0)
            .expect("in its place");
        assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), said);
        assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "receive");
    }
    // E comes without its parent. It waits, and is tried again when the sender has caught up.
    receiver
        .handle_part(part(&drawn, &["E"]), 10, 0)
        .expect("in its place");
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "append E");
    assert!(receiver.missing().eq(drawn.ids(&["D"])));
    dag.append(drawn.entries(&["D"]));
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "receive");
    receiver.handle_caught_up().expect("nothing is forged");
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "append E");
    assert_eq!(step(&mut receiver, &drawn, 0, &mut dag), "receive");
    assert!(!receiver.has_waiting() && receiver.missing().next().is_none());
    assert_eq!(tips(&dag), drawn.ids(&["E"]));
}

#[test]
fn what_arrived_before_a_break_is_stored_and_what_waits_is_not_tried() {
    let drawn = draw("A-B-C-D");
    let mut dag = drawn.replica(&["A"]);
    let mut receiver = EntryReceiver::new(drawn.tree());
    receiver.begin(3);
    receiver
        .handle_part(part(&drawn, &["D"]), 10, 0)
        .expect("in its place");
    assert_eq!(
        step(&mut receiver, &drawn, APPEND_AFTER_SILENCE_MS, &mut dag),
        "append D"
    );
    receiver
        .handle_part(part(&drawn, &["B"]), 10, 300)
        .expect("in its place");
    receiver.handle_break();
    assert_eq!(step(&mut receiver, &drawn, 300, &mut dag), "append B");
    assert_eq!(step(&mut receiver, &drawn, 300, &mut dag), "done");
    let late = receiver.handle_part(part(&drawn, &["C"]), 10, 300);
    assert!(matches!(
        late,
        Err(SyncFault::Peer(PeerFault::OutOfPlace { .. }))
    ));
    assert_eq!(tips(&dag), drawn.ids(&["B"]));
}
