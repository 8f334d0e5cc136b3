//! Whole syncs in which frames are changed, dropped, repeated and swapped.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_dag::testing::Drawn;
use eidetica_dag::testing::fuzz::Input;
use eidetica_dag::{Arrival, DagView, EntryView, MemoryDag, tip_ids};

use super::replicas::{Pair, pairs};
use crate::report::{SyncOptions, SyncOutcome};
use crate::testing::Link;

/// Most frames that are tampered with in one sync.
const TAMPERED_MAX: usize = 4;

/// Frames are counted up to this number: no sync of these pairs has more.
const FRAMES_MAX: u8 = 16;

/// Runs a sync of two small replicas over a link that does harm. Whatever happens, both replicas
/// hold genuine entries with all their parents, and another sync makes them equal.
///
/// The input is pair, options, and for each frame that is tampered with its number, what is done to
/// it, and how many of the following bytes say how.
pub fn sync(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let Pair { drawn, a, b } = &pairs()[usize::from(input.byte()) % pairs().len()];
    let (mut a, mut b) = (a.clone(), b.clone());
    let flags = input.byte();
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let options = SyncOptions {
        push: !flag(0),
        filter_at_once: !flag(1),
    };
    let mut harm: BTreeMap<usize, (u8, &[u8])> = BTreeMap::new();
    while !input.is_empty() && harm.len() < TAMPERED_MAX {
        let (frame, kind) = (input.byte() % FRAMES_MAX, input.byte());
        let length = input.byte().into();
        harm.insert(frame.into(), (kind, input.take(length)));
    }
    let mut last = Bytes::new();
    let tamper = |_, number, frame: Bytes| {
        let before = std::mem::replace(&mut last, frame.clone());
        let Some((kind, edits)) = harm.get(&number) else {
            return vec![frame];
        };
        match kind % 6 {
            0 => vec![],
            1 => vec![frame.clone(), frame],
            2 => vec![before],
            3 => vec![frame, before],
            _ => {
                let mut changed = frame.to_vec();
                Input::new(edits).edit(&mut changed);
                vec![changed.into()]
            }
        }
    };
    let mut link = Link::new(&mut a, &mut b)
        .options(options, *b"the seed")
        .tamper(tamper);
    if flag(2) {
        link = link.store_each_part();
    }
    let run = link.outcome_delay(usize::from(flag(3))).run();

    assert_sound(drawn, &a);
    assert_sound(drawn, &b);
    let healed = Link::new(&mut a, &mut b).run().report();
    assert_eq!(healed.outcome, SyncOutcome::Equal);
    assert_eq!(tip_ids(&a), tip_ids(&b));
    run.result.is_ok()
}

/// Checks that a replica has nothing but entries of the drawing, each with all its parents.
pub(super) fn assert_sound(drawn: &Drawn, replica: &MemoryDag) {
    for at in (0..replica.entry_count()).map(Arrival) {
        let Ok(entry) = replica.entry(at);
        let Ok(drawn_at) = drawn.dag.arrival(&entry.id());
        assert!(drawn_at.is_some(), "a foreign entry: {entry:?}");
        for parent in &entry.entry().parents {
            let Ok(parent) = replica.arrival(parent);
            assert!(parent < Some(at) && parent.is_some(), "{entry:?}");
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let each = (0..pairs().len() as u8).flat_map(|pair| (0..4).map(move |flags| vec![pair, flags]));
    each.collect()
}
