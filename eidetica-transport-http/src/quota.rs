//! The lock and the wakers around a [`Quota`]: places and memory that connections share.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use eidetica_proto::quota;
use tokio::sync::Notify;

use crate::sync::lock;

/// An amount that the connections of a server share. A connection that loses its share is notified.
pub(crate) struct Quota(Mutex<State>);

struct State {
    quota: quota::Quota<Arc<Notify>>,
    /// Those that wait until what was lost is given back.
    waiting: Vec<Waker>,
}

/// What one connection has of a [`Quota`]. Dropping it gives it back.
pub(crate) struct Share {
    quota: Arc<Quota>,
    share: quota::Share<Arc<Notify>>,
}

impl Quota {
    pub(crate) fn new(amount_max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            quota: quota::Quota::new(amount_max),
            waiting: Vec::new(),
        })))
    }

    /// Makes a share of nothing. `lost` is notified when it is lost to others.
    pub(crate) fn share(self: &Arc<Self>, group: impl Into<Arc<str>>, lost: Arc<Notify>) -> Share {
        Share {
            quota: Arc::clone(self),
            share: quota::Share::new(group, lost),
        }
    }
}

impl Quota {
    /// Has the holder give up that is next to lose. Returns whether there is one.
    pub(crate) fn give_up_one(&self) -> bool {
        let lost = lock(&self.0).quota.handle_shortage();
        lost.inspect(|holder| holder.notify_one()).is_some()
    }
}

impl Share {
    /// Sets the amount, which counts as progress.
    pub(crate) fn set(&mut self, amount: usize) {
        let mut wakers = Vec::new();
        let mut state = lock(&self.quota.0);
        let lost = state.quota.handle_set(&mut self.share, amount);
        if state.quota.has_room(&self.share) {
            wakers.append(&mut state.waiting);
        }
        drop(state);
        lost.iter().for_each(|holder| holder.notify_one());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until there is room. See [`quota::Quota::has_room`].
    pub(crate) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.quota.0);
        if state.quota.has_room(&self.share) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|it| it.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn waiters_wake_once_when_the_last_lost_share_is_given_back() {
        let quota = Quota::new(4);
        let notices = [(); 3].map(|()| Arc::<Notify>::default());
        let [mut a, mut b, mut c] = notices.clone().map(|lost| quota.share("", lost));
        a.set(2);
        b.set(2);
        c.set(3);
        for lost in &notices[..2] {
            lost.notified().await;
        }
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        for _ in 0..2 {
            assert!(c.poll_room(&mut context).is_pending());
        }
        drop(a);
        assert!(c.poll_room(&mut context).is_pending(), "b has its share");
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(b);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "once for all polls");
        assert!(c.poll_room(&mut context).is_ready());
    }
}
