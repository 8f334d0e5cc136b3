//! Sending entries: a set of them, read from a view and packed as it goes.

use bytes::Bytes;
use eidetica_dag::{Arrival, ArrivalSet, EntryId, EntryView, SignedEntry, tip_ids};

use crate::batch::Packer;
use crate::message::{Part, TIPS_MAX};

/// Gives the frames behind a header: batches of the entries in a set, then the end.
///
/// Call [`Outgoing::poll_frame`], always with the view that the set was chosen on, until it gives
/// `None`. It reads no further than one batch ahead, so that memory does not depend on how much
/// there is to send.
pub struct Outgoing {
    entries: ArrivalSet,
    next: Option<Arrival>,
    /// An entry that was read and had no room in the last batch.
    held: Option<SignedEntry>,
    packer: Packer,
    end: Option<Vec<EntryId>>,
}

impl Outgoing {
    /// Begins to send `entries`, to be followed by the tips of the view.
    ///
    /// # Errors
    /// Those of the view.
    pub fn new<V: EntryView + ?Sized>(view: &V, entries: ArrivalSet) -> Result<Self, V::Error> {
        let next = entries.next_from(Arrival(0));
        let end = Some(listed_tips(view)?);
        Ok(Self {
            entries,
            next,
            held: None,
            packer: Packer::new(),
            end,
        })
    }

    /// Returns how many entries there are to send in all.
    pub fn entry_count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns the next frame and how many entries are in it, or `None` behind the last.
    ///
    /// # Errors
    /// Those of the view.
    pub fn poll_frame<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Option<(Bytes, usize)>, V::Error> {
        while let Some(entry) = self.next_entry(view)? {
            if !self.packer.has_room_for(&entry) {
                self.held = Some(entry);
                return Ok(Some(self.batch()));
            }
            self.packer.push(&entry);
        }
        if !self.packer.is_empty() {
            return Ok(Some(self.batch()));
        }
        Ok(self.end.take().map(|tips| (Part::End { tips }.encode(), 0)))
    }

    fn next_entry<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Option<SignedEntry>, V::Error> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let Some(at) = self.next else { return Ok(None) };
        self.next = self.entries.next_from(Arrival(at.0 + 1));
        view.entry(at).map(Some)
    }

    fn batch(&mut self) -> (Bytes, usize) {
        let entries = self.packer.len();
        (Part::Batch(&self.packer.finish()).encode(), entries)
    }
}

/// Returns the ids of the tips as a message lists them: ascending, and of more than [`TIPS_MAX`]
/// the lowest, so that equal trees list equal tips. What is left out costs the other side some
/// redundancy.
pub(crate) fn listed_tips<V: EntryView + ?Sized>(view: &V) -> Result<Vec<EntryId>, V::Error> {
    let mut ids = tip_ids(view)?;
    ids.truncate(TIPS_MAX);
    Ok(ids)
}
