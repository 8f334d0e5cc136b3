//! The sans-IO protocol that makes two copies of an Eidetica tree equal.
//!
//! Two peers compare **tips** and send each other only what the other lacks. The side that asks
//! runs a [`SyncSession`]: it says what to do next ([`Step`]), and the driver does it and hands the
//! result back. The side that answers keeps no state between exchanges: an [`AnswerSession`] answers
//! one request, from the functions of [`answer`], which a server with limits of its own calls itself.
//! Entries that arrive go through an [`EntryReceiver`] on either side, which says what to store when
//! ([`ReceiveStep`]).
//!
//! A request lists the client's tips. Where the server does not know them all, because both have
//! written, a [`Filter`] of the client's entries tells it how far back the two agree, so that one
//! round trip suffices. When the answer has ended, the client has all of the server's tips, and
//! what the server lacks in turn is exact.
//!
//! Peers exchange [`message`]s, one in each [`frame`]; entries travel packed in batches
//! ([`mod@batch`]), parents first. Any part of a transfer that arrives is a valid, smaller copy, so
//! interrupted work resumes by asking again. Nothing that a peer says is believed: ids are computed,
//! signatures checked, every list has a limit, and a broken rule is a [`PeerFault`] that names it.
//!
//! Nothing here reads a clock, draws a random number, opens a file or waits: that is the driver's
//! work. [`SyncTransport`] and [`Service`] are the seam to transports, which carry frames.
//!
//! Two copies in memory become equal, without any network:
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use eidetica_dag::testing::draw;
//! use eidetica_dag::{MemoryDag, tip_ids};
//! use eidetica_proto::{
//!     AnswerSession, AnswerStep, EntryReceiver, EntrySelection, LogId, ReceiveStep, Received, Step,
//!     SyncFault, SyncOptions, SyncOutcome, SyncSession,
//! };
//!
//! type Frames = VecDeque<bytes::Bytes>;
//!
//! /// Makes the frames of a message.
//! fn send(header: bytes::Bytes, entries: Option<EntrySelection>, dag: &MemoryDag) -> Frames {
//!     let mut frames = Frames::from([header]);
//!     if let Some(mut outgoing) = entries.map(|entries| entries.outgoing()) {
//!         while let Ok(Some((frame, _count))) = outgoing.poll_frame(dag) {
//!             frames.push_back(frame);
//!         }
//!     }
//!     frames
//! }
//!
//! /// Receives the entries in these frames and stores them.
//! fn receive(
//!     receiver: &mut EntryReceiver,
//!     frames: &mut Frames,
//!     dag: &mut MemoryDag,
//! ) -> Result<(), SyncFault> {
//!     loop {
//!         let now_ms = 0; // all frames are here at once
//!         match receiver.poll_step(now_ms) {
//!             ReceiveStep::ReceivePart => match frames.pop_front() {
//!                 Some(frame) => {
//!                     let part = Received::from_frame(dag.tree(), &frame)?;
//!                     receiver.handle_part(part, frame.len(), now_ms)?;
//!                 }
//!                 None => receiver.handle_end()?,
//!             },
//!             ReceiveStep::Append { entries, .. } => receiver.handle_appended(dag.append(entries))?,
//!             ReceiveStep::AwaitAppend => unreachable!("stored at once"),
//!             ReceiveStep::Done => return Ok(()),
//!         }
//!     }
//! }
//!
//! /// Answers a request.
//! fn answer(mut request: Frames, dag: &mut MemoryDag) -> Result<Frames, SyncFault> {
//!     // Names the log of the answering store. The client has proved no key.
//!     let mut session = AnswerSession::new(LogId::from_bytes(*b"8 random"), None);
//!     session.handle_header(&request.pop_front().unwrap_or_default());
//!     loop {
//!         match session.poll_step() {
//!             AnswerStep::View(_) => session.handle_view(dag).expect("memory does not fail"),
//!             AnswerStep::Receive => {
//!                 receive(session.receiver().expect("it receives"), &mut request, dag)?;
//!             }
//!             AnswerStep::Answer { header, entries } => return Ok(send(header, entries, dag)),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let drawn = draw("A-B-C    B-X");
//! let (mut ours, mut theirs) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
//!
//! let mut session = SyncSession::new(drawn.tree(), SyncOptions::default(), *b"8 random");
//! let mut response = Frames::new();
//! let report = loop {
//!     match session.poll_step() {
//!         Step::View => session.handle_view(&ours)??,
//!         Step::Exchange { header, entries } => {
//!             response = answer(send(header, entries, &ours), &mut theirs)?;
//!         }
//!         Step::ReceiveHeader => match response.pop_front() {
//!             Some(frame) => session.handle_header(&frame)?,
//!             None => session.handle_end()?,
//!         },
//!         Step::Receive => receive(session.receiver(), &mut response, &mut ours)?,
//!         Step::Done(report) => break report,
//!     }
//! };
//! assert_eq!(report.outcome, SyncOutcome::Equal);
//! assert_eq!((report.stats.pull_round_trips, report.stats.stored), (1, 1));
//! assert_eq!(tip_ids(&ours)?, tip_ids(&theirs)?);
//! # Ok(())
//! # }
//! ```

pub mod address;
pub mod address_race;
pub mod answer;
pub mod answer_session;
pub mod backoff;
pub mod batch;
mod batch_error;
pub mod body_limit;
pub mod check;
mod compression;
pub mod coordinator;
pub mod cursor;
pub mod error;
pub mod filter;
pub mod frame;
pub mod grant;
pub mod joining;
pub mod message;
pub mod origins;
mod outgoing;
pub mod peer_book;
pub mod peers;
pub mod proof;
pub mod push;
pub mod quota;
mod received;
pub mod receiver;
pub mod repair;
pub mod report;
pub mod session;
pub mod source;
mod sync_fault;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod ticket;
pub mod tips;
pub mod transport;
pub mod turns;
pub mod watch;

pub use eidetica_dag;
/// The keys that a connection can prove: all that a transport has to know of identity.
pub use eidetica_dag::{PublicKey, SecretKey};

pub use address::{Address, AddressError};
pub use address_race::AddressRace;
pub use answer_session::{AnswerSession, AnswerStep};
pub use backoff::{Backoff, BackoffPolicy};
pub use coordinator::Coordinator;
pub use cursor::{Cursor, LogId};
pub use error::{ErrorCode, PeerFault, WireError};
pub use filter::{Filter, FilterBudget, FilterError, FilterMatcher};
pub use outgoing::{EntrySelection, Outgoing};
pub use peer_book::PeerBook;
pub use received::Received;
pub use receiver::{EntryReceiver, ReceiveStep, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX};
pub use report::{Progress, Report, Stats, SyncOptions, SyncOutcome};
pub use session::{Step, SyncSession};
pub use sync_fault::SyncFault;
pub use ticket::{InviteSecret, Ticket, TicketError};
pub use transport::{
    Caller, Discovered, DiscoveredStream, FrameStream, Response, Service, SyncTransport,
    TransportError, TransportErrorKind,
};

/// The highest protocol version that this crate speaks. It is part of iroh's ALPN and of HTTP's path.
pub const PROTOCOL_VERSION: u16 = 2;

/// The lowest protocol version that this crate speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 2;
