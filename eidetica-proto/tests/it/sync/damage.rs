//! Frames with a flipped bit. Transports keep bits from flipping; this shows that nothing here
//! relies on it.

use bytes::{Bytes, BytesMut};
use eidetica_dag::testing::{Drawn, draw_with, key};
use eidetica_dag::{DagView, MemoryDag};
use eidetica_proto::SyncOutcome;
use eidetica_proto::testing::Link;

use crate::sync::{empty, entries, tips};

fn flip(frame: &Bytes, bit: usize) -> Bytes {
    let mut damaged = BytesMut::from(frame.as_ref());
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged.freeze()
}

/// Returns the lengths of the frames of a sync.
fn frame_lengths(a: &MemoryDag, b: &MemoryDag) -> Vec<usize> {
    let mut lengths = Vec::new();
    let measure = |_, _, frame: Bytes| {
        lengths.push(frame.len());
        vec![frame]
    };
    let run = Link::new(&mut a.clone(), &mut b.clone())
        .tamper(measure)
        .run();
    assert_eq!(run.report().outcome, SyncOutcome::Equal);
    lengths
}

fn assert_genuine(drawn: &Drawn, dag: &MemoryDag, place: (usize, usize)) {
    for entry in entries(dag) {
        let Ok(drawn_at) = drawn.dag.arrival(&entry.get().id());
        assert!(
            drawn_at.is_some(),
            "a foreign entry, frame and bit {place:?}"
        );
    }
}

/// Flips one bit of every byte of every frame, one at a time: no panic, nothing stored that is not
/// of the tree, and another sync heals whatever was lost.
#[test]
fn a_flipped_bit_anywhere_does_no_harm() {
    let drawn = draw_with(
        r"
          C-D-E
         /
        A-B-X-Y
        ",
        |name| key(name.len() as u32 + u32::from(name > "D")),
    );
    for (a, b) in [
        (drawn.replica(&["E"]), drawn.replica(&["Y"])),
        (empty(&drawn), drawn.replica(&["E", "Y"])),
    ] {
        for (frame, length) in frame_lengths(&a, &b).into_iter().enumerate() {
            for byte in 0..length {
                let bit = byte * 8 + (byte + frame) % 8;
                let (mut a, mut b) = (a.clone(), b.clone());
                let damage = |_, number, bytes: Bytes| match number == frame {
                    true => vec![flip(&bytes, bit)],
                    false => vec![bytes],
                };
                let _any_outcome = Link::new(&mut a, &mut b).tamper(damage).run();
                assert_genuine(&drawn, &a, (frame, bit));
                assert_genuine(&drawn, &b, (frame, bit));
                let healed = Link::new(&mut a, &mut b).run().report();
                assert_eq!(
                    healed.outcome,
                    SyncOutcome::Equal,
                    "frame {frame}, bit {bit}"
                );
                assert_eq!(tips(&a), tips(&b));
            }
        }
    }
}
