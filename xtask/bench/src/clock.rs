//! The processor time that measurements read. Unlike wall time, it does not count what other programs
//! took.

use std::time::Duration;

/// Returns the time that all threads of this program have spent on processors; zero if the system
/// does not report it.
pub fn process_cpu() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    Duration::ZERO
}

/// Returns the result of `work`, and the processor time that this program took meanwhile.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = process_cpu();
    let result = work();
    (result, process_cpu() - before)
}
