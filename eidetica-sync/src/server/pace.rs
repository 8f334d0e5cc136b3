//! How long requests take, and when to call again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eidetica_proto::{ErrorCode, WireError};
use tokio::time::Instant;

/// The shortest and the longest pause that a refused caller is asked for. Requests are shorter or
/// longer, but a caller may not be called back at once, nor forgotten.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long requests of one kind take: the mean, in which the latest one counts for an eighth.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Duration>>);

/// Measures a request until it is dropped.
pub(super) struct Timed {
    pace: Arc<Pace>,
    began: Instant,
}

impl Pace {
    pub(super) fn begin(self: &Arc<Self>) -> Timed {
        Timed {
            pace: self.clone(),
            began: Instant::now(),
        }
    }

    pub(super) fn mean(&self) -> Duration {
        let mean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mean.unwrap_or(RETRY_AFTER.0)
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let mut mean = self.pace.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(took, |before| (before * 7 + took) / 8));
    }
}

/// Refuses a request that may succeed after a pause.
pub(super) fn busy(pause: Duration) -> WireError {
    let pause = pause.clamp(RETRY_AFTER.0, RETRY_AFTER.1);
    WireError {
        retry_after_ms: Some(pause.as_millis() as u32),
        ..WireError::new(ErrorCode::Busy, "too many concurrent requests; retry later")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_caller_learns_how_long_requests_take() {
        let pace = Arc::<Pace>::default();
        let hint = || busy(pace.mean()).retry_after_ms;
        assert_eq!(hint(), Some(100), "nothing is known yet");
        for (took_ms, expected_ms) in [(2_000, 2_000), (400, 1_800), (600_000, 10_000)] {
            let timed = pace.begin();
            tokio::time::sleep(Duration::from_millis(took_ms)).await;
            drop(timed);
            assert_eq!(hint(), Some(expected_ms));
        }
    }
}
