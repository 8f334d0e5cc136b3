//! The sans-IO protocol that makes two copies of an Eidetica tree equal.
//!
//! Two peers compare **tips** and send each other only what the other lacks. The side that asks
//! runs a [`SyncSession`]: it says what to do next ([`Step`]), and the driver does it and hands the
//! result back. The side that is asked remembers nothing: [`answer::check_access`] checks access,
//! [`answer::answer_sync`] chooses what the asker lacks, and an [`answer::Receiver`] takes what the
//! asker sends. A request lists the asker's tips; where the answerer does not know them all,
//! because both have written, a [`Filter`] of the asker's entries tells it how far back the two
//! agree, so that one round trip does. When the answer has ended, the asker has all of the
//! answerer's tips, and what the answerer lacks in turn is exact.
//!
//! What is said stands in [`message`]s, one in each [`frame`]; entries travel packed in batches
//! ([`mod@batch`]), parents first. Whatever part of a transfer arrives is a valid, smaller copy, so
//! interrupted work resumes by asking again. Nothing a peer says is believed: ids are computed,
//! signatures checked, every list has a limit, and a broken rule is a [`PeerFault`] that names it.
//!
//! Nothing here reads a clock, draws a random number, opens a file or waits: all that is the
//! driver's. [`SyncTransport`] and [`Service`] are the seam to whatever carries
//! frames.
//!
//! Two copies in memory become equal, without any network:
//!
//! ```
//! use eidetica_dag::testing::draw;
//! use eidetica_dag::{Role, tip_ids};
//! use eidetica_proto::answer::{Receiver, answer_sync, check_access};
//! use eidetica_proto::message::{Request, RequestHeader};
//! use eidetica_proto::{SyncOutcome, Received, Step, SyncOptions, SyncSession};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let drawn = draw("A-B-C    B-X");
//! let (mut ours, mut theirs) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
//! let tree = drawn.tree();
//!
//! let mut session = SyncSession::new(tree, SyncOptions::default(), *b"8 random");
//! // What has been answered and not been read.
//! let mut response = std::collections::VecDeque::new();
//! let report = loop {
//!     match session.poll_step() {
//!         Step::View => session.handle_view(&ours)??,
//!         Step::Exchange { header, entries } => match RequestHeader::decode(&header)?.request {
//!             Request::SyncTree(request) => {
//!                 check_access(&theirs, None, Role::Read)?;
//!                 let answer = answer_sync(&theirs, &request)?;
//!                 response.push_back(answer.header);
//!                 if let Some(mut entries) = answer.entries {
//!                     while let Some((frame, _count)) = entries.poll_frame(&theirs)? {
//!                         response.push_back(frame);
//!                     }
//!                 }
//!             }
//!             Request::SendEntries(send) => {
//!                 check_access(&theirs, None, Role::Write)?;
//!                 let mut receiver = Receiver::new(send.entries);
//!                 let mut entries = entries.expect("they follow this header");
//!                 while let Some((frame, _count)) = entries.poll_frame(&ours)? {
//!                     receiver.handle_part(Received::from_frame(tree, &frame)?)?;
//!                     if let Some(entries) = receiver.poll_store() {
//!                         receiver.handle_appended(theirs.append(entries))?;
//!                     }
//!                 }
//!                 receiver.handle_end()?;
//!                 response.push_back(receiver.acknowledge(&theirs)?);
//!             }
//!             _ => unreachable!("a session sends no other requests"),
//!         },
//!         Step::ReceiveHeader => match response.pop_front() {
//!             Some(frame) => session.handle_header(&frame)?,
//!             None => session.handle_end()?,
//!         },
//!         Step::ReceivePart => match response.pop_front() {
//!             Some(frame) => {
//!                 session.handle_part(Received::from_frame(tree, &frame)?, frame.len())?;
//!             }
//!             None => session.handle_end()?,
//!         },
//!         Step::Store(entries) => session.handle_appended(ours.append(entries))?,
//!         Step::AwaitAppend => unreachable!("stored at once"),
//!         Step::Done(report) => break report,
//!     }
//! };
//! assert_eq!(report.ending, SyncOutcome::Equal);
//! assert_eq!((report.stats.pull_round_trips, report.stats.stored), (1, 1));
//! assert_eq!(tip_ids(&ours)?, tip_ids(&theirs)?);
//! # Ok(())
//! # }
//! ```

pub mod address;
pub mod answer;
pub mod backoff;
pub mod batch;
mod compression;
pub mod error;
pub mod filter;
pub mod frame;
mod intake;
pub mod joining;
pub mod message;
mod outgoing;
pub mod proof;
pub mod quota;
pub mod schedule;
pub mod session;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod ticket;
pub mod tips;
pub mod transport;

pub use eidetica_dag;
/// The keys that a connection can prove: all that a transport has to know of identity.
pub use eidetica_dag::{PublicKey, SecretKey};

pub use address::{Address, AddressError};
pub use backoff::{Backoff, BackoffPolicy};
pub use error::{ErrorCode, PeerFault, WireError};
pub use filter::{Filter, FilterBudget, FilterError, FilterMatcher};
pub use intake::{Received, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX};
pub use outgoing::Outgoing;
pub use schedule::{Cause, PeerStatus, Schedule};
pub use session::{
    Progress, Report, Stats, Step, SyncFault, SyncOptions, SyncOutcome, SyncSession,
};
pub use ticket::{InviteSecret, Ticket, TicketError};
pub use transport::{
    Caller, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// The protocol version spoken here. It stands in iroh's ALPN and in HTTP's path.
pub const PROTOCOL_VERSION: u16 = 1;
