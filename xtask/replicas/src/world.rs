//! Every entry of two replicas, signed once.

use eidetica_dag::testing::{build, dag_of};
use eidetica_dag::{MemoryDag, VerifiedEntry};

/// The signed entries of one history.
pub struct World {
    pub entries: Vec<VerifiedEntry>,
    /// As places in `entries`. The root alone has none.
    pub parents: Vec<Vec<u32>>,
    /// When each entry was written. Replicas that diverge write at the same time.
    pub clock: Vec<u32>,
}

impl World {
    /// Signs a history: entry `i` has the parents `parents[i]`, which have lower numbers. Roots
    /// beyond the first get the first one as their parent. The first `base` entries were written one
    /// after the other, and the others as soon as their parents were there.
    pub fn sign(mut parents: Vec<Vec<u32>>, base: usize) -> Self {
        for parents in parents
            .iter_mut()
            .skip(1)
            .filter(|parents| parents.is_empty())
        {
            parents.push(0);
        }
        let mut clock: Vec<u32> = (0..base as u32).collect();
        for parents in &parents[base..] {
            let last = parents
                .iter()
                .map(|parent| clock[*parent as usize])
                .max()
                .unwrap_or(0);
            clock.push(last.max(base as u32 - 1) + 1);
        }
        Self {
            entries: build(&parents),
            parents,
            clock,
        }
    }

    /// Marks some entries and all their ancestors.
    pub fn closure(&self, heads: &[u32]) -> Vec<bool> {
        let mut marks = vec![false; self.entries.len()];
        heads.iter().for_each(|head| marks[*head as usize] = true);
        for at in (0..marks.len()).rev() {
            if marks[at] {
                self.parents[at]
                    .iter()
                    .for_each(|parent| marks[*parent as usize] = true);
            }
        }
        marks
    }

    /// Makes the replica that received the marked entries, which are closed under ancestors, in the
    /// order of the world.
    pub fn replica(&self, marks: &[bool]) -> MemoryDag {
        let entries = self
            .entries
            .iter()
            .zip(marks)
            .filter(|(_, marked)| **marked);
        dag_of(entries.map(|(entry, _)| entry.clone()).collect())
    }
}
