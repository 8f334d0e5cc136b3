//! The answering side of one exchange: the counterpart of [`SyncSession`](crate::SyncSession).

use std::mem;

use bytes::Bytes;
use eidetica_dag::{EntryView, PublicKey, Role, TreeId};

use crate::answer::{AnswerError, SyncAnswer, acknowledge, answer_sync, check_access, refusal_of};
use crate::cursor::LogId;
use crate::error::{ErrorCode, WireError};
use crate::message::{Request, RequestHeader, ResponseHeader, SendEntries, SyncTree};
use crate::outgoing::EntrySelection;
use crate::push::check_push;
use crate::receiver::EntryReceiver;
use crate::sync_fault::SyncFault;

/// What the driver of an [`AnswerSession`] does next.
pub enum AnswerStep {
    /// Take a view of this tree, empty if the tree is not here, and hand it to
    /// [`AnswerSession::handle_view`].
    View(TreeId),
    /// The entries of the request follow: carry out what [`AnswerSession::receiver`] says.
    Receive,
    /// Send this frame and after it the entries if there are any, made from the view last handed in.
    /// The exchange is over then.
    Answer {
        /// The first frame of the response.
        header: Bytes,
        /// What follows it.
        entries: Option<EntrySelection>,
    },
}

/// Answers one request of a client that compares a tree or sends entries of it.
///
/// Make one for each exchange, hand it the first frame of the request
/// ([`AnswerSession::handle_header`]), then ask [`AnswerSession::poll_step`] what to do, do it, and hand
/// the result back, over and over until [`AnswerStep::Answer`]. Access is checked before anything else,
/// and what is acknowledged is stored: the view for the acknowledgement is taken after that.
///
/// Where receiving fails, the driver tells the receiver ([`EntryReceiver::handle_break`]), stores what
/// that still gives, and tells the session ([`AnswerSession::handle_fault`]), which then refuses.
///
/// It limits neither how many exchanges there are at a time nor how long they take: that is for the
/// driver, which knows its callers. Requests other than `SyncTree` and `SendEntries` get the answer
/// that they are not supported.
pub struct AnswerSession {
    log: LogId,
    client: Option<PublicKey>,
    accepts_trees: bool,
    state: State,
    receiver: Option<EntryReceiver>,
}

enum State {
    /// The session awaits the request.
    Idle,
    /// A comparison is to be answered.
    Compare(SyncTree),
    /// The client's role is to be checked before its entries are received.
    Check(SendEntries),
    /// The receiver receives, or stores what it received.
    Receiving,
    /// The response is ready.
    Answer {
        header: Bytes,
        entries: Option<EntrySelection>,
    },
}

impl AnswerSession {
    /// Begins an exchange. `log` is the store's, and `client` the key that the client has proved, if
    /// any; [`proof`](crate::proof) says how where the connection does not.
    pub fn new(log: LogId, client: Option<PublicKey>) -> Self {
        Self {
            log,
            client,
            accepts_trees: false,
            state: State::Idle,
            receiver: None,
        }
    }

    /// Accepts entries of trees that are not here, from this client. By default none are.
    #[must_use]
    pub fn accept_trees(mut self) -> Self {
        self.accepts_trees = true;
        self
    }

    /// Takes the first frame of the request.
    pub fn handle_header(&mut self, frame: &[u8]) {
        let request = RequestHeader::decode(frame).map(|header| header.request);
        self.state = match request {
            Ok(Request::SyncTree(request)) => State::Compare(request),
            Ok(Request::SendEntries(request)) => State::Check(request),
            Ok(Request::Unknown(kind)) => {
                State::refuse(WireError::unsupported("a request of kind", kind))
            }
            Ok(_) => State::refuse(WireError::new(
                ErrorCode::Unsupported,
                "this peer only compares trees and receives entries",
            )),
            Err(error) => State::refuse(error),
        };
    }

    /// Returns the machine that receives the entries of the request, for [`AnswerStep::Receive`];
    /// `None` at any other step.
    pub fn receiver(&mut self) -> Option<&mut EntryReceiver> {
        self.receiver.as_mut()
    }

    /// Returns what to do next.
    pub fn poll_step(&mut self) -> AnswerStep {
        match &mut self.state {
            State::Compare(request) => AnswerStep::View(request.tree),
            State::Check(request) => AnswerStep::View(request.tree),
            State::Receiving => match &self.receiver {
                Some(receiver) if receiver.is_done() => AnswerStep::View(receiver.tree()),
                _ => AnswerStep::Receive,
            },
            State::Answer { header, entries } => AnswerStep::Answer {
                header: header.clone(),
                entries: entries.clone(),
            },
            State::Idle => {
                // The request ended before its first frame.
                self.state =
                    State::refuse(WireError::new(ErrorCode::Malformed, "the request is empty"));
                self.poll_step()
            }
        }
    }

    /// Takes a view of the tree.
    ///
    /// # Errors
    /// Those of the view. The session then answers that this side failed.
    pub fn handle_view<V: EntryView + ?Sized>(&mut self, view: &V) -> Result<(), V::Error> {
        let next = match mem::replace(&mut self.state, State::Idle) {
            State::Compare(request) => self.compare(view, &request),
            State::Check(request) => self.check(view, request),
            State::Receiving => self.acknowledge(view),
            other => Ok(other),
        };
        let (state, failed) = match next {
            Ok(state) => (state, Ok(())),
            Err(AnswerError::Refuse(error)) => (State::refuse(error), Ok(())),
            Err(AnswerError::View(error)) => (State::refuse(WireError::internal()), Err(error)),
        };
        self.state = state;
        failed
    }

    fn compare<V: EntryView + ?Sized>(
        &self,
        view: &V,
        request: &SyncTree,
    ) -> Result<State, AnswerError<V::Error>> {
        check_access(view, self.client.as_ref(), Role::Read)?;
        let SyncAnswer { header, entries } = answer_sync(view, self.log, request)?;
        Ok(State::Answer { header, entries })
    }

    fn check<V: EntryView + ?Sized>(
        &mut self,
        view: &V,
        request: SendEntries,
    ) -> Result<State, AnswerError<V::Error>> {
        check_push(view, self.client.as_ref(), |_| self.accepts_trees)?;
        let mut receiver = EntryReceiver::new(request.tree);
        receiver.begin(request.entries);
        self.receiver = Some(receiver);
        Ok(State::Receiving)
    }

    fn acknowledge<V: EntryView + ?Sized>(&self, view: &V) -> Result<State, AnswerError<V::Error>> {
        let Some(receiver) = &self.receiver else {
            return Ok(State::Receiving);
        };
        let header = acknowledge(receiver, view, self.log).map_err(AnswerError::View)?;
        Ok(State::Answer {
            header,
            entries: None,
        })
    }

    /// Takes that the entries could not be received, by the client's fault.
    pub fn handle_fault(&mut self, fault: &SyncFault) {
        self.state = State::refuse(refusal_of(fault));
    }
}

impl State {
    fn refuse(error: WireError) -> Self {
        Self::Answer {
            header: ResponseHeader::encode(Err(error)),
            entries: None,
        }
    }
}
