//! Limits on the work that requests cost: reading, judging and answering on blocking threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_proto::WireError;
use eidetica_proto::turns::{Asker, Turns};
use tokio::sync::oneshot;

use crate::platform::blocking;
use crate::server::pace::{Pace, Timed, busy};

/// How many joins and questions about many trees are admitted, those that run included. They take some
/// milliseconds each; a longer queue would take longer than a retry.
const FEW_ADMITTED_MAX: usize = 32;

/// How many of them one network may have, so that others find room and a short queue.
const FEW_BY_ONE_MAX: usize = 24;

/// How many questions about many trees are answered at a time: a peer needs one a minute, and each
/// may keep a core busy for half a second.
const QUESTIONS_MAX: usize = 2;

/// How many requests about one tree are looked at in a store at a time, for each processor. Each takes
/// much less than a millisecond in a warm store; more threads than this only take turns.
const READS_PER_CORE_MAX: usize = 2;

/// How many of them are admitted, and how many of one network: what a proxy brings counts as one.
const READS_ADMITTED_MAX: usize = 512;
const READS_BY_ONE_MAX: usize = 448;

/// Of how many processors one packs batches for answers, so that many slow readers leave the others to
/// everything else.
const CORES_PER_PACKING: usize = 2;

/// Does work of one kind a few at a time, and queues the rest.
///
/// A place belongs to the work, not to the request: it is free when the work has ended, also if the
/// caller is gone before. Work that has not begun by then is not done. Networks take turns, and so do
/// the keys of one network.
pub(crate) struct WorkLimit {
    running_max: usize,
    admitted_max: usize,
    by_one_max: usize,
    admitted: Arc<Mutex<Admitted>>,
    shared: Arc<Mutex<Shared>>,
    pace: Arc<Pace>,
}

#[derive(Default)]
struct Admitted {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// Work that was admitted, until it is dropped.
struct Place {
    admitted: Arc<Mutex<Admitted>>,
    network: Arc<str>,
}

struct Shared {
    free: usize,
    waiting: Turns<Waiting>,
    next: u64,
}

/// Work that waits for a permit.
struct Waiting {
    number: u64,
    permit: oneshot::Sender<Permit>,
}

/// Permission to run, until it is dropped.
struct Permit(Arc<Mutex<Shared>>);

/// What running work holds.
struct Running {
    _place: Place,
    _permit: Permit,
    _timed: Timed,
}

impl WorkLimit {
    /// Takes requests to join one by one.
    pub(crate) fn joins() -> Self {
        Self::new(1, FEW_ADMITTED_MAX, FEW_BY_ONE_MAX)
    }

    /// Answers questions about many trees.
    pub(crate) fn questions() -> Self {
        Self::new(QUESTIONS_MAX, FEW_ADMITTED_MAX, FEW_BY_ONE_MAX)
    }

    /// Answers requests about one tree.
    pub(crate) fn reads() -> Self {
        let running_max = cores() * READS_PER_CORE_MAX;
        Self::new(running_max, READS_ADMITTED_MAX, READS_BY_ONE_MAX)
    }

    /// Packs batches for answers, which only ever wait: each for one at a time, and transports limit how
    /// many there are.
    pub(crate) fn packings() -> Self {
        Self::new(cores().div_ceil(CORES_PER_PACKING), 0, 0)
    }

    fn new(running_max: usize, admitted_max: usize, by_one_max: usize) -> Self {
        Self {
            running_max,
            admitted_max,
            by_one_max,
            admitted: Arc::default(),
            shared: Arc::new(Mutex::new(Shared {
                free: running_max,
                waiting: Turns::new(),
                next: 0,
            })),
            pace: Arc::default(),
        }
    }

    /// Does work in its turn, however much is queued.
    pub(crate) async fn run_always<T: Send + 'static>(
        &self,
        asker: &Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let permit = self.permit(asker).await;
        blocking::run_unless_gone(move || {
            let _permit = permit;
            work()
        })
        .await
    }

    /// Does work for a request, in its turn.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Busy`](eidetica_proto::ErrorCode::Busy) if too much is queued, in all or
    /// from this network, with the time that it takes.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        asker: &Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WireError> {
        let place = self.admit(&asker.network).ok_or_else(|| self.busy())?;
        let running = Running {
            _place: place,
            _permit: self.permit(asker).await,
            _timed: self.pace.begin(),
        };
        let work = move || {
            let _running = running;
            work()
        };
        Ok(blocking::run_unless_gone(work).await)
    }

    fn admit(&self, network: &Arc<str>) -> Option<Place> {
        let mut admitted = lock(&self.admitted);
        let own = admitted.by.get(network).copied().unwrap_or(0);
        if admitted.all >= self.admitted_max || own >= self.by_one_max {
            return None;
        }
        admitted.all += 1;
        admitted.by.insert(network.clone(), own + 1);
        Some(Place {
            admitted: self.admitted.clone(),
            network: network.clone(),
        })
    }

    /// Waits for a permit.
    async fn permit(&self, asker: &Asker) -> Permit {
        let (left, permit) = {
            let mut shared = lock(&self.shared);
            if shared.free > 0 {
                shared.free -= 1;
                return Permit(self.shared.clone());
            }
            let number = shared.next;
            shared.next += 1;
            let (sender, permit) = oneshot::channel();
            let waiting = Waiting {
                number,
                permit: sender,
            };
            shared.waiting.handle_queued(asker.clone(), waiting);
            let left = Left {
                shared: &self.shared,
                asker,
                number,
            };
            (left, permit)
        };
        let permit = permit.await;
        drop(left);
        match permit {
            Ok(permit) => permit,
            // What is queued is only taken out with a permit, or by `left`.
            Err(_) => std::future::pending().await,
        }
    }

    fn busy(&self) -> WireError {
        let queue = self.admitted_max.div_ceil(self.running_max);
        busy(self.pace.mean() * queue as u32)
    }
}

fn cores() -> usize {
    // A simulation runs alike on every machine.
    #[cfg(feature = "test-utils")]
    if crate::platform::inline::is_on() {
        return 2;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Takes work out of the queue when its caller no longer waits.
struct Left<'a> {
    shared: &'a Mutex<Shared>,
    asker: &'a Asker,
    number: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let is_it = |waiting: &Waiting| waiting.number == self.number;
        // It is not there if it has got its permit.
        lock(self.shared).waiting.handle_left(self.asker, is_it);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut shared = lock(&self.0);
            let next = shared.waiting.poll_next();
            shared.free += usize::from(next.is_none());
            next
        };
        if let Some(next) = next {
            // If the caller no longer waits, the permit comes back, is dropped, and so is passed on.
            let _ = next.permit.send(Permit(self.0.clone()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut admitted = lock(&self.admitted);
        admitted.all -= 1;
        if let Some(own) = admitted.by.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                admitted.by.remove(&self.network);
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use eidetica_proto::ErrorCode;

    use super::*;

    fn asker(network: &str) -> Asker {
        Asker {
            network: network.into(),
            key: None,
        }
    }

    /// Work that waits until it is let go.
    #[derive(Default)]
    struct Gate {
        begun: Arc<AtomicUsize>,
        open: Arc<(Mutex<usize>, Condvar)>,
    }

    impl Gate {
        fn work(&self) -> impl FnOnce() + Send + use<> + 'static {
            let (begun, open) = (self.begun.clone(), self.open.clone());
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let (left, opened) = &*open;
                let left = left.lock().unwrap();
                *opened.wait_while(left, |left| *left == 0).unwrap() -= 1;
            }
        }

        /// Lets so much work go.
        fn let_go(&self, count: usize) {
            *self.open.0.lock().unwrap() += count;
            self.open.1.notify_all();
        }

        async fn until_begun(&self, count: usize) {
            while self.begun.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Callers that come and go at once, as resets of streams do.
    #[tokio::test]
    async fn work_of_callers_that_are_gone_is_bounded() {
        let (limit, gate) = (WorkLimit::questions(), Gate::default());
        let (flood, honest) = (asker("flood"), asker("honest"));
        let mut first: Vec<_> = (0..QUESTIONS_MAX)
            .map(|_| Box::pin(limit.run(&flood, gate.work())))
            .collect();
        for run in &mut first {
            assert!(futures::poll!(run).is_pending());
        }
        gate.until_begun(QUESTIONS_MAX).await;
        drop(first);
        for _ in 0..1_000 {
            let mut run = Box::pin(limit.run(&flood, gate.work()));
            assert!(
                futures::poll!(&mut run).is_pending(),
                "there is room in the queue"
            );
        }
        // What began holds its place although no caller waits for it; nothing else began.
        assert_eq!(lock(&limit.admitted).all, QUESTIONS_MAX);
        let mut honest = Box::pin(limit.run(&honest, || 7));
        assert!(futures::poll!(&mut honest).is_pending());
        gate.let_go(1);
        assert_eq!(honest.await.expect("it was queued"), 7);
        gate.let_go(1);
        while lock(&limit.admitted).all > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.begun.load(Ordering::SeqCst), QUESTIONS_MAX);
    }

    #[tokio::test]
    async fn one_network_leaves_room_for_others() {
        let (limit, gate) = (WorkLimit::joins(), Gate::default());
        let (flood, other) = (asker("flood"), asker("other"));
        let mut queued: Vec<_> = (0..FEW_BY_ONE_MAX)
            .map(|_| Box::pin(limit.run(&flood, gate.work())))
            .collect();
        for run in &mut queued {
            assert!(futures::poll!(run).is_pending());
        }
        let refused = limit.run(&flood, || ()).await.expect_err("it has enough");
        assert_eq!(refused.code, ErrorCode::Busy);
        let mut other = Box::pin(limit.run(&other, || ()));
        assert!(futures::poll!(&mut other).is_pending(), "it is queued");
        gate.until_begun(1).await;
        assert_eq!(gate.begun.load(Ordering::SeqCst), 1, "one by one");
        gate.let_go(FEW_BY_ONE_MAX);
        let (_, other) = futures::join!(futures::future::join_all(queued), other);
        other.expect("it was queued");
        assert!(lock(&limit.admitted).by.is_empty());
    }

    #[tokio::test]
    async fn all_networks_together_are_limited() {
        let (limit, gate) = (WorkLimit::joins(), Gate::default());
        let sources: Vec<Asker> = (0..FEW_ADMITTED_MAX)
            .map(|n| asker(&n.to_string()))
            .collect();
        let mut queued: Vec<_> = sources
            .iter()
            .map(|source| Box::pin(limit.run(source, gate.work())))
            .collect();
        for run in &mut queued {
            assert!(futures::poll!(run).is_pending());
        }
        let refused = limit
            .run(&asker("one more"), || ())
            .await
            .expect_err("it is full");
        assert_eq!(refused.code, ErrorCode::Busy);
        assert_eq!(refused.retry_after_ms, Some(100 * FEW_ADMITTED_MAX as u32));
        gate.let_go(FEW_ADMITTED_MAX);
        futures::future::join_all(queued).await;
    }

    /// However much one network has queued, another waits for one piece of its work at most.
    #[tokio::test]
    async fn networks_take_turns() {
        let (limit, gate) = (WorkLimit::joins(), Gate::default());
        let (flood, honest) = (asker("flood"), asker("honest"));
        let mut queued: Vec<_> = (0..FEW_BY_ONE_MAX)
            .map(|_| Box::pin(limit.run(&flood, gate.work())))
            .collect();
        for run in &mut queued {
            assert!(futures::poll!(run).is_pending());
        }
        gate.until_begun(1).await;
        let begun = gate.begun.clone();
        let honest = limit.run(&honest, move || begun.load(Ordering::SeqCst));
        let let_go = async {
            gate.let_go(FEW_BY_ONE_MAX);
            futures::future::join_all(queued).await;
        };
        let (before, ()) = futures::join!(honest, let_go);
        assert!(
            before.expect("it was queued") <= 2,
            "one ran, one had its turn"
        );
    }
}
