//! Limits on concurrent pushes, and how long requests take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eidetica_proto::coordinator::EXCHANGES_PER_PEER_MAX;
use eidetica_proto::{Caller, ErrorCode, WireError};
use tokio::time::Instant;

/// How many pushes run at a time. Each has an append worker, and about ten megabytes of entries that
/// are not stored yet.
const PUSHES_MAX: usize = 64;

/// How many of them one key may have; all callers without a key count as one. More than the exchanges
/// that a peer of this version has with one other, its probe included, so that only other programs
/// reach it.
const PUSHES_BY_ONE_MAX: usize = 8;

/// How many probes a peer of this version has under way beside its exchanges.
const PROBES_MAX: usize = 1;

const _: () = assert!(EXCHANGES_PER_PEER_MAX + PROBES_MAX <= PUSHES_BY_ONE_MAX);

/// The shortest and the longest pause that a refused caller is asked for. Requests are shorter or
/// longer, but a caller may not be called back at once, nor forgotten.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Limits concurrent pushes, in total and for each key.
#[derive(Default)]
pub(crate) struct PushLimit {
    pushing: Arc<Mutex<Pushing>>,
    pace: Arc<Pace>,
}

#[derive(Default)]
struct Pushing {
    all: usize,
    by: HashMap<Option<[u8; 32]>, usize>,
}

/// A running push, until it is dropped.
pub(crate) struct Push {
    pushing: Arc<Mutex<Pushing>>,
    by: Option<[u8; 32]>,
    _timed: Timed,
}

impl PushLimit {
    /// Admits a push.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] at a limit, with the time that a push takes.
    pub(crate) fn acquire(&self, caller: &Caller) -> Result<Push, WireError> {
        let by = caller.key.map(|key| *key.as_bytes());
        let mut pushing = self.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        let own = pushing.by.get(&by).copied().unwrap_or(0);
        if pushing.all >= PUSHES_MAX || own >= PUSHES_BY_ONE_MAX {
            return Err(busy(self.pace.mean()));
        }
        pushing.all += 1;
        pushing.by.insert(by, own + 1);
        Ok(Push {
            pushing: self.pushing.clone(),
            by,
            _timed: self.pace.begin(),
        })
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let mut pushing = self.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        pushing.all -= 1;
        if let Some(own) = pushing.by.get_mut(&self.by) {
            *own -= 1;
            if *own == 0 {
                pushing.by.remove(&self.by);
            }
        }
    }
}

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
    use eidetica_dag::PublicKey;

    use super::*;

    fn caller(key: Option<u8>) -> Caller {
        Caller {
            transport: "memory",
            key: key.map(|byte| PublicKey::from_bytes([byte; 32])),
            remote: String::new(),
        }
    }

    #[test]
    fn pushes_are_limited_by_key_and_in_total() {
        let pushes = PushLimit::default();
        let mut held = Vec::new();
        for key in 0..(PUSHES_MAX / PUSHES_BY_ONE_MAX) as u8 {
            for _ in 0..PUSHES_BY_ONE_MAX {
                held.push(pushes.acquire(&caller(Some(key))).expect("there is room"));
            }
            let one_more = pushes.acquire(&caller(Some(key)));
            assert_eq!(
                one_more.err().map(|error| error.code),
                Some(ErrorCode::Busy)
            );
        }
        assert!(
            pushes.acquire(&caller(None)).is_err(),
            "the limit is reached"
        );
        held.clear();
        assert!(pushes.acquire(&caller(None)).is_ok());
        assert!(
            pushes
                .pushing
                .lock()
                .expect("no panics while held")
                .by
                .is_empty()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_caller_learns_how_long_requests_take() {
        let pushes = PushLimit::default();
        let hint = |pushes: &PushLimit| {
            let admit = |_| pushes.acquire(&caller(None)).ok();
            let held: Vec<_> = (0..PUSHES_BY_ONE_MAX).filter_map(admit).collect();
            let refused = pushes.acquire(&caller(None)).err().expect("at the limit");
            // As if they had not been.
            let mean = *pushes.pace.0.lock().expect("no panics while held");
            drop(held);
            *pushes.pace.0.lock().expect("no panics while held") = mean;
            refused.retry_after_ms
        };
        assert_eq!(hint(&pushes), Some(100), "nothing is known yet");
        for (took_ms, expected_ms) in [(2_000, 2_000), (400, 1_800), (600_000, 10_000)] {
            let push = pushes.acquire(&caller(None)).expect("there is room");
            tokio::time::sleep(Duration::from_millis(took_ms)).await;
            drop(push);
            assert_eq!(hint(&pushes), Some(expected_ms));
        }
    }
}
