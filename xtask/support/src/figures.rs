//! Means, medians and quantiles, and the machine that they were measured on.

use std::thread::available_parallelism;
use std::time::Duration;

/// Returns the mean of a figure; 0 without any.
pub fn mean<T>(of: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    of.iter().map(figure).sum::<f64>() / of.len().max(1) as f64
}

/// Returns the largest figure; the default without any.
pub fn max<T, F: Ord + Default>(of: &[T], figure: impl Fn(&T) -> F) -> F {
    of.iter().map(figure).max().unwrap_or_default()
}

/// Returns the value that `share` of all values do not exceed (0.5 for the median).
pub fn quantile(of: &[Duration], share: f64) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

/// Returns a duration in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns one line that names the processor, its cores, the system, and the date if one is given.
pub fn machine(date: Option<&str>) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    let date = date.map(|date| format!(", {date}")).unwrap_or_default();
    format!("{model}, {cores} cores, {}{date}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
        assert_eq!(mean(&[1, 2, 6], |n| f64::from(*n)), 3.0);
        assert_eq!(mean::<u32>(&[], |n| f64::from(*n)), 0.0);
    }
}
