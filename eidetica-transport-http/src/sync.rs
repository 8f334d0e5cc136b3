//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. No code of this crate panics while it holds one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
