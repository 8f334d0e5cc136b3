//! What the operating system gives: threads that may block, the time, and randomness.

pub(crate) mod blocking;
pub(crate) mod clock;
pub(crate) mod random;
