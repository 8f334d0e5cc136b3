//! Whole syncs between two replicas: each test draws them and asserts the conversation.

mod access;
mod answering;
mod attacks;
mod concurrent;
mod conversations;
mod cuts;
mod damage;
mod false_positives;
mod lies;
mod random;
mod receiving;
mod sizes;

use eidetica_dag::testing::{Drawn, key, shapes::sign_on_top};
use eidetica_dag::{Body, DagView, EntryId, MemoryDag, VerifiedEntry, tip_ids};
use eidetica_proto::SyncOptions;

/// The seed of filters where it does not matter.
pub(crate) const SEED: [u8; 8] = *b"the seed";

/// A sync that first asks with its tips alone.
pub(crate) const TIPS_FIRST: SyncOptions = SyncOptions {
    push: true,
    filter_at_once: false,
};

/// A replica of a drawn tree that has nothing of it.
pub(crate) fn empty(drawn: &Drawn) -> MemoryDag {
    MemoryDag::new(drawn.tree())
}

pub(crate) fn tips(dag: &MemoryDag) -> Vec<EntryId> {
    let Ok(tips) = tip_ids(dag);
    tips
}

/// Lists the entries of a replica in the order of arrival.
pub(crate) fn entries(dag: &MemoryDag) -> Vec<VerifiedEntry> {
    use eidetica_dag::{Arrival, EntryView};
    (0..dag.entry_count())
        .map(|at| {
            let Ok(entry) = dag.entry(Arrival(at));
            VerifiedEntry::verify(entry).expect("what is stored is genuine")
        })
        .collect()
}

/// Writes an entry on top of all tips of a replica.
pub(crate) fn write(dag: &mut MemoryDag, text: &str) -> VerifiedEntry {
    use eidetica_dag::EntryView;
    let Ok(tips) = dag.tips();
    let parents: Vec<VerifiedEntry> = tips
        .into_iter()
        .map(|tip| {
            let Ok(entry) = dag.entry(tip);
            VerifiedEntry::verify(entry).expect("what is stored is genuine")
        })
        .collect();
    let body = Body::Data(text.as_bytes().to_vec().into());
    let entry = sign_on_top(Some(dag.tree()), &parents, &key(0), 0, body);
    assert_eq!(dag.append(vec![entry.clone()]).stored.len(), 1);
    entry
}
