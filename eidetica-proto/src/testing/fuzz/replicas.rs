//! Copies of small trees that differ.

use std::sync::OnceLock;

use eidetica_dag::MemoryDag;
use eidetica_dag::testing::{Drawn, draw_with, key};

use crate::testing::Link;
use crate::testing::Way;

/// Two copies of a tree.
pub(super) struct Pair {
    /// The whole tree.
    pub(super) drawn: Drawn,
    pub(super) a: MemoryDag,
    pub(super) b: MemoryDag,
}

/// Returns pairs that have everything to say to each other that there is: one side is empty or
/// behind, both wrote, they are equal, and there are too many tips to list.
pub(super) fn pairs() -> &'static [Pair] {
    static PAIRS: OnceLock<Vec<Pair>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let fork = "  C-D-E \n / \nA-B-X-Y";
        let fan = "   C1  C2  C3  C4  C5  C6  C7  C8  C9\n\
                   A-C1  A-C2  A-C3  A-C4  A-C5  A-C6  A-C7  A-C8  A-C9  A-B";
        vec![
            pair(fork, &["E"], &["Y"]),
            pair(fork, &[], &["E", "Y"]),
            pair(fork, &["E", "Y"], &["B"]),
            pair(fork, &["Y"], &["Y"]),
            pair(
                fan,
                &["C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9"],
                &["C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "B"],
            ),
        ]
    })
}

fn pair(drawing: &str, a: &[&str], b: &[&str]) -> Pair {
    // Runs of several authors, so that some entries prove others and some do not.
    let author = |name: &str| key(name.len() as u32 + u32::from(name > "D"));
    let drawn = draw_with(drawing, author);
    let replica = |names: &[&str]| match names {
        [] => MemoryDag::new(drawn.tree()),
        names => drawn.replica(names),
    };
    let (a, b) = (replica(a), replica(b));
    Pair { drawn, a, b }
}

/// Returns every frame of the syncs of all pairs that goes one way.
pub(super) fn genuine_frames(wanted: Way) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for Pair { a, b, .. } in pairs() {
        let (mut a, mut b) = (a.clone(), b.clone());
        Link::new(&mut a, &mut b)
            .tamper(|way, _, frame| {
                if way == wanted {
                    frames.push(frame.to_vec());
                }
                vec![frame]
            })
            .run()
            .report();
    }
    frames
}
