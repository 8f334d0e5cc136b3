//! Sending entries: a set of them, read from a view and packed as it goes.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{Arrival, ArrivalSet, EntryId, EntryView, tip_ids};

use crate::batch::Packer;
use crate::cursor::Cursor;
use crate::message::Part;
use crate::tips::{EndTips, TIPS_MAX};

/// Entries that were chosen on a view, to be sent with the tips that follow them.
///
/// It is cheap to clone, and [`EntrySelection::outgoing`] makes the frames from the first one on as
/// often as they are needed: a request that must be sent again costs no more than the first time.
#[derive(Debug, Clone)]
pub struct EntrySelection {
    entries: Arc<ArrivalSet>,
    end: (EndTips, Cursor),
}

impl EntrySelection {
    /// Selects `entries`, to be followed by the tips as the message names them and by the end of the
    /// log.
    pub fn new(entries: ArrivalSet, tips: EndTips, cursor: Cursor) -> Self {
        Self {
            entries: Arc::new(entries),
            end: (tips, cursor),
        }
    }

    /// Returns how many entries there are to send in all.
    pub fn entry_count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Begins to send the entries.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing {
            entries: self.entries.clone(),
            next: self.entries.next_from(Arrival(0)),
            packer: Packer::new(),
            end: Some(self.end.clone()),
        }
    }
}

/// Gives the frames that follow a header: batches of the selected entries, then the end.
///
/// Call [`Outgoing::poll_frame`], always with the view that the entries were selected on, until it
/// gives `None`. It reads no further than one batch ahead, so that memory does not depend on how
/// much there is to send.
pub struct Outgoing {
    entries: Arc<ArrivalSet>,
    next: Option<Arrival>,
    packer: Packer,
    end: Option<(EndTips, Cursor)>,
}

impl Outgoing {
    /// Returns the next frame and how many entries are in it, or `None` after the last.
    ///
    /// # Errors
    /// Those of the view.
    pub fn poll_frame<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Option<(Bytes, usize)>, V::Error> {
        while let Some(first) = self.next {
            let end = self.entries.gap_from(first);
            let packer = &mut self.packer;
            let mut at = first;
            view.visit_encoded(first.0..end.0, &mut |id, entry| {
                if !packer.has_room_for(entry.bytes.len()) {
                    return ControlFlow::Break(());
                }
                packer.push_encoded(id, entry);
                at.0 += 1;
                ControlFlow::Continue(())
            })?;
            self.next = self.entries.next_from(at);
            if at < end {
                return Ok(Some(self.batch()));
            }
        }
        if !self.packer.is_empty() {
            return Ok(Some(self.batch()));
        }
        let end = self.end.take();
        Ok(end.map(|(tips, cursor)| (Part::End { tips, cursor }.encode(), 0)))
    }

    fn batch(&mut self) -> (Bytes, usize) {
        let entries = self.packer.len();
        (Part::Batch(&self.packer.finish()).encode(), entries)
    }
}

/// Returns the ids of the tips as a message names them: ascending, and of more than [`TIPS_MAX`]
/// the lowest, so that equal trees name equal tips.
pub(crate) fn listed_tips<V: EntryView + ?Sized>(view: &V) -> Result<Vec<EntryId>, V::Error> {
    let mut ids = tip_ids(view)?;
    ids.truncate(TIPS_MAX);
    Ok(ids)
}
