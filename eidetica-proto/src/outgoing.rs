//! Sending entries: a set of them, read from a view and packed as it goes.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{Arrival, ArrivalSet, EntryId, EntryView, tip_ids};

use crate::batch::{BATCH_BYTES_TARGET, Packer};
use crate::cursor::Cursor;
use crate::message::Part;
use crate::tips::{EndTips, TIPS_MAX};

/// The most bytes that an entry has on the wire beside its encoding: a signature of 64, its length, and
/// its share of what a batch has once.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// How many bytes of entries the first batch of an answer has. Each following one has
/// [`BATCH_GROWTH`] times as many, up to [`BATCH_BYTES_TARGET`], so that a reader that takes nothing
/// costs little, and the first entries arrive early.
const FIRST_BATCH_BYTES: usize = 16 << 10;
const BATCH_GROWTH: usize = 4;

/// Entries that were chosen on a view, to be sent with the tips that follow them.
///
/// It is cheap to clone, and [`EntrySelection::outgoing`] makes the frames from the first one on as
/// often as they are needed: a request that must be sent again costs no more than the first time.
#[derive(Debug, Clone)]
pub struct EntrySelection {
    entries: Arc<Chosen>,
    end: (EndTips, Cursor),
}

impl EntrySelection {
    /// Selects `entries`, to be followed by the tips as the message names them and by the end of the
    /// log.
    pub fn new(entries: ArrivalSet, tips: EndTips, cursor: Cursor) -> Self {
        Self {
            entries: Arc::new(Chosen::new(entries)),
            end: (tips, cursor),
        }
    }

    /// Returns how many entries there are to send in all.
    pub fn entry_count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Splits off the entries that come first and have at most `bytes_max` bytes on the wire, or one
    /// entry if that is larger. Returns them, and the rest if there is one.
    ///
    /// # Errors
    /// Those of the view, which must be the one that the entries were selected on.
    pub fn split<V: EntryView + ?Sized>(
        &self,
        view: &V,
        bytes_max: u32,
    ) -> Result<(Self, Option<Self>), V::Error> {
        let (mut first, mut bytes) = (ArrivalSet::new(), 0);
        let mut is_full = false;
        let mut next = self.entries.run_from(Arrival(0));
        while let Some(run) = next.clone().filter(|_| !is_full) {
            let mut at = Arrival(run.start);
            view.visit_encoded(run, &mut |_, entry| {
                bytes += entry.bytes.len() + ENTRY_OVERHEAD_BYTES;
                is_full = bytes > bytes_max as usize && !first.is_empty();
                if is_full {
                    return ControlFlow::Break(());
                }
                first.insert(at);
                at.0 += 1;
                ControlFlow::Continue(())
            })?;
            next = self.entries.run_from(at);
        }
        let Some(next) = next else {
            return Ok((self.clone(), None));
        };
        let later = self.entries.runs_from(Arrival(next.start));
        let rest = later.flatten().map(Arrival).collect();
        let end = (EndTips::Untold, Cursor::NONE);
        let piece = |entries, end| Self {
            entries: Arc::new(Chosen::new(entries)),
            end,
        };
        Ok((piece(first, end), Some(piece(rest, self.end.clone()))))
    }

    /// Begins to send the entries in batches of full size.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing {
            bytes_target: BATCH_BYTES_TARGET,
            entries: self.entries.clone(),
            next: Arrival(0),
            packer: Packer::new(),
            end: Some(self.end.clone()),
        }
    }
}

/// A set of arrivals as it is kept while it is sent, which may take long: as runs, unless it has so
/// many that a bit for each arrival takes less. What a client lacks is most often one run, however long
/// the history is.
#[derive(Debug)]
enum Chosen {
    /// Ascending, not empty, and not adjacent.
    Runs(Vec<Range<u32>>),
    Bits(ArrivalSet),
}

impl Chosen {
    fn new(set: ArrivalSet) -> Self {
        let bits_bytes = set.iter().next_back().map_or(0, |last| last.index() / 8);
        let mut runs = Vec::new();
        let mut next = set.next_from(Arrival(0));
        while let Some(start) = next {
            let end = set.gap_from(start);
            runs.push(start.0..end.0);
            if runs.len() * size_of::<Range<u32>>() > bits_bytes.max(size_of::<Range<u32>>()) {
                return Self::Bits(set);
            }
            next = set.next_from(end);
        }
        runs.shrink_to_fit();
        Self::Runs(runs)
    }

    fn len(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.iter().map(ExactSizeIterator::len).sum(),
            Self::Bits(set) => set.len(),
        }
    }

    /// Returns the first run of arrivals that are not below `from`.
    fn run_from(&self, from: Arrival) -> Option<Range<u32>> {
        match self {
            Self::Runs(runs) => {
                let run = runs.get(runs.partition_point(|run| run.end <= from.0))?;
                Some(run.start.max(from.0)..run.end)
            }
            Self::Bits(set) => {
                let start = set.next_from(from)?;
                Some(start.0..set.gap_from(start).0)
            }
        }
    }

    /// Lists the runs of arrivals that are not below `from`.
    fn runs_from(&self, from: Arrival) -> impl Iterator<Item = Range<u32>> {
        let first = self.run_from(from);
        std::iter::successors(first, |run| self.run_from(Arrival(run.end)))
    }
}

/// Gives the frames that follow a header: batches of the selected entries, then the end.
///
/// Call [`Outgoing::poll_frame`], always with the view that the entries were selected on, until it
/// gives `None`. It reads no further than one batch ahead, so that memory does not depend on how
/// much there is to send.
pub struct Outgoing {
    /// The size of the next batch.
    bytes_target: usize,
    entries: Arc<Chosen>,
    next: Arrival,
    packer: Packer,
    end: Option<(EndTips, Cursor)>,
}

impl Outgoing {
    /// Begins with a small batch and grows. For an answer to a peer that may not read it.
    pub fn growing(mut self) -> Self {
        self.bytes_target = FIRST_BATCH_BYTES;
        self
    }

    /// Returns the next frame and how many entries are in it, or `None` after the last.
    ///
    /// # Errors
    /// Those of the view.
    pub fn poll_frame<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
    ) -> Result<Option<(Bytes, usize)>, V::Error> {
        while let Some(run) = self.entries.run_from(self.next) {
            let (packer, at) = (&mut self.packer, &mut self.next);
            *at = Arrival(run.start);
            let (end, bytes_target) = (run.end, self.bytes_target);
            view.visit_encoded(run, &mut |id, entry| {
                if !packer.has_room_within(bytes_target, entry.bytes.len()) {
                    return ControlFlow::Break(());
                }
                packer.push_encoded(id, entry);
                at.0 += 1;
                ControlFlow::Continue(())
            })?;
            if self.next.0 < end {
                return Ok(Some(self.batch()));
            }
        }
        if !self.packer.is_empty() {
            return Ok(Some(self.batch()));
        }
        let end = self.end.take();
        Ok(end.map(|(tips, cursor)| (Part::End { tips, cursor }.encode(), 0)))
    }

    /// Gives back the memory that packing used, about twice a batch, until the next frame is packed.
    /// For a sender that does not know when it will be asked for more.
    pub fn release(&mut self) {
        // It is empty between two frames.
        self.packer = Packer::new();
    }

    fn batch(&mut self) -> (Bytes, usize) {
        let entries = self.packer.len();
        self.bytes_target = (self.bytes_target * BATCH_GROWTH).min(BATCH_BYTES_TARGET);
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

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key, shapes::sign_on_top};
    use eidetica_dag::{Body, MemoryDag};

    use super::*;

    /// Returns the size in bytes of the frames of a selection.
    fn size(selection: &EntrySelection, view: &MemoryDag) -> usize {
        let (mut outgoing, mut bytes) = (selection.outgoing(), 0);
        while let Some((frame, _)) = outgoing.poll_frame(view).expect("it is in memory") {
            bytes += frame.len();
        }
        bytes
    }

    /// Both ways to keep a set list the same runs, and the smaller one is kept.
    #[test]
    fn a_set_is_kept_as_runs_if_there_are_few() {
        let set = |numbers: &mut dyn Iterator<Item = u32>| -> ArrivalSet {
            numbers.map(Arrival).collect()
        };
        let history = 100_000;
        let few = set(&mut (5..history).filter(|n| n % 10_000 != 3));
        let many = set(&mut (0..history).filter(|n| n % 3 != 0));
        for (set, is_few) in [(few, true), (many, false), (ArrivalSet::new(), true)] {
            let chosen = Chosen::new(set.clone());
            assert_eq!(matches!(chosen, Chosen::Runs(_)), is_few);
            assert_eq!(chosen.len(), set.len());
            for from in [0, 4, 10_003, 10_004, history] {
                let listed: Vec<u32> = chosen.runs_from(Arrival(from)).flatten().collect();
                let expected = set.iter().map(|at| at.0).filter(|at| *at >= from);
                assert!(listed.into_iter().eq(expected), "from {from}");
            }
        }
    }

    #[test]
    fn an_answer_begins_with_a_small_batch() {
        let drawn = draw("A");
        let mut chain = drawn.entries(&["A"]);
        for n in 0..1_000_u32 {
            let last = &chain[chain.len() - 1..];
            let body = Body::Data(vec![n as u8; 1_000].into());
            chain.push(sign_on_top(Some(drawn.tree()), last, &key(0), 0, body));
        }
        let count = chain.len() as u32;
        let mut view = MemoryDag::new(drawn.tree());
        view.append(chain);
        let all = ArrivalSet::all_below(count);
        let selection = EntrySelection::new(all, EndTips::Untold, Cursor::NONE);
        let entries_of = |mut outgoing: Outgoing| {
            let frames = std::iter::from_fn(|| outgoing.poll_frame(&view).expect("in memory"));
            frames.map(|(_, entries)| entries).collect::<Vec<_>>()
        };
        let growing = entries_of(selection.outgoing().growing());
        let full = entries_of(selection.outgoing());
        assert_eq!(growing.iter().sum::<usize>(), count as usize);
        assert!((10..=16).contains(&growing[0]), "{growing:?}");
        assert!((40..=64).contains(&growing[1]), "{growing:?}");
        assert!(growing[2].abs_diff(full[0]) <= 2, "{growing:?}, {full:?}");
        assert_eq!(growing.last(), Some(&0), "the end");
    }

    #[test]
    fn pieces_keep_the_limit_and_the_order() {
        let drawn = draw("A");
        let mut chain = drawn.entries(&["A"]);
        for n in 0..40_u32 {
            let last = &chain[chain.len() - 1..];
            let payload: Vec<u8> = (0..n * 100).map(|at| (at * 7 + n) as u8).collect();
            let body = Body::Data(payload.into());
            chain.push(sign_on_top(Some(drawn.tree()), last, &key(0), 0, body));
        }
        let mut view = MemoryDag::new(drawn.tree());
        view.append(chain);
        // With gaps, as after a peer brought some of them.
        let mut chosen = ArrivalSet::new();
        (0..41).filter(|n| n % 5 != 3).for_each(|n| {
            chosen.insert(Arrival(n));
        });
        let whole = EntrySelection::new(chosen.clone(), EndTips::Untold, Cursor::NONE);
        let mut rest = Some(whole);
        let (mut pieces, mut seen) = (0, ArrivalSet::new());
        while let Some(selection) = rest {
            let (first, after) = selection.split(&view, 8_000).expect("it is in memory");
            assert!(size(&first, &view) <= 8_000);
            for at in first.entries.runs_from(Arrival(0)).flatten().map(Arrival) {
                assert!(seen.iter().all(|before| before < at));
                seen.insert(at);
            }
            (pieces, rest) = (pieces + 1, after);
        }
        assert_eq!(seen, chosen);
        assert!((8..20).contains(&pieces), "{pieces}");
        // An entry is never split.
        let whole = EntrySelection::new(chosen, EndTips::Untold, Cursor::NONE);
        let (first, _) = whole.split(&view, 1).expect("it is in memory");
        assert_eq!(first.entry_count(), 1);
    }
}
