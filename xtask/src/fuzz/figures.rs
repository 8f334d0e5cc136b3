//! Reads what libFuzzer writes.

/// How a run of one target went.
#[derive(Debug, Default, PartialEq)]
pub struct Figures {
    /// How many inputs were tried.
    pub executions: u64,
    pub executions_per_second: u64,
    /// How many inputs it takes to reach all that was reached.
    pub corpus: u64,
    /// Parts of the program that were reached.
    pub coverage: u64,
    /// The same, where being reached twice or many times counts as another.
    pub features: u64,
    /// The file with the input that broke a promise.
    pub finding: Option<String>,
    /// What the program said about that.
    pub complaint: Vec<String>,
}

/// How many lines of a complaint are shown.
const COMPLAINT_LINES_MAX: usize = 6;

/// How many characters of each: an assertion can show a whole batch.
const COMPLAINT_LINE_CHARS_MAX: usize = 160;

/// Reads the log of a run.
pub fn read(log: &str) -> Figures {
    let last_number = |name: &str| {
        let numbers = log.lines().rev().filter_map(|line| {
            let behind = line.split_once(name)?.1.trim_start();
            let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        numbers.into_iter().next().unwrap_or(0)
    };
    let finding = log
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, file)| file.to_owned());
    let panicked = log.lines().skip_while(|line| !line.contains("panicked at"));
    let ends = ["note:", "stack backtrace:", "=="];
    let complaint = panicked
        .take_while(|line| !ends.iter().any(|end| line.starts_with(end)))
        .filter(|line| !line.is_empty())
        .take(COMPLAINT_LINES_MAX);
    Figures {
        executions: last_number("stat::number_of_executed_units:"),
        executions_per_second: last_number("stat::average_exec_per_sec:"),
        corpus: last_number(" corp: "),
        coverage: last_number(" cov: "),
        features: last_number(" ft: "),
        finding,
        complaint: complaint.map(shortened).collect(),
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(COMPLAINT_LINE_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "\
INFO: seed corpus: files: 33 min: 1b max: 700b total: 7060b rss: 27Mb
#34\tINITED cov: 140 ft: 300 corp: 20/3000b exec/s: 0 rss: 28Mb
#1414165\tDONE   cov: 1004 ft: 2373 corp: 370/185Kb lim: 65536 exec/s: 154590 rss: 29Mb
Done 1414165 runs in 11 second(s)
stat::number_of_executed_units: 1414165
stat::average_exec_per_sec:     128560
";

    const BROKEN: &str = "\
#34\tINITED cov: 140 ft: 300 corp: 20/3000b exec/s: 0 rss: 28Mb

thread '<unnamed>' (7) panicked at eidetica-proto/src/x.rs:3:1:
assertion failed: a forgery
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
==7== ERROR: libFuzzer: deadly signal
artifact_prefix='a/'; Test unit written to a/crash-0f
stat::number_of_executed_units: 99
stat::average_exec_per_sec:     9
";

    #[test]
    fn the_last_figures_count() {
        let expected = Figures {
            executions: 1_414_165,
            executions_per_second: 128_560,
            corpus: 370,
            coverage: 1_004,
            features: 2_373,
            ..Figures::default()
        };
        assert_eq!(read(CLEAN), expected);
    }

    #[test]
    fn a_finding_is_told_with_its_complaint() {
        let figures = read(BROKEN);
        assert_eq!((figures.executions, figures.coverage), (99, 140));
        assert_eq!(figures.finding.as_deref(), Some("a/crash-0f"));
        let complaint = [
            "thread '<unnamed>' (7) panicked at eidetica-proto/src/x.rs:3:1:",
            "assertion failed: a forgery",
        ];
        assert_eq!(figures.complaint, complaint);
        let long = "é".repeat(COMPLAINT_LINE_CHARS_MAX + 1);
        assert_eq!(
            shortened(&long).chars().count(),
            COMPLAINT_LINE_CHARS_MAX + 2
        );
    }
}
