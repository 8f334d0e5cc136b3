//! Which tenure is senior to which.

use std::cmp::Ordering;
use std::sync::Arc;

use super::change_log::LedgerEntry;
use crate::id::EntryId;

/// Where a grant is made: what orders the tenures of one maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    height: u32,
    id: EntryId,
    /// One more than the place in the entry, so that the author of the root precedes the keys
    /// that the root names.
    index: u32,
}

impl Place {
    /// Returns the place of a change in an entry.
    pub(crate) fn of(entry: &LedgerEntry, index: u16) -> Self {
        Self {
            height: entry.height,
            id: entry.id,
            index: u32::from(index) + 1,
        }
    }
}

/// The place of the author of the root, before every other.
impl Default for Place {
    fn default() -> Self {
        Self {
            height: 0,
            id: EntryId::from_bytes([0; 32]),
            index: 0,
        }
    }
}

/// How senior a tenure is: the lower, the more senior.
///
/// It is the list of the places of the grants that lead to the tenure, from the root on; a shorter
/// list is senior to a longer one. The list is shared with those of the tenures that it goes
/// through.
#[derive(Debug)]
pub(crate) struct Rank {
    depth: u32,
    maker: Option<Arc<Self>>,
    place: Place,
}

impl Rank {
    /// Makes the rank of a tenure that was granted at `place` by a tenure of the rank `maker`, or by
    /// the root.
    pub(crate) fn new(maker: Option<Arc<Self>>, place: Place) -> Arc<Self> {
        let depth = maker.as_ref().map_or(0, |maker| maker.depth + 1);
        Arc::new(Self {
            depth,
            maker,
            place,
        })
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let mut order = self.depth.cmp(&other.depth);
        if order.is_ne() {
            return order;
        }
        // From the tenures up to the root: a tenure nearer to the root weighs more.
        let (mut one, mut two) = (self, other);
        loop {
            if std::ptr::eq(one, two) {
                return order;
            }
            order = one.place.cmp(&two.place).then(order);
            match (&one.maker, &two.maker) {
                (Some(above_one), Some(above_two)) => (one, two) = (above_one, above_two),
                _ => return order,
            }
        }
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

/// Frees a long line of makers one after the other, and not within each other.
impl Drop for Rank {
    fn drop(&mut self) {
        let mut maker = self.maker.take();
        while let Some(above) = maker.and_then(Arc::into_inner).as_mut() {
            maker = above.maker.take();
        }
    }
}
