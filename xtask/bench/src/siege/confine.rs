//! Limits the memory of a process by a control group of Linux, version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};

use xtask_support::failed;

/// Where control groups are, and the names of the files that limit memory and count kills.
const KINDS: [(&str, &str, &str); 2] = [
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.oom_control",
    ),
    ("/sys/fs/cgroup", "memory.max", "memory.events"),
];

/// A control group of one process, which is removed with this value.
pub struct Confined(PathBuf);

impl Confined {
    /// Moves a process into a new group.
    ///
    /// # Errors
    /// If this system has no control groups, or this user may not make one.
    pub fn new(pid: u32, bytes_max: u64) -> Result<Self, String> {
        let is_there = |(at, limit, _): &&(&str, &str, &str)| {
            let at = Path::new(at);
            at.join(limit).exists() || at.join("cgroup.controllers").exists()
        };
        let (at, limit, _) = KINDS
            .iter()
            .find(is_there)
            .ok_or("this system has no control groups for memory")?;
        let group = Path::new(at).join(format!("eidetica-siege-{pid}"));
        fs::create_dir(&group).map_err(failed)?;
        let confined = Self(group);
        let write =
            |file: &str, text: String| fs::write(confined.0.join(file), text).map_err(failed);
        write(limit, bytes_max.to_string())?;
        write("cgroup.procs", pid.to_string())?;
        Ok(confined)
    }

    /// Returns how often the limit was reached so that a process had to be killed.
    pub fn kills(&self) -> u64 {
        let counted = KINDS.iter().find_map(|(_, _, file)| {
            let text = fs::read_to_string(self.0.join(file)).ok()?;
            let line = text.lines().find(|line| line.starts_with("oom_kill "))?;
            line.split(' ').nth(1)?.parse().ok()
        });
        counted.unwrap_or_default()
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // The process may take a moment to leave. An empty group that stays does no harm.
        let _ = fs::remove_dir(&self.0);
    }
}
