//! Copies that stay equal: watches, pushes and checks, each conversation asserted frame by frame.

mod check;
mod push;
mod random;
mod watch;
mod watch_lies;

use eidetica_dag::testing::{Drawn, draw_with, key};
use eidetica_dag::{Arrival, DagView, EntryView, MemoryDag, VerifiedEntry};
use eidetica_proto::Cursor;
use eidetica_proto::testing::LINK_LOG;

/// Where virtual time begins.
pub(crate) const START_MS: u64 = 1_000_000;

/// Draws a tree whose entries are all of the author with this number: another tree for each.
pub(crate) fn draw_by(author: u32, text: &str) -> Drawn {
    draw_with(text, move |_| key(author))
}

/// The cursor at the end of a tree at B.
pub(crate) fn end_of(dag: &MemoryDag) -> Cursor {
    let Ok(cursor) = Cursor::at_end(LINK_LOG, dag);
    cursor
}

/// The cursor before a position of a tree at B.
pub(crate) fn place(dag: &MemoryDag, position: u32) -> Cursor {
    let Ok(cursor) = Cursor::at(LINK_LOG, dag, position);
    cursor
}

/// The entries of a replica in the order of arrival.
pub(crate) fn entries(dag: &MemoryDag, from: u32) -> Vec<VerifiedEntry> {
    (from..dag.entry_count())
        .map(|at| {
            let Ok(entry) = dag.entry(Arrival(at));
            VerifiedEntry::verify(entry).expect("what is stored is genuine")
        })
        .collect()
}
