//! Limits on concurrent requests of the costly kinds: joins, pushes, and questions about many trees.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eidetica_proto::coordinator::EXCHANGES_PER_PEER_MAX;
use eidetica_proto::{Caller, ErrorCode, WireError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How many requests of one costly kind are queued. They take some milliseconds each; a longer queue
/// would take longer than a retry.
const WAITING_MAX: usize = 32;

/// How many questions about many trees are answered at a time: a peer needs one a minute, and each
/// may keep a core busy for half a second.
const QUESTIONS_MAX: usize = 2;

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

/// Serves requests of one kind a few at a time, and queues the others.
pub(crate) struct QueueLimit {
    running_max: usize,
    admitted: Semaphore,
    running: Semaphore,
    pace: Pace,
}

/// A request that was admitted, until it is dropped.
pub(crate) struct Queued<'a> {
    _permits: [SemaphorePermit<'a>; 2],
    _timed: Timed<'a>,
}

impl QueueLimit {
    /// Serves requests one by one.
    pub(crate) fn one_by_one() -> Self {
        Self::new(1)
    }

    /// Serves questions about many trees.
    pub(crate) fn questions() -> Self {
        Self::new(QUESTIONS_MAX)
    }

    fn new(running_max: usize) -> Self {
        Self {
            running_max,
            admitted: Semaphore::new(WAITING_MAX),
            running: Semaphore::new(running_max),
            pace: Pace::default(),
        }
    }

    /// Waits for the requests before this one.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] if [`WAITING_MAX`] requests are queued, with the time that they
    /// take.
    pub(crate) async fn acquire(&self) -> Result<Queued<'_>, WireError> {
        let queue = WAITING_MAX.div_ceil(self.running_max);
        let busy = || busy(self.pace.mean() * queue as u32);
        let admitted = self.admitted.try_acquire().map_err(|_| busy())?;
        let running = self.running.acquire().await.map_err(|_| busy())?;
        Ok(Queued {
            _permits: [admitted, running],
            _timed: self.pace.begin(),
        })
    }
}

/// Limits concurrent pushes, in total and for each key.
#[derive(Default)]
pub(crate) struct PushLimit {
    pushing: Arc<Mutex<Pushing>>,
    pace: Pace,
}

#[derive(Default)]
struct Pushing {
    all: usize,
    by: HashMap<Option<[u8; 32]>, usize>,
}

/// A running push, until it is dropped.
pub(crate) struct Push<'a> {
    pushing: Arc<Mutex<Pushing>>,
    by: Option<[u8; 32]>,
    _timed: Timed<'a>,
}

impl PushLimit {
    /// Admits a push.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] at a limit, with the time that a push takes.
    pub(crate) fn acquire(&self, caller: &Caller) -> Result<Push<'_>, WireError> {
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

impl Drop for Push<'_> {
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
struct Pace(Mutex<Option<Duration>>);

/// Measures a request until it is dropped.
struct Timed<'a> {
    pace: &'a Pace,
    began: Instant,
}

impl Pace {
    fn begin(&self) -> Timed<'_> {
        Timed {
            pace: self,
            began: Instant::now(),
        }
    }

    fn mean(&self) -> Duration {
        let mean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mean.unwrap_or(RETRY_AFTER.0)
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let mut mean = self.pace.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(took, |before| (before * 7 + took) / 8));
    }
}

/// Refuses a request that may succeed after a pause.
fn busy(pause: Duration) -> WireError {
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

    #[tokio::test]
    async fn requests_run_one_by_one_and_the_queue_is_limited() {
        let joins = QueueLimit::one_by_one();
        let first = joins.acquire().await.expect("the queue is empty");
        let mut waiting: Vec<_> = (1..WAITING_MAX)
            .map(|_| Box::pin(joins.acquire()))
            .collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending(), "another runs");
        }
        let error = joins.acquire().await.err().expect("the queue is full");
        assert_eq!(error.code, ErrorCode::Busy);
        drop(first);
        assert!(futures::poll!(&mut waiting[0]).is_ready());
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

        let joins = QueueLimit::one_by_one();
        let one = joins.acquire().await.expect("the queue is empty");
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(one);
        let first = joins.acquire().await.expect("the queue is empty");
        let mut waiting: Vec<_> = (1..WAITING_MAX)
            .map(|_| Box::pin(joins.acquire()))
            .collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending(), "another runs");
        }
        let refused = joins.acquire().await.err().expect("the queue is full");
        assert_eq!(refused.retry_after_ms, Some(50 * WAITING_MAX as u32));
        drop(first);
    }
}
