//! The one order of entries that is the same on every replica.

use crate::arrival::Arrival;
use crate::set::ArrivalSet;
use crate::view::DagView;

/// The entries of a set by height, then by id: the same order on every replica, parents before
/// children.
///
/// Making it reads the heights of the set, in one sweep where it is dense, and takes eight bytes for
/// each entry. Ids are read only where several entries have one height, and when they are reached.
///
/// ```
/// use eidetica_dag::testing::draw;
/// use eidetica_dag::{ArrivalSet, DagView, TotalOrder};
///
/// let dag = draw("A-B-C").replica(&["C"]);
/// let Ok(mut order) = TotalOrder::of(&dag, &ArrivalSet::all_below(3));
/// let mut heights = Vec::new();
/// while let Ok(Some(at)) = order.next(&dag) {
///     let Ok(node) = dag.node(at);
///     heights.push(node.height);
/// }
/// assert_eq!(heights, [0, 1, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct TotalOrder {
    /// Height and number, ascending; those of one height by id as far as `sorted`.
    keyed: Vec<(u32, Arrival)>,
    next: usize,
    sorted: usize,
}

impl TotalOrder {
    /// Makes the order of a set.
    ///
    /// # Errors
    /// Those of the view.
    pub fn of<V: DagView + ?Sized>(view: &V, set: &ArrivalSet) -> Result<Self, V::Error> {
        let mut keyed = Vec::with_capacity(set.len());
        let (first, last) = (set.iter().next(), set.iter().next_back());
        if let Some((first, last)) = first.zip(last) {
            let span = (last.0 - first.0) as usize + 1;
            if span / 2 <= set.len() {
                view.visit_heights(first.0..last.0 + 1, &mut |at, height| {
                    if set.contains(at) {
                        keyed.push((height, at));
                    }
                })?;
            } else {
                for at in set.iter() {
                    keyed.push((view.node(at)?.height, at));
                }
            }
        }
        keyed.sort_unstable();
        Ok(Self {
            keyed,
            next: 0,
            sorted: 0,
        })
    }

    /// Returns the next entry, or `None` after the last. The view is the one that the order was made
    /// of.
    ///
    /// # Errors
    /// Those of the view; the next call tries again.
    pub fn next<V: DagView + ?Sized>(&mut self, view: &V) -> Result<Option<Arrival>, V::Error> {
        if self.next == self.sorted {
            self.sort_next_height(view)?;
        }
        let next = self.keyed.get(self.next).map(|(_, at)| *at);
        self.next += usize::from(next.is_some());
        Ok(next)
    }

    /// Returns how many entries are left.
    pub fn len(&self) -> usize {
        self.keyed.len() - self.next
    }

    /// Tells whether no entry is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn sort_next_height<V: DagView + ?Sized>(&mut self, view: &V) -> Result<(), V::Error> {
        let rest = &mut self.keyed[self.sorted..];
        let Some((height, _)) = rest.first().copied() else {
            return Ok(());
        };
        let count = rest.partition_point(|(other, _)| *other == height);
        if count > 1 {
            let mut by_id = Vec::with_capacity(count);
            for (_, at) in &rest[..count] {
                by_id.push((view.node(*at)?.id, *at));
            }
            by_id.sort_unstable();
            for (place, (_, at)) in rest.iter_mut().zip(by_id) {
                place.1 = at;
            }
        }
        self.sorted += count;
        Ok(())
    }
}
