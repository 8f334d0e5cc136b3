//! Limits on concurrent requests of the costly kinds: joins and pushes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eidetica_proto::{Caller, ErrorCode, WireError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many requests to join are queued. They are served one by one, in a few milliseconds each; a
/// longer queue would take longer than a retry.
const JOINS_WAITING_MAX: usize = 32;

/// How many pushes run at a time. Each has an append worker, and about ten megabytes of entries that
/// are not stored yet.
const PUSHES_MAX: usize = 64;

/// How many of them one key may have; all callers without a key count as one.
const PUSHES_BY_ONE_MAX: usize = 8;

/// When to retry, in milliseconds: about as long as a request takes.
const RETRY_AFTER_MS: u32 = 1_000;

/// Serves requests to join one by one.
pub(crate) struct JoinLimit {
    waiting: Semaphore,
    one: Semaphore,
}

impl Default for JoinLimit {
    fn default() -> Self {
        Self {
            waiting: Semaphore::new(JOINS_WAITING_MAX),
            one: Semaphore::new(1),
        }
    }
}

impl JoinLimit {
    /// Waits for the requests before this one. The permits end this request when dropped.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] if [`JOINS_WAITING_MAX`] requests are queued.
    pub(crate) async fn acquire(&self) -> Result<[SemaphorePermit<'_>; 2], WireError> {
        let waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let one = self.one.acquire().await.map_err(|_| busy())?;
        Ok([waiting, one])
    }
}

/// Limits concurrent pushes, in total and for each key.
#[derive(Default)]
pub(crate) struct PushLimit(Arc<Mutex<Pushing>>);

#[derive(Default)]
struct Pushing {
    all: usize,
    by: HashMap<Option<[u8; 32]>, usize>,
}

/// A running push, until it is dropped.
pub(crate) struct Push {
    pushing: Arc<Mutex<Pushing>>,
    by: Option<[u8; 32]>,
}

impl PushLimit {
    /// Admits a push.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`] at a limit.
    pub(crate) fn acquire(&self, caller: &Caller) -> Result<Push, WireError> {
        let by = caller.key.map(|key| *key.as_bytes());
        let mut pushing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = pushing.by.get(&by).copied().unwrap_or(0);
        if pushing.all >= PUSHES_MAX || own >= PUSHES_BY_ONE_MAX {
            return Err(busy());
        }
        pushing.all += 1;
        pushing.by.insert(by, own + 1);
        let pushing = self.0.clone();
        Ok(Push { pushing, by })
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

fn busy() -> WireError {
    WireError {
        retry_after_ms: Some(RETRY_AFTER_MS),
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
        held.pop();
        assert!(pushes.acquire(&caller(None)).is_ok(), "one has ended");
        held.clear();
        let pushing = pushes.0.lock().expect("no test panics");
        assert_eq!((pushing.all, pushing.by.len()), (0, 0));
    }

    #[tokio::test]
    async fn joins_run_one_by_one_and_the_queue_is_limited() {
        let joins = JoinLimit::default();
        let first = joins.acquire().await.expect("the queue is empty");
        let mut waiting: Vec<_> = (1..JOINS_WAITING_MAX)
            .map(|_| Box::pin(joins.acquire()))
            .collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending(), "another runs");
        }
        let error = joins.acquire().await.expect_err("the queue is full");
        assert_eq!(error.code, ErrorCode::Busy);
        drop(first);
        assert!(futures::poll!(&mut waiting[0]).is_ready());
    }
}
