//! Who may push at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::TreeId;
use eidetica_proto::coordinator::EXCHANGES_PER_PEER_MAX;
use eidetica_proto::quota::{Quota, Share};
use eidetica_proto::{Caller, WireError};
use tokio::sync::Notify;

use crate::server::pace::{Pace, Timed, busy};

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

/// Limits concurrent pushes, in total and for each key.
///
/// At the limit in total, no push is refused: early ones could keep all others out. Of the tree with
/// the most pushes, the one that has stored no new entry for longest loses its place. So a crowd at one
/// tree costs the writers of another nothing, and repeated entries hold no place.
pub(crate) struct PushLimit {
    pushing: Arc<Mutex<Pushing>>,
    pace: Arc<Pace>,
}

struct Pushing {
    places: Quota<Arc<Notify>>,
    by: BTreeMap<Option<[u8; 32]>, usize>,
}

/// A running push, until it is dropped.
pub(crate) struct Push {
    pushing: Arc<Mutex<Pushing>>,
    share: Share<Arc<Notify>>,
    lost: Arc<Notify>,
    by: Option<[u8; 32]>,
    _timed: Timed,
}

impl Default for PushLimit {
    fn default() -> Self {
        let pushing = Pushing {
            places: Quota::new(PUSHES_MAX),
            by: BTreeMap::new(),
        };
        Self {
            pushing: Arc::new(Mutex::new(pushing)),
            pace: Arc::default(),
        }
    }
}

impl PushLimit {
    /// Admits a push to a tree. Another may lose its place.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`](eidetica_proto::ErrorCode::Busy) if the key has too many, with the
    /// time that a push takes.
    pub(crate) fn acquire(&self, caller: &Caller, tree: TreeId) -> Result<Push, WireError> {
        let by = caller.key.map(|key| *key.as_bytes());
        let mut pushing = lock(&self.pushing);
        let own = pushing.by.get(&by).copied().unwrap_or(0);
        if own >= PUSHES_BY_ONE_MAX {
            return Err(self.busy());
        }
        pushing.by.insert(by, own + 1);
        let lost = Arc::<Notify>::default();
        let mut share = Share::new(tree.to_string(), lost.clone());
        pushing.set(&mut share, 1);
        drop(pushing);
        Ok(Push {
            pushing: self.pushing.clone(),
            share,
            lost,
            by,
            _timed: self.pace.begin(),
        })
    }

    /// Returns how many pushes run.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        lock(&self.pushing).by.values().sum()
    }

    /// The answer to a push that has no place.
    pub(crate) fn busy(&self) -> WireError {
        busy(self.pace.mean())
    }
}

impl Pushing {
    fn set(&mut self, share: &mut Share<Arc<Notify>>, amount: usize) {
        for lost in self.places.handle_set(share, amount) {
            // Kept until it is asked for.
            lost.notify_one();
        }
    }
}

impl Push {
    /// Notes that a new entry was stored.
    pub(crate) fn note_progress(&mut self) {
        lock(&self.pushing).set(&mut self.share, 1);
    }

    /// Waits until the push loses its place.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let lost = self.lost.clone();
        async move { lost.notified().await }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let mut pushing = lock(&self.pushing);
        pushing.set(&mut self.share, 0);
        if let Some(own) = pushing.by.get_mut(&self.by) {
            *own -= 1;
            if *own == 0 {
                pushing.by.remove(&self.by);
            }
        }
    }
}

fn lock(pushing: &Mutex<Pushing>) -> MutexGuard<'_, Pushing> {
    pushing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use eidetica_dag::{EntryId, PublicKey};
    use eidetica_proto::ErrorCode;
    use futures::FutureExt;

    use super::*;

    fn caller(key: Option<u8>) -> Caller {
        Caller {
            transport: "memory",
            key: key.map(|byte| PublicKey::from_bytes([byte; 32])),
            remote: String::new(),
        }
    }

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    fn is_lost(push: &Push) -> bool {
        push.lost().now_or_never().is_some()
    }

    #[test]
    fn one_key_has_a_few_pushes() {
        let pushes = PushLimit::default();
        for key in [Some(1), None] {
            let acquire = || pushes.acquire(&caller(key), tree(1));
            let held: Vec<_> = (0..PUSHES_BY_ONE_MAX).map(|_| acquire()).collect();
            assert!(held.iter().all(Result::is_ok));
            let code = acquire().err().map(|error| error.code);
            assert_eq!(code, Some(ErrorCode::Busy));
            drop(held);
            assert!(acquire().is_ok());
        }
        assert!(lock(&pushes.pushing).by.is_empty());
    }

    #[test]
    fn the_push_without_progress_loses_its_place_to_another() {
        let pushes = PushLimit::default();
        let acquire = |key, of| {
            pushes
                .acquire(&caller(Some(key)), tree(of))
                .expect("never full")
        };
        let mut flood: Vec<_> = (0..PUSHES_MAX as u8).map(|n| acquire(n / 8, 1)).collect();
        // All but the third have stored something since.
        for (n, push) in flood.iter_mut().enumerate() {
            if n != 3 {
                push.note_progress();
            }
        }
        let honest = acquire(100, 1);
        assert!(is_lost(&flood[3]) && !is_lost(&honest));
        assert!(
            flood.iter().filter(|push| is_lost(push)).count() == 0,
            "no other"
        );
    }

    #[test]
    fn a_crowd_at_one_tree_costs_the_writers_of_another_nothing() {
        let pushes = PushLimit::default();
        let acquire = |key, of| {
            pushes
                .acquire(&caller(Some(key)), tree(of))
                .expect("never full")
        };
        let honest: Vec<_> = (100..104).map(|key| acquire(key, 2)).collect();
        let mut flood = Vec::new();
        for n in 0..90 {
            flood.push(acquire(n / 8, 1));
            // Valid entries, one after the other.
            flood.iter_mut().for_each(Push::note_progress);
        }
        assert!(honest.iter().all(|push| !is_lost(push)));
        let lost = flood.iter().filter(|push| is_lost(push)).count();
        assert_eq!(lost, 90 + 4 - PUSHES_MAX);
    }
}
