//! What a difference costs: the entries that arrived since the oldest missing one.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

use eidetica_dag::testing::{Shape, Skeleton, git_history};
use eidetica_dag::walk::difference;
use eidetica_dag::{
    AccessId, AccessKey, AccessState, Arrival, CHECKPOINT_INTERVAL, DagView, EntryId, Ledger, Node,
};

/// Counts the nodes that are read.
struct Counting {
    view: Skeleton,
    nodes: Cell<u32>,
}

impl DagView for Counting {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.view.entry_count()
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Infallible> {
        self.view.tips_from(from, limit)
    }

    fn tip_count(&self) -> u32 {
        self.view.tip_count()
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, Infallible> {
        self.view.is_tip(at)
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Infallible> {
        self.view.arrival(id)
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        self.nodes.set(self.nodes.get() + 1);
        self.view.node(at)
    }

    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, Infallible> {
        self.view.last_checkpoint(stored)
    }

    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, Infallible> {
        self.view.checkpoint(stored)
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, Infallible> {
        self.view.landmarks(height, limit)
    }

    fn access_count(&self) -> u32 {
        self.view.access_count()
    }

    fn access(&self, id: AccessId) -> Result<AccessState, Infallible> {
        self.view.access(id)
    }

    fn find_access(&self, key: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        self.view.find_access(key)
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        self.view.ledger()
    }
}

/// Returns how many entries a peer lacks that knows `known`, and how many nodes were read to tell.
fn cost(parents: &[Vec<u32>], known: &[u32]) -> (usize, u32) {
    let view = Skeleton::new(parents);
    let ids: Vec<EntryId> = known
        .iter()
        .map(|at| {
            let Ok(node) = view.node(Arrival(*at));
            node.id
        })
        .collect();
    let counting = Counting {
        view,
        nodes: Cell::new(0),
    };
    let Ok(missing) = difference(&counting, &ids);
    (missing.len(), counting.nodes.get())
}

/// The tips of the first entries of a shape.
fn tips(parents: &[Vec<u32>]) -> Vec<u32> {
    let Ok(tips) = Skeleton::new(parents).tips();
    tips.into_iter().map(|at| at.0).collect()
}

#[test]
fn ten_missing_cost_the_same_in_any_history() {
    for count in [1_000, 50_000] {
        let parents = Shape::Linear.parents(count, 0);
        let (missing, nodes) = cost(&parents, &[count - 11]);
        assert_eq!(missing, 10);
        assert!(
            nodes <= 10 + CHECKPOINT_INTERVAL + 1,
            "{nodes} nodes of {count}"
        );
    }
}

#[test]
fn every_shape_is_cut_off_at_a_checkpoint() {
    for shape in Shape::ALL {
        // Random entries are left as tips all over the history, and one checkpoint has them all.
        let parents = shape.parents(20_000, 1);
        let known = tips(&parents[..19_990]);
        let (missing, nodes) = cost(&parents, &known);
        assert_eq!(missing, 10, "{shape:?}");
        let most = 10 + CHECKPOINT_INTERVAL + known.len() as u32;
        assert!(
            nodes <= most,
            "{shape:?}: {nodes} nodes, {} tips",
            known.len()
        );
    }
}

#[test]
fn the_real_history_is_cut_off_at_a_checkpoint() {
    let parents = git_history();
    for before in [1_000, 40_000, 81_000] {
        let part = &parents[..before + 10];
        let known = tips(&part[..before]);
        let (missing, nodes) = cost(part, &known);
        assert_eq!(missing, 10);
        let most = 10 + CHECKPOINT_INTERVAL + known.len() as u32;
        assert!(nodes <= most, "{nodes} nodes of {before}");
    }
}

/// The branch is old by its fork, and not by its arrival.
#[test]
fn an_old_fork_that_arrived_lately_is_cheap() {
    let mut parents = Shape::Linear.parents(50_000, 0);
    parents.push(vec![3]);
    parents.extend((50_000..50_009).map(|last| vec![last]));
    let (missing, nodes) = cost(&parents, &[49_999]);
    assert_eq!(missing, 10);
    assert!(nodes <= 10 + CHECKPOINT_INTERVAL + 1, "{nodes} nodes");
}

/// A branch that was never continued is a tip of every checkpoint since.
#[test]
fn a_branch_left_long_ago_does_not_hide_the_cut_off() {
    let mut parents = Shape::Linear.parents(50_000, 0);
    parents[5] = vec![3];
    parents[6] = vec![4];
    let (missing, nodes) = cost(&parents, &[5, 49_989]);
    assert_eq!(missing, 10);
    assert!(nodes <= 10 + CHECKPOINT_INTERVAL + 2, "{nodes} nodes");
    // A peer that lacks the branch pays for the way down to it.
    let (missing, nodes) = cost(&parents, &[49_989]);
    assert_eq!(missing, 11);
    assert!(nodes > 49_000, "{nodes} nodes");
}
