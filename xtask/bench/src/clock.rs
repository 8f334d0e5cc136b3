//! The clocks that measurements read.

use std::time::{Duration, Instant};

/// Returns the moment.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time; nothing that is measured decides by it"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the time that this thread has spent on a processor.
///
/// Unlike the time on the wall it does not count what other programs took. Where the system does not
/// tell, the time on the wall stands in.
pub fn thread_cpu() -> Duration {
    cpu(Cpu::Thread)
}

/// Returns the time that all threads of this program have spent on processors.
pub fn process_cpu() -> Duration {
    cpu(Cpu::Process)
}

enum Cpu {
    Thread,
    Process,
}

#[cfg(unix)]
fn cpu(which: Cpu) -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(match which {
        Cpu::Thread => ClockId::ThreadCPUTime,
        Cpu::Process => ClockId::ProcessCPUTime,
    });
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

#[cfg(not(unix))]
fn cpu(_: Cpu) -> Duration {
    use std::sync::OnceLock;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(now).elapsed()
}

/// Returns what `work` gives, and how long this thread was at it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_cpu();
    let result = work();
    (result, thread_cpu() - before)
}
