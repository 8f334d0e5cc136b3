//! The only place that reads the wall clock, and its conversions.

#[cfg(feature = "test-utils")]
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The wall clock of a node: the system's, or another one in a test. Clones are the same clock.
#[derive(Clone, Default)]
pub(crate) struct WallClock {
    #[cfg(feature = "test-utils")]
    set: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl WallClock {
    /// Makes a clock of a test, which returns the milliseconds since 1970.
    #[cfg(feature = "test-utils")]
    pub(crate) fn from_fn(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            set: Some(Arc::new(now_ms)),
        }
    }

    /// Returns the milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        #[cfg(feature = "test-utils")]
        if let Some(set) = &self.set {
            return set();
        }
        system_ms()
    }
}

/// Returns the milliseconds since 1970 on the system's clock.
fn system_ms() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver reads the clock in this one place"
    )]
    let now = SystemTime::now();
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Notices that the process or the machine was suspended.
///
/// The monotonic clock runs on while a process is stopped, and stands still while the machine
/// sleeps, when the wall clock runs on. So it looks at both.
pub(crate) struct SuspendDetector {
    clock: WallClock,
    at: Instant,
    wall_ms: u64,
}

/// How much longer than expected a wait must take to count as a suspension, in milliseconds. A
/// loaded machine is late by less.
const SUSPENDED_AFTER_MS: u64 = 10_000;

impl SuspendDetector {
    /// Begins to watch the clocks.
    pub(crate) fn start(clock: WallClock) -> Self {
        Self {
            at: Instant::now(),
            wall_ms: clock.now_ms(),
            clock,
        }
    }

    /// Tells whether there was a suspension since the last call. Call it at least as often as every
    /// `every_ms`.
    pub(crate) fn was_suspended(&mut self, every_ms: u64) -> bool {
        let now = Self::start(self.clock.clone());
        let elapsed_ms = now.at.saturating_duration_since(self.at).as_millis() as u64;
        let wall_ms = now.wall_ms.saturating_sub(self.wall_ms);
        *self = now;
        elapsed_ms.max(wall_ms) > every_ms + SUSPENDED_AFTER_MS
    }
}
