//! The answering side: what to say to a request.
//!
//! The driver decodes the header ([`RequestHeader::decode`](crate::message::RequestHeader::decode)),
//! takes a view of the tree that the request names, and calls [`check_access`] before anything else.
//! Then [`answer_sync`] answers a [`SyncTree`]; an [`EntryReceiver`] takes the entries of a
//! `SendEntries`, which [`acknowledge`] answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_dag::walk::{Heads, difference_by};
use eidetica_dag::{Arrival, ArrivalSet, EntryId, EntryView, PublicKey, Role, current_access};

use crate::cursor::{Cursor, LogId};
use crate::error::{ErrorCode, PeerFault, WireError};
use crate::filter::FilterMatcher;
use crate::message::{Reply, ResponseHeader, Sample, Stored, SyncReply, SyncTree, WANTS_MAX};
use crate::outgoing::{EntrySelection, listed_tips};
use crate::receiver::EntryReceiver;
use crate::sync_fault::SyncFault;
use crate::tips::{EndTips, TipDigest, TipMatcher, TipSet};

/// Why a request gets no answer: the client's fault, or the view failed.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// Send this to the client.
    #[error(transparent)]
    Refuse(#[from] WireError),
    /// The view failed. The client learns no more than [`WireError::internal`].
    #[error("the store failed: {0}")]
    View(#[source] E),
}

/// Checks that `key`, the proved key of the client, has `role` on the tree of this view.
///
/// # Errors
/// [`WireError::not_found`] if it may not even read, or the view is empty: the two look the same.
/// [`ErrorCode::ReadOnly`] if it may read, and `role` is more.
pub fn check_access<V: EntryView + ?Sized>(
    view: &V,
    key: Option<&PublicKey>,
    role: Role,
) -> Result<(), AnswerError<V::Error>> {
    let access = current_access(view).map_err(AnswerError::View)?;
    if access.allows(key, role) {
        Ok(())
    } else if access.allows(key, Role::Read) {
        let text = "you may read this tree but not write to it; ask an admin for the role";
        Err(WireError::new(ErrorCode::ReadOnly, text).into())
    } else {
        Err(WireError::not_found().into())
    }
}

/// The answer to a [`SyncTree`]: its first frame, and the entries that follow it.
pub struct SyncAnswer {
    /// The first frame.
    pub header: Bytes,
    /// What follows it, to be read from the same view.
    pub entries: Option<EntrySelection>,
}

/// Of many tips, how many may differ before a small sample is not enough: this many, and one in
/// eight. Beyond that most branches differ, and each needs a sample of its own.
const UNKNOWN_TIPS_MAX: usize = 32;

/// Chooses what the client lacks; `log` is the store's.
///
/// If all its tips are known here, that is exact. If not, and there is a filter, an entry in the
/// filter counts as known, and so do the ancestors of known entries. Ids that are wanted are sent
/// in any case, with the missing entries below them.
///
/// # Errors
/// A malformed filter or sketch is the client's fault.
pub fn answer_sync<V: EntryView + ?Sized>(
    view: &V,
    log: LogId,
    request: &SyncTree,
) -> Result<SyncAnswer, AnswerError<V::Error>> {
    let answer = |reply, entries| SyncAnswer {
        header: ResponseHeader::encode(Ok(Reply::Sync(reply))),
        entries,
    };
    let digest = TipDigest::of_view(view).map_err(AnswerError::View)?;
    let cursor = Cursor::at_end(log, view).map_err(AnswerError::View)?;
    if request.wants.is_empty() && request.tips.digest() == Some(digest) {
        return Ok(answer(SyncReply::Equal(cursor), None));
    }
    if let Sample::Unknown(kind) = request.sample {
        return Err(WireError::unsupported("a sample of kind", kind).into());
    }
    let mut tips = match &request.tips {
        TipSet::Digest(_) => return Ok(answer(SyncReply::SendFilter, None)),
        TipSet::Unknown(kind) => {
            return Err(WireError::unsupported("a set of tips of kind", *kind).into());
        }
        TipSet::Listed(ids) => ClientTips::Listed {
            found: numbers(view, ids)?,
            count: ids.len(),
        },
        TipSet::Sketch(sketch) => {
            let matcher = sketch.matcher().map_err(|error| malformed(&error))?;
            ClientTips::Sketched { matcher, found: 0 }
        }
    };
    let matcher = match request.sample.filter() {
        _ if tips.all_known() => None,
        None => return Ok(answer(SyncReply::SendFilter, None)),
        Some(filter) => Some(filter.matcher().map_err(|error| malformed(&error))?),
    };

    let missing = missing(view, &request.wants, &mut tips, matcher.as_ref())?;
    let is_small = matches!(request.sample, Sample::Small(_)) && request.wants.is_empty();
    if is_small && tips.unknown() > UNKNOWN_TIPS_MAX + tips.count() / 8 {
        return Ok(answer(SyncReply::SendFilter, None));
    }
    let own_tips = listed_tips(view).map_err(AnswerError::View)?;
    let end = match &tips {
        ClientTips::Listed { .. } => EndTips::Listed(own_tips),
        ClientTips::Sketched { matcher, .. } => EndTips::by_sketch(own_tips, matcher),
    };
    let selection = EntrySelection::new(missing, end, cursor);
    let reply = SyncReply::Entries(selection.entry_count());
    Ok(answer(reply, Some(selection)))
}

fn malformed(error: &dyn std::fmt::Display) -> WireError {
    WireError::new(ErrorCode::Malformed, error.to_string())
}

/// Returns the numbers of those ids that are here.
fn numbers<V: EntryView + ?Sized>(
    view: &V,
    ids: &[EntryId],
) -> Result<BTreeSet<Arrival>, AnswerError<V::Error>> {
    let found = ids.iter().filter_map(|id| view.arrival(id).transpose());
    found.collect::<Result<_, _>>().map_err(AnswerError::View)
}

/// The client's tips, as far as they are known here.
enum ClientTips {
    /// They were listed, so each was looked up.
    Listed {
        found: BTreeSet<Arrival>,
        count: usize,
    },
    /// They were sketched, so a walk recognises them when it meets them.
    Sketched { matcher: TipMatcher, found: usize },
}

impl ClientTips {
    /// Returns whether an entry, which is asked about once, is one of them.
    fn recognise(&mut self, at: Arrival, id: &EntryId) -> bool {
        match self {
            Self::Listed { found, .. } => found.contains(&at),
            Self::Sketched { matcher, found } => {
                let is_tip = matcher.place(id).is_some();
                *found += usize::from(is_tip);
                is_tip
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Listed { count, .. } => *count,
            Self::Sketched { matcher, .. } => matcher.tip_count(),
        }
    }

    /// Returns how many were not found so far.
    fn unknown(&self) -> usize {
        match self {
            Self::Listed { found, count } => count - found.len(),
            Self::Sketched { found, .. } => self.count().saturating_sub(*found),
        }
    }

    fn all_known(&self) -> bool {
        self.unknown() == 0
    }
}

/// Walks down to what the client knows.
fn missing<V: EntryView + ?Sized>(
    view: &V,
    wants: &[EntryId],
    tips: &mut ClientTips,
    filter: Option<&FilterMatcher>,
) -> Result<ArrivalSet, AnswerError<V::Error>> {
    let everything = wants.is_empty();
    if everything && tips.count() == 0 {
        // A client that has nothing lacks everything; no walk is needed to know that.
        return Ok(ArrivalSet::all_below(view.entry_count()));
    }
    let wants = numbers(view, wants)?;
    let wanted: Vec<Arrival> = wants.iter().copied().collect();
    let heads = match everything {
        true => Heads::Tips,
        false => Heads::At(&wanted),
    };
    // The client lacks what it wants, and everything above it. Where the filter claims to know such
    // an entry, that is another false positive, which must not hide a wanted entry a second time.
    // So only entries below the wanted ones are looked up in the filter.
    let mut below_wants = ArrivalSet::new();
    difference_by(view, heads, |at, node| {
        let is_wanted = wants.contains(&at);
        if !is_wanted && tips.recognise(at, &node.id) {
            return true;
        }
        let in_question = everything || below_wants.contains(at);
        let sampled = |filter: &FilterMatcher| filter.contains(&node.id, node.height);
        if in_question && !is_wanted && filter.is_some_and(sampled) {
            return true;
        }
        if is_wanted || (in_question && !everything) {
            for parent in &node.parents {
                below_wants.insert(*parent);
            }
        }
        false
    })
    .map_err(AnswerError::View)
}

/// Answers a `SendEntries` on a view taken after everything was stored: whatever is acknowledged is
/// durable. `log` is the store's.
///
/// # Errors
/// Those of the view.
pub fn acknowledge<V: EntryView + ?Sized>(
    receiver: &EntryReceiver,
    view: &V,
    log: LogId,
) -> Result<Bytes, V::Error> {
    let stored = Stored {
        stored: u32::try_from(receiver.counts().stored).unwrap_or(u32::MAX),
        tips: TipDigest::of_view(view)?,
        missing: receiver.missing().take(WANTS_MAX).collect(),
        cursor: Cursor::at_end(log, view)?,
    };
    Ok(ResponseHeader::encode(Ok(Reply::Stored(stored))))
}

/// Tells the client what it did wrong.
pub fn refusal_of(fault: &SyncFault) -> WireError {
    let SyncFault::Peer(fault) = fault else {
        // The client said itself that it cannot go on.
        return refusal_of(&PeerFault::Incomplete.into());
    };
    let code = match fault {
        PeerFault::Forged(_) | PeerFault::RefusedEntry(_) => ErrorCode::EntryRefused,
        PeerFault::TooManyWaiting => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    };
    WireError::new(code, fault.to_string())
}
