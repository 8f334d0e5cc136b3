//! Set algebra on ancestors, as scans over numbers from high to low.
//!
//! Parents have lower numbers than their children, so a scan downwards meets every child before its
//! parents, and "mark the parents" is all that a walk does. Nothing here recurses.

use std::collections::BinaryHeap;

use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::set::ArrivalSet;
use crate::view::{DagView, Node};

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub enum Heads<'a> {
    /// At every tip: all entries are in question.
    Tips,
    /// At these entries: they and their ancestors are in question.
    At(&'a [Arrival]),
}

/// Returns what a peer lacks that has the entries `known` and their ancestors. Ids that are not here
/// are passed over: a peer that has them has entries beyond this view.
///
/// The cost grows with the number of entries that arrived since the oldest missing one, not with
/// the history: see [`difference_by`].
///
/// # Errors
/// Those of the view.
pub fn difference<V: DagView + ?Sized>(
    view: &V,
    known: &[EntryId],
) -> Result<ArrivalSet, V::Error> {
    let mut numbers = ArrivalSet::new();
    for id in known {
        if let Some(at) = view.arrival(id)? {
            numbers.insert(at);
        }
    }
    difference_by(view, Heads::Tips, |at, _| numbers.contains(at))
}

/// Returns the entries from `heads` downwards that are neither known nor ancestors of a known one.
///
/// `is_known` is asked once for each entry that the walk meets and that is not an ancestor of a
/// known one, whether it is in question or not. The walk ends when nothing in question is ahead, or
/// at the first checkpoint all of whose tips are known, for then everything before it is. At a
/// checkpoint its tips are asked about ahead of their turn: a branch that was left long ago is a
/// tip of every later checkpoint, and nothing that the walk has met could speak for it.
///
/// # Errors
/// Those of the view.
pub fn difference_by<V: DagView + ?Sized>(
    view: &V,
    heads: Heads<'_>,
    mut is_known: impl FnMut(Arrival, &Node) -> bool,
) -> Result<ArrivalSet, V::Error> {
    let count = view.entry_count();
    let mut known = ArrivalSet::with_room_for(count);
    // Entries that `is_known` denied ahead of their turn.
    let mut denied = ArrivalSet::new();
    let mut missing = ArrivalSet::new();
    let mut in_question = match heads {
        Heads::Tips => None,
        Heads::At(heads) => Some(heads.iter().copied().collect::<ArrivalSet>()),
    };
    // How many entries in question lie ahead; not counted where all are.
    let mut open = in_question.as_ref().map_or(usize::MAX, ArrivalSet::len);
    let mut checkpoint = view.last_checkpoint(count)?;

    for at in (0..count).rev().map(Arrival) {
        if open == 0 {
            break;
        }
        if let Some(stored) = checkpoint.filter(|stored| *stored == at.0 + 1) {
            if all_known_below(view, stored, &mut known, &mut denied, &mut is_known)? {
                break;
            }
            checkpoint = view.last_checkpoint(stored - 1)?;
        }
        let asked_for = in_question.as_ref().is_none_or(|marks| marks.contains(at));
        if asked_for && in_question.is_some() {
            open -= 1;
        }
        let node = view.node(at)?;
        if known.contains(at) || (!denied.contains(at) && is_known(at, &node)) {
            for parent in node.parents {
                known.insert(parent);
            }
        } else if asked_for {
            missing.insert(at);
            if let Some(marks) = &mut in_question {
                open += node
                    .parents
                    .iter()
                    .filter(|parent| marks.insert(**parent))
                    .count();
            }
        }
    }
    Ok(missing)
}

/// Tells whether all is known below the checkpoint at `stored` entries.
fn all_known_below<V: DagView + ?Sized>(
    view: &V,
    stored: u32,
    known: &mut ArrivalSet,
    denied: &mut ArrivalSet,
    is_known: &mut impl FnMut(Arrival, &Node) -> bool,
) -> Result<bool, V::Error> {
    for tip in view.checkpoint(stored)? {
        if known.contains(tip) {
            continue;
        }
        if denied.contains(tip) || !is_known(tip, &view.node(tip)?) {
            denied.insert(tip);
            return Ok(false);
        }
        known.insert(tip);
    }
    Ok(true)
}

/// Returns `heads` and all their ancestors.
///
/// # Errors
/// Those of the view.
pub fn ancestors<V: DagView + ?Sized>(view: &V, heads: &[Arrival]) -> Result<ArrivalSet, V::Error> {
    let mut set: ArrivalSet = heads.iter().copied().collect();
    let top = heads.iter().max().map_or(0, |at| at.0 + 1);
    for at in (0..top).rev().map(Arrival) {
        if set.contains(at) {
            for parent in view.node(at)?.parents {
                set.insert(parent);
            }
        }
    }
    Ok(set)
}

/// Tells whether `ancestor` is `descendant` or one of its ancestors.
///
/// # Errors
/// Those of the view.
pub fn is_ancestor<V: DagView + ?Sized>(
    view: &V,
    ancestor: Arrival,
    descendant: Arrival,
) -> Result<bool, V::Error> {
    let floor = view.node(ancestor)?.height;
    let mut seen = ArrivalSet::new();
    let mut ahead = vec![descendant];
    while let Some(at) = ahead.pop() {
        if at == ancestor {
            return Ok(true);
        }
        // Ancestors lie lower, both by number and by height.
        if at < ancestor || !seen.insert(at) {
            continue;
        }
        let node = view.node(at)?;
        if node.height > floor {
            ahead.extend(node.parents);
        }
    }
    Ok(false)
}

/// Returns the best common ancestors of `a` and `b`: the ones that are not ancestors of other common
/// ones, ascending. There are several where branches crossed; there is always one at least, for a
/// tree has one root.
///
/// # Errors
/// Those of the view.
pub fn merge_base<V: DagView + ?Sized>(
    view: &V,
    a: Arrival,
    b: Arrival,
) -> Result<Vec<Arrival>, V::Error> {
    const FROM_A: u8 = 1;
    const FROM_B: u8 = 2;
    const BELOW_COMMON: u8 = 4;
    // The colours of the entries ahead. Equal numbers are together in the heap and are joined
    // when they come out.
    let mut ahead = BinaryHeap::from([(a, FROM_A), (b, FROM_B)]);
    let mut fresh = 2;
    let mut bases = Vec::new();
    while let Some((at, mut colours)) = ahead.pop() {
        fresh -= usize::from(colours & BELOW_COMMON == 0);
        while let Some((_, more)) = ahead.peek().copied().filter(|(same, _)| *same == at) {
            colours |= more;
            fresh -= usize::from(more & BELOW_COMMON == 0);
            ahead.pop();
        }
        if colours == FROM_A | FROM_B {
            bases.push(at);
            colours |= BELOW_COMMON;
        }
        let parents = view.node(at)?.parents;
        fresh += if colours & BELOW_COMMON == 0 {
            parents.len()
        } else {
            0
        };
        ahead.extend(parents.into_iter().map(|parent| (parent, colours)));
        // Whatever is ahead lies below a common ancestor already.
        if fresh == 0 {
            break;
        }
    }
    bases.reverse();
    Ok(bases)
}
