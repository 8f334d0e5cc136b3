//! The processor time that measurements read. Unlike wall time, it does not count what other programs
//! took.

use std::time::Duration;

/// Returns the time that this thread has spent on a processor; zero if the system does not report it.
pub fn thread_cpu() -> Duration {
    cpu(false)
}

/// Returns the time that all threads of this program have spent on processors; zero if the system
/// does not report it.
pub fn process_cpu() -> Duration {
    cpu(true)
}

#[cfg(unix)]
fn cpu(of_process: bool) -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let id = if of_process {
        ClockId::ProcessCPUTime
    } else {
        ClockId::ThreadCPUTime
    };
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn cpu(_: bool) -> Duration {
    Duration::ZERO
}
