//! The lock around a [`Quota`]: places and memory that connections share.

use std::sync::{Arc, Mutex, PoisonError};

use eidetica_proto::quota;
use tokio::sync::Notify;

/// An amount that the connections of a server share. A connection that loses its share is notified.
pub(crate) struct Quota(Mutex<quota::Quota<Arc<Notify>>>);

/// What one connection has of a [`Quota`]. Dropping it gives it back.
pub(crate) struct Share {
    quota: Arc<Quota>,
    share: quota::Share<Arc<Notify>>,
}

impl Quota {
    pub(crate) fn new(amount_max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(quota::Quota::new(amount_max))))
    }

    /// Makes a share of nothing. `lost` is notified when it is lost to others.
    pub(crate) fn share(self: &Arc<Self>, group: impl Into<Arc<str>>, lost: Arc<Notify>) -> Share {
        Share {
            quota: Arc::clone(self),
            share: quota::Share::new(group, lost),
        }
    }

    /// Returns whether more than half of the amount is held.
    pub(crate) fn is_scarce(&self) -> bool {
        self.lock().is_scarce()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, quota::Quota<Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Sets the amount, which counts as progress.
    pub(crate) fn set(&mut self, amount: usize) {
        let lost = self.quota.lock().handle_set(&mut self.share, amount);
        lost.iter().for_each(|holder| holder.notify_one());
    }

    /// Returns whether there is room for more. See [`quota::Quota::has_room`].
    pub(crate) fn has_room(&self) -> bool {
        self.quota.lock().has_room(&self.share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
