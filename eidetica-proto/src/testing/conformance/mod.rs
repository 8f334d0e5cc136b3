//! The rules that every [`SyncTransport`] passes, one case for each.
//!
//! A transport's crate implements [`Fixture`] and calls
//! [`transport_conformance!`](crate::transport_conformance), which makes one test of each case, so
//! that a failure names the rule that was broken:
//!
//! ```ignore
//! eidetica_proto::transport_conformance!(fixture: HttpFixture::default(), run: run);
//! ```
//!
//! `run` drives a future to its end on whatever executor the transport needs. No case measures
//! time: each waits for what it wants to see, and the watchdog of [`watched`] fails it if that
//! never comes.

pub mod cuts;
pub mod flow;
pub mod frames;
pub mod long_lived;
pub mod peers;
pub mod server;
mod stage;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};

use crate::address::Address;
use crate::transport::{SyncTransport, TransportError};

/// Longest time for one case. A case that takes longer hangs: most end within milliseconds.
const CASE_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the transports that the cases need.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The transport under test.
    type Transport: SyncTransport;

    /// Makes a transport with its usual deadlines. Its server, when started, listens on a free
    /// address of the loopback interface. The cases rely on deadlines of several seconds.
    async fn transport(&self) -> Self::Transport;

    /// Makes a transport like [`Fixture::transport`], but every deadline, and the grace of its
    /// server when it stops, is well below a second.
    async fn hasty_transport(&self) -> Self::Transport;

    /// Makes a transport whose server would listen where another one's listens already.
    ///
    /// # Errors
    /// If the transport notices at this point that the address is in use. It may also notice when
    /// its server is started.
    async fn transport_at(&self, taken: &Address) -> Result<Self::Transport, TransportError>;

    /// Returns an address of the right kind and form where no server listens.
    async fn deserted_address(&self) -> Address;

    /// Returns addresses of the right kind whose values make no sense.
    fn malformed_addresses(&self) -> Vec<Address>;

    /// Tells whether the transport proves the keys of both sides to each other.
    fn proves_keys(&self) -> bool;

    /// Waits, on the clock of the executor that runs the case.
    async fn pause(&self, duration: Duration);
}

/// Runs a case, and fails it if it does not end within a minute.
///
/// # Panics
/// If the case hangs, or fails.
pub async fn watched<F: Fixture>(fixture: &F, case: impl Future<Output = ()>) {
    match select(Box::pin(case), fixture.pause(CASE_TIMEOUT)).await {
        Either::Left(((), _)) => {}
        Either::Right(((), _)) => panic!("the case did not end within {CASE_TIMEOUT:?}"),
    }
}

/// Makes one `#[test]` of each rule for transports.
///
/// `fixture` is an expression that makes a [`Fixture`](crate::testing::conformance::Fixture),
/// evaluated inside the executor. `run` is a function that drives a future to its end, such as
/// `fn run(case: impl Future<Output = ()>)`.
#[macro_export]
macro_rules! transport_conformance {
    (fixture: $fixture:expr, run: $run:expr $(,)?) => {
        $crate::transport_conformance! {
            @cases $fixture, $run;
            frames::one_frame_each_way
            frames::an_empty_request_and_an_empty_answer
            frames::many_frames_keep_their_order
            frames::empty_frames_are_frames
            frames::the_largest_frame_passes
            frames::an_oversize_frame_of_a_request_is_refused
            frames::an_oversize_frame_of_an_answer_never_looks_complete
            frames::ten_exchanges_at_once
            frames::the_answer_begins_before_its_end_is_known
            flow::a_service_that_stops_reading_stops_the_caller
            flow::a_caller_that_stops_reading_stops_the_service
            flow::an_early_answer_reaches_a_caller_that_still_sends
            flow::connections_are_reused
            long_lived::each_frame_arrives_at_once
            long_lived::long_lived_answers_leave_room_for_others
            long_lived::a_stop_does_not_wait_for_news
            long_lived::an_exchange_dropped_before_its_answer_leaves_nothing
            cuts::an_error_of_the_request_comes_back_and_is_no_end
            cuts::a_dropped_exchange_cuts_its_request
            cuts::an_answer_that_breaks_off_never_looks_complete
            cuts::an_answer_that_breaks_off_at_once_never_looks_complete
            cuts::a_dropped_answer_ends_the_exchange
            cuts::a_dropped_answer_ends_an_exchange_that_says_nothing
            cuts::a_silent_service_times_out
            cuts::an_answer_that_stalls_times_out
            peers::the_wrong_kind_is_unusable
            peers::a_malformed_address_is_unusable
            peers::a_deserted_address_refuses
            peers::both_sides_see_the_same_keys
            peers::addresses_reach_the_server
            peers::two_servers_are_independent
            server::starting_twice_is_refused
            server::a_taken_address_is_refused
            server::a_stopped_server_starts_again
            server::stopping_what_does_not_run_does_nothing
            server::a_stop_lets_exchanges_end
            server::a_stop_cuts_what_does_not_end
            server::a_closed_transport_says_so
            server::closing_cuts_what_is_under_way
        }
    };
    (@cases $fixture:expr, $run:expr; $($group:ident :: $case:ident)*) => {$(
        #[test]
        fn $case() {
            $run(async {
                use $crate::testing::conformance::{watched, $group};
                let fixture = $fixture;
                watched(&fixture, $group::$case(&fixture)).await;
            });
        }
    )*};
}
