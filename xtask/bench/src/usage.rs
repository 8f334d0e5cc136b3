//! What this process takes of the machine.

use std::time::Duration;

use crate::clock;

/// What this process had used at some moment.
pub struct Usage {
    cpu: Duration,
    memory_bytes: Option<u64>,
}

impl Usage {
    /// Begins to count.
    pub fn begin() -> Self {
        // Makes Linux forget the peak until here. If it does not, the peak is told too high.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            cpu: clock::process_cpu(),
            memory_bytes: status("VmRSS:"),
        }
    }

    /// Returns the time on processors since.
    pub fn cpu(&self) -> Duration {
        clock::process_cpu() - self.cpu
    }

    /// Returns the memory that the process had at the beginning, if the system tells.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// Returns the most memory at any moment since, over what it had, if the system tells.
    pub fn peak_bytes(&self) -> Option<u64> {
        let peak = status("VmHWM:").zip(self.memory_bytes);
        peak.map(|(peak, idle)| peak.saturating_sub(idle))
    }
}

/// Reads a size from what Linux tells about this process.
fn status(key: &str) -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
