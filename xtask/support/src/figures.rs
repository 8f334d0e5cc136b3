//! Means and quantiles, and the machine that they were measured on.

use std::thread::available_parallelism;
use std::time::Duration;

/// Returns the mean of a figure; 0 without any.
pub fn mean<T>(of: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    of.iter().map(figure).sum::<f64>() / of.len().max(1) as f64
}

/// Returns the value, in milliseconds, that `share` of all values do not exceed (0.5 for the median).
pub fn quantile_ms(of: &[Duration], share: f64) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    milliseconds(sorted.get(at).copied().unwrap_or_default())
}

/// Returns a duration in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns one line that names the processor, its cores and the system.
pub fn machine() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = info.lines();
    let model = lines.find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile_ms(&times, 0.5), 51.0);
        assert_eq!(quantile_ms(&times, 0.99), 100.0);
        assert_eq!(quantile_ms(&[], 0.5), 0.0);
        assert_eq!(mean(&[1, 2, 6], |n| f64::from(*n)), 3.0);
    }
}
