//! Blocking work without threads, for simulations.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

type Delays = Box<dyn FnMut() -> Duration>;

thread_local! {
    static DELAYS: RefCell<Option<Delays>> = const { RefCell::new(None) };
}

/// While this value lives, nodes on this thread use no other: what blocks runs in tasks of the runtime,
/// each after a delay.
///
/// In a current-thread runtime whose clock is paused, a whole network of nodes then runs in the same order
/// whenever its seeds are the same.
#[derive(Debug)]
pub struct InlineBlocking {
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl InlineBlocking {
    /// Begins, with a source of the delays.
    pub fn begin(delays: impl FnMut() -> Duration + 'static) -> Self {
        DELAYS.set(Some(Box::new(delays)));
        Self {
            _not_send: PhantomData,
        }
    }
}

impl Drop for InlineBlocking {
    fn drop(&mut self) {
        DELAYS.set(None);
    }
}

/// Tells whether blocking work runs in tasks on this thread.
pub(crate) fn is_on() -> bool {
    DELAYS.with_borrow(Option::is_some)
}

/// Returns how long the next blocking work waits, if it is to run in a task.
pub(crate) fn delay() -> Option<Duration> {
    DELAYS.with_borrow_mut(|delays| delays.as_mut().map(|next| next()))
}
