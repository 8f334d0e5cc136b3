//! The processor time that measurements read.

use std::time::Duration;

/// Returns the time that this thread has spent on a processor.
///
/// Unlike wall time, it does not count what other programs took. Where the system does not report it,
/// it is zero.
pub fn thread_cpu() -> Duration {
    cpu(false)
}

/// Returns the time that all threads of this program have spent on processors.
pub fn process_cpu() -> Duration {
    cpu(true)
}

#[cfg(unix)]
fn cpu(of_process: bool) -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(match of_process {
        true => ClockId::ProcessCPUTime,
        false => ClockId::ThreadCPUTime,
    });
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(unix))]
fn cpu(_: bool) -> Duration {
    Duration::ZERO
}

/// Returns the result of `work`, and the processor time that this thread took for it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_cpu();
    let result = work();
    (result, thread_cpu() - before)
}
