//! The answering side: what to say to a request.
//!
//! The driver decodes the header ([`RequestHeader::decode`](crate::message::RequestHeader::decode)),
//! takes a view of the tree that the request names, and calls [`may`] before anything else. Then
//! [`answer_sync`] chooses what a [`SyncTree`] is answered with, and a [`Receiver`] takes what a
//! `SendEntries` brings.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_dag::walk::{Heads, difference_by};
use eidetica_dag::{
    Arrival, ArrivalSet, EntryId, EntryView, Outcome, PublicKey, Role, VerifiedEntry,
    current_access,
};

use crate::error::{ErrorCode, PeerFault, WireError};
use crate::filter::FilterMatcher;
use crate::intake::{Intake, Received};
use crate::message::{Reply, ResponseHeader, Stored, SyncReply, SyncTree, TIPS_MAX, WANTS_MAX};
use crate::outgoing::{Outgoing, listed_tips};

/// Why a request gets no answer: the asker's fault, or the view failed.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// Say this to the asker.
    #[error(transparent)]
    Refuse(#[from] WireError),
    /// The view failed. The asker is told no more than [`WireError::internal`].
    #[error("the store failed: {0}")]
    View(#[source] E),
}

/// Checks that `key`, the proved key of the asker, has `role` on the tree of this view.
///
/// # Errors
/// [`WireError::not_found`] if it may not even read, or the view is empty: the two look the same.
/// [`ErrorCode::ReadOnly`] if it may read, and `role` is more.
pub fn may<V: EntryView + ?Sized>(
    view: &V,
    key: Option<&PublicKey>,
    role: Role,
) -> Result<(), AnswerError<V::Error>> {
    let access = current_access(view).map_err(AnswerError::View)?;
    if access.allows(key, role) {
        Ok(())
    } else if access.allows(key, Role::Read) {
        let text = "you may read this tree and not write to it; ask an admin for the role";
        Err(WireError::new(ErrorCode::ReadOnly, text).into())
    } else {
        Err(WireError::not_found().into())
    }
}

/// The answer to a [`SyncTree`]: its first frame, and the entries behind it.
pub struct SyncAnswer {
    /// The first frame.
    pub header: Bytes,
    /// The frames behind it, to be made from the same view.
    pub entries: Option<Box<Outgoing>>,
}

/// Chooses what the asker lacks.
///
/// If all its tips are known here, that is exact. If not, and there is a filter, an entry in the
/// filter counts as known, and so do the ancestors of known entries. Ids that are wanted are sent
/// in any case, with what is missing below them.
///
/// # Errors
/// A malformed filter is the asker's fault.
pub fn answer_sync<V: EntryView + ?Sized>(
    view: &V,
    request: &SyncTree,
) -> Result<SyncAnswer, AnswerError<V::Error>> {
    let answer = |reply, entries| SyncAnswer {
        header: ResponseHeader::encode(Ok(Reply::Sync(reply))),
        entries,
    };
    let own_tips = listed_tips(view).map_err(AnswerError::View)?;
    // A full list may leave tips out, so two of them prove nothing.
    let is_whole = own_tips.len() < TIPS_MAX;
    if own_tips == request.tips && is_whole && request.wants.is_empty() {
        return Ok(answer(SyncReply::Equal, None));
    }

    let numbers = |ids: &[EntryId]| {
        let found = ids.iter().filter_map(|id| view.arrival(id).transpose());
        found
            .collect::<Result<BTreeSet<Arrival>, _>>()
            .map_err(AnswerError::View)
    };
    let send = |entries| -> Result<SyncAnswer, AnswerError<V::Error>> {
        let outgoing = Outgoing::new(view, entries).map_err(AnswerError::View)?;
        Ok(answer(
            SyncReply::Entries(outgoing.entry_count()),
            Some(Box::new(outgoing)),
        ))
    };
    if request.tips.is_empty() && request.wants.is_empty() {
        // Whoever has nothing lacks everything, and nobody has to walk through it to know.
        return send(ArrivalSet::all_below(view.entry_count()));
    }
    let mut known = numbers(&request.tips)?;
    let all_tips_known = known.len() == request.tips.len();
    let matcher = match &request.filter {
        _ if all_tips_known => None,
        None => return Ok(answer(SyncReply::SendFilter, None)),
        Some(filter) => Some(filter.matcher().map_err(|error| {
            WireError::new(
                ErrorCode::Malformed,
                format!("the filter cannot be read: {error}"),
            )
        })?),
    };
    let wants = numbers(&request.wants)?;
    known.retain(|at| !wants.contains(at));
    let wanted: Vec<Arrival> = wants.iter().copied().collect();
    let heads = if request.wants.is_empty() {
        Heads::Tips
    } else {
        Heads::At(&wanted)
    };
    // What is wanted is lacking, and so is everything above it: where the filter claims to know
    // such an entry it errs again, and must not hide what is wanted a second time. So it is only
    // asked about entries below the wanted ones.
    let mut below_wants = ArrivalSet::new();
    let missing = difference_by(view, heads, |at, node| {
        if known.contains(&at) {
            return true;
        }
        let is_wanted = wants.contains(&at);
        let in_question = wants.is_empty() || below_wants.contains(at);
        let sampled = |matcher: &FilterMatcher| matcher.contains(&node.id, node.height);
        if in_question && !is_wanted && matcher.as_ref().is_some_and(sampled) {
            return true;
        }
        if is_wanted || (in_question && !wants.is_empty()) {
            for parent in &node.parents {
                below_wants.insert(*parent);
            }
        }
        false
    })
    .map_err(AnswerError::View)?;
    send(missing)
}

/// Takes the entries of a `SendEntries`.
///
/// Hand in each part with [`Receiver::handle_part`]. Whenever [`Receiver::poll_store`] gives entries,
/// store them durably and report with [`Receiver::handle_outcome`]. When [`Receiver::is_complete`],
/// answer with [`Receiver::acknowledge`]: not before, for what is acknowledged is durable.
#[derive(Debug, Default)]
pub struct Receiver {
    intake: Intake,
    ended: bool,
    retried: bool,
}

impl Receiver {
    /// Makes a receiver that waits for the first part.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// The asker's fault. What came before the faulty entry is ready to be stored all the same.
    pub fn handle_part(&mut self, part: Received) -> Result<(), PeerFault> {
        match part {
            _ if self.ended => Err(PeerFault::OutOfPlace {
                got: "a frame",
                wanted: "the end of the request",
            }),
            Received::Entries { entries, fault } => {
                self.intake.handle_entries(entries);
                fault.map_or(Ok(()), Err)
            }
            Received::End(_) => {
                self.ended = true;
                Ok(())
            }
            Received::Failed(_) => Err(PeerFault::Incomplete),
        }
    }

    /// Takes that the request ended, cleanly, where a frame was to be received.
    ///
    /// # Errors
    /// [`PeerFault::Incomplete`] if the asker has not said that it sent everything.
    pub fn handle_end(&self) -> Result<(), PeerFault> {
        if self.ended {
            Ok(())
        } else {
            Err(PeerFault::Incomplete)
        }
    }

    /// Returns how many bytes of entries are ready to be stored.
    pub fn ready_bytes(&self) -> usize {
        self.intake.ready_bytes()
    }

    /// Returns the entries to store next, if there are any; at the end also those that waited for
    /// a parent.
    pub fn poll_store(&mut self) -> Option<Vec<VerifiedEntry>> {
        if self.ended && !self.retried {
            self.retried = true;
            self.intake.retry_waiting();
        }
        self.intake.poll_store()
    }

    /// Takes what became of them.
    ///
    /// # Errors
    /// The asker's fault. What came before the faulty entry is stored.
    pub fn handle_outcome(&mut self, outcome: Outcome) -> Result<(), PeerFault> {
        self.intake.handle_outcome(outcome)
    }

    /// Tells whether the sender has sent everything.
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    /// Returns the answer, on a view taken after everything was stored.
    ///
    /// # Errors
    /// Those of the view.
    pub fn acknowledge<V: EntryView + ?Sized>(&self, view: &V) -> Result<Bytes, V::Error> {
        let stored = Stored {
            stored: u32::try_from(self.intake.stored).unwrap_or(u32::MAX),
            tips: listed_tips(view)?,
            missing: self.intake.missing().take(WANTS_MAX).collect(),
        };
        Ok(ResponseHeader::encode(Ok(Reply::Stored(stored))))
    }
}

/// Says to the asker what it did wrong.
pub fn refusal_of(fault: &PeerFault) -> WireError {
    let code = match fault {
        PeerFault::Forged(_) | PeerFault::RefusedEntry(_) => ErrorCode::EntryRefused,
        PeerFault::TooManyWaiting => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    };
    WireError::new(code, fault.to_string())
}
