//! How walks see a tree: numbers instead of hashes, parents below children.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::access::{AccessId, AccessKey, AccessState, Ledger};
use crate::arrival::Arrival;
use crate::encoding::EncodedEntry;
use crate::id::EntryId;
use crate::signed::SignedEntry;

/// How many arrivals lie between two checkpoints, in a tree with no more tips than that. A walk looks
/// at up to this many entries more than it must.
pub const CHECKPOINT_INTERVAL: u32 = 512;

/// Tells whether there is a checkpoint when a tree has `stored` entries and `tips` tips, and the
/// checkpoint before was at `last` entries (zero: there was none).
///
/// A checkpoint costs four bytes for each tip, and there is none before as many entries have arrived.
/// So all checkpoints together cost at most four bytes for each entry, and a walk in a tree with many
/// tips looks at up to as many entries more as there are tips.
pub const fn is_checkpoint(stored: u32, last: u32, tips: u32) -> bool {
    let arrived = stored - last;
    arrived >= CHECKPOINT_INTERVAL && arrived >= tips
}

/// Heights that are multiples of this are kept in the index of landmarks: about 3 % of the entries.
pub const LANDMARK_INTERVAL: u32 = 32;

/// What the DAG knows of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The entry's id.
    pub id: EntryId,
    /// The parents' numbers, ascending by number.
    pub parents: Vec<Arrival>,
    /// Zero for the root, else one more than the highest parent's.
    pub height: u32,
    /// The access state that holds after this entry.
    pub access: AccessId,
}

/// A consistent, read-only view of one tree.
///
/// A view keeps showing the same entries while the tree grows. Arguments that
/// are numbers are below [`DagView::entry_count`]; implementations may panic on others.
pub trait DagView {
    /// What can go wrong in reading.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns how many entries there are. The next one to arrive gets this number.
    fn entry_count(&self) -> u32;

    /// Returns up to `limit` of the tips, which are the entries without children: those from the number
    /// `from` on, ascending.
    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Self::Error>;

    /// Returns how many tips there are.
    fn tip_count(&self) -> u32;

    /// Tells whether the entry with this number is a tip.
    fn is_tip(&self, at: Arrival) -> Result<bool, Self::Error>;

    /// Returns every tip, ascending by number. A tree can have as many as it has entries.
    fn tips(&self) -> Result<Vec<Arrival>, Self::Error> {
        self.tips_from(Arrival(0), usize::MAX)
    }

    /// Returns the number of an entry, or `None` if it is not here.
    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Self::Error>;

    /// Returns the node with this number.
    fn node(&self, at: Arrival) -> Result<Node, Self::Error>;

    /// Shows the heights of the entries with these numbers to `visit`, ascending by number. A store
    /// reads them in one sweep. `visit` must not ask the view, which may be locked meanwhile.
    fn visit_heights(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(Arrival, u32),
    ) -> Result<(), Self::Error> {
        for at in numbers.map(Arrival) {
            visit(at, self.node(at)?.height);
        }
        Ok(())
    }

    /// Returns the last checkpoint at or below `stored` entries: how many entries there were. See
    /// [`is_checkpoint`].
    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, Self::Error>;

    /// Returns what the tips were at a checkpoint, when there were `stored` entries, ascending by
    /// number.
    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, Self::Error>;

    /// Returns up to `limit` ids of entries at `height`, a multiple of [`LANDMARK_INTERVAL`], in
    /// the order of arrival.
    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, Self::Error>;

    /// Returns how many access states the tree has had.
    fn access_count(&self) -> u32;

    /// Returns the access state with this number.
    fn access(&self, id: AccessId) -> Result<AccessState, Self::Error>;

    /// Returns the number of the access state of this name, or `None` if there is none.
    fn find_access(&self, key: &AccessKey) -> Result<Option<AccessId>, Self::Error>;

    /// Returns every change of access that there is.
    fn ledger(&self) -> Result<Arc<Ledger>, Self::Error>;
}

/// A view that can also give back the entries themselves.
pub trait EntryView: DagView {
    /// Returns the entry with this number, decoded but not checked again.
    fn entry(&self, at: Arrival) -> Result<SignedEntry, Self::Error>;

    /// Returns the bytes of the entry with this number as they were stored.
    fn encoded(&self, at: Arrival) -> Result<Bytes, Self::Error>;

    /// Shows the ids and the encodings of the entries with these numbers to `visit`, ascending,
    /// until it breaks off. Nothing is decoded, and a store reads them in one sweep: this is how
    /// many entries are sent. `visit` must not ask the view, which may be locked meanwhile.
    fn visit_encoded(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(EntryId, EncodedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        for at in numbers.map(Arrival) {
            let entry = self.entry(at)?;
            if visit(entry.id(), entry.parts()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the ids of the tips, ascending.
///
/// # Errors
/// Those of the view.
pub fn tip_ids<V: DagView + ?Sized>(view: &V) -> Result<Vec<EntryId>, V::Error> {
    let tips = view.tips()?;
    let mut ids = tips
        .into_iter()
        .map(|tip| Ok(view.node(tip)?.id))
        .collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the access state that holds when all tips are taken together: what a peer may do with
/// the tree as it is here. It does not cost more where there are more tips.
///
/// # Errors
/// Those of the view.
pub fn current_access<V: DagView + ?Sized>(view: &V) -> Result<AccessState, V::Error> {
    Ok(view.ledger()?.current())
}
