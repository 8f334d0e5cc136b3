//! Deadlines for the two directions of a body.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::PROGRESS_MIN_BYTES_PER_S;
use crate::options::Deadlines;
use crate::sync::lock;

/// Records since when it has been the other side's turn to take what it was sent.
#[derive(Debug, Default)]
pub(crate) struct SendClock {
    waiting_since: Mutex<Option<Instant>>,
}

impl SendClock {
    /// Records that bytes were handed to the connection: it is the other side's turn.
    pub(crate) fn handed_over(&self) {
        *lock(&self.waiting_since) = Some(Instant::now());
    }

    /// Records that the connection has room, and this side has nothing to send yet.
    pub(crate) fn producing(&self) {
        *lock(&self.waiting_since) = None;
    }

    /// Returns since when it has been the other side's turn, if it is.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        *lock(&self.waiting_since)
    }
}

/// What refills the time that a [`ReceiveClock`] has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refill {
    /// Each byte adds its share of a second, so that a body that trickles ends too. For requests.
    ByBytes,
    /// A whole frame restores the whole time, so that an answer may go on for days with a short
    /// frame now and then. Within a frame, as above. For answers.
    ByFrames,
}

/// Bounds the wait for the next bytes of a body.
///
/// Only time spent waiting counts, not the time that this side takes to process what arrived.
#[derive(Debug)]
pub(crate) struct ReceiveClock {
    refill: Refill,
    full: Duration,
    left: Duration,
    stall: Duration,
    /// The rest of `stall`, within a frame.
    frame_left: Option<Duration>,
    waiting_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ReceiveClock {
    pub(crate) fn new(deadlines: Deadlines, refill: Refill) -> Self {
        Self {
            refill,
            full: deadlines.idle,
            left: deadlines.idle,
            stall: deadlines.stall,
            frame_left: None,
            waiting_since: None,
            sleep: None,
        }
    }

    /// Records whether the other side owes bytes: it has begun something that it has at hand.
    pub(crate) fn within_frame(&mut self, within: bool) {
        match within {
            true => _ = self.frame_left.get_or_insert(self.stall),
            false => self.frame_left = None,
        }
    }

    /// Waits until the time is up.
    pub(crate) fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = || Instant::now();
        let left = self
            .frame_left
            .map_or(self.left, |left| left.min(self.left));
        let deadline = *self.waiting_since.get_or_insert_with(now) + left;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(())
    }

    /// Records that bytes arrived.
    pub(crate) fn received(&mut self, bytes: usize) {
        let waited = self.waiting_since.take().map(|since| since.elapsed());
        let waited = waited.unwrap_or_default();
        let worth = Duration::from_micros(bytes as u64 * 1_000_000 / PROGRESS_MIN_BYTES_PER_S);
        let refilled =
            |left: Duration, full: Duration| full.min(left.saturating_sub(waited) + worth);
        self.left = refilled(self.left, self.full);
        self.frame_left = self.frame_left.map(|left| refilled(left, self.stall));
    }

    /// Records that a frame is whole.
    pub(crate) fn framed(&mut self) {
        self.frame_left = None;
        if self.refill == Refill::ByFrames {
            self.left = self.full;
        }
    }
}
