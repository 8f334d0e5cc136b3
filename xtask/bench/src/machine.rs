//! What figures were measured on. Without it they mean nothing.

use std::thread::available_parallelism;

/// Returns a line that names the processor, its cores, the system, and the date if there is one.
pub fn describe(date: Option<&str>) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let model = processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let system = std::env::consts::OS;
    let date = date.map(|date| format!(", {date}")).unwrap_or_default();
    format!("{model}, {cores} cores, {system}{date}")
}

/// Linux tells the processor's name; elsewhere the architecture stands in for it.
fn processor() -> Option<String> {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = told.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_stands_at_the_end_if_it_is_given() {
        assert!(describe(Some("a monday")).ends_with(", a monday"));
        assert!(describe(None).ends_with(std::env::consts::OS));
    }
}
