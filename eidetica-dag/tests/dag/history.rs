//! The real history as a tree of signed entries.

use eidetica_dag::testing::{build, dag_of, git_history};
use eidetica_dag::{DagView, VerifiedEntry, check, tip_ids, verify_batch};

/// The older part of it: signing everything takes longer than it teaches.
const ENTRIES: usize = 30_000;

#[test]
fn the_real_history_is_a_tree_without_problems() {
    let entries = build(&git_history()[..ENTRIES]);
    let dag = dag_of(entries.clone());
    assert_eq!(dag.entry_count() as usize, ENTRIES);
    assert_eq!(check(&dag, dag.tree(), |_| {}), Ok(vec![]));

    // Sent in batches of a usual size, it costs far fewer signatures than entries.
    let mut replica = eidetica_dag::MemoryDag::new(dag.tree());
    let mut signatures = 0;
    let mut left = entries
        .into_iter()
        .map(VerifiedEntry::into_inner)
        .peekable();
    while left.peek().is_some() {
        let verification = verify_batch(left.by_ref().take(1_000).collect());
        assert_eq!(verification.forged(), None);
        signatures += verification.signatures_checked;
        replica.append(verification.verified);
    }
    assert_eq!(tip_ids(&replica), tip_ids(&dag));
    assert!(signatures * 2 < ENTRIES, "{signatures} signatures");
}
