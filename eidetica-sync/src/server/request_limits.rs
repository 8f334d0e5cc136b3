//! How many requests of the costly kinds are served at a time, whoever makes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eidetica_proto::{Caller, ErrorCode, WireError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many requests to join wait for their turn. They are served one by one, and a few milliseconds
/// each; more than these would make everybody wait for longer than it takes to ask again.
const JOINS_WAITING_MAX: usize = 32;

/// How many pushes are taken at a time. Each has a thread that stores, and up to some ten megabytes of
/// what is not stored yet.
const PUSHES_MAX: usize = 64;

/// How many of them by one key, or by all who prove none.
const PUSHES_BY_ONE_MAX: usize = 8;

/// How long to wait before asking again, in milliseconds: about as long as a turn takes.
const RETRY_AFTER_MS: u32 = 1_000;

/// Lets requests to join go one by one.
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
    /// Waits for a turn, which lasts as long as what is returned.
    pub(crate) async fn acquire(&self) -> Result<[SemaphorePermit<'_>; 2], WireError> {
        let waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let one = self.one.acquire().await.map_err(|_| busy())?;
        Ok([waiting, one])
    }
}

/// Lets so many pushes go at a time.
#[derive(Default)]
pub(crate) struct PushLimit(Arc<Mutex<Pushing>>);

#[derive(Default)]
struct Pushing {
    all: usize,
    by: HashMap<Option<[u8; 32]>, usize>,
}

/// One push.
pub(crate) struct Push {
    pushing: Arc<Mutex<Pushing>>,
    by: Option<[u8; 32]>,
}

impl PushLimit {
    /// Begins a push, if there is room for it. It lasts as long as what is returned.
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
        ..WireError::new(ErrorCode::Busy, "too many ask for this at once; ask again")
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
    fn pushes_are_bounded_for_each_and_for_all() {
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
        assert!(pushes.acquire(&caller(None)).is_err(), "all are taken");
        held.pop();
        assert!(pushes.acquire(&caller(None)).is_ok(), "one was given back");
        held.clear();
        let pushing = pushes.0.lock().expect("nobody panics");
        assert_eq!((pushing.all, pushing.by.len()), (0, 0));
    }

    #[tokio::test]
    async fn requests_to_join_go_one_by_one_and_few_wait() {
        let joins = JoinLimit::default();
        let first = joins.acquire().await.expect("nobody else");
        let mut waiting: Vec<_> = (1..JOINS_WAITING_MAX)
            .map(|_| Box::pin(joins.acquire()))
            .collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending(), "it is not its turn");
        }
        let error = joins.acquire().await.expect_err("too many wait");
        assert_eq!(error.code, ErrorCode::Busy);
        drop(first);
        assert!(futures::poll!(&mut waiting[0]).is_ready());
    }
}
