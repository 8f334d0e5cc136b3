//! What the operating system provides: threads that may block, the wall clock, and randomness.
//! Nothing else in this crate asks for them.

pub(crate) mod blocking;
pub(crate) mod clock;
#[cfg(feature = "test-utils")]
pub(crate) mod inline;
pub(crate) mod random;
