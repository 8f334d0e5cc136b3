//! How many tests a test run says it ran.

use std::fmt;
use std::ops::AddAssign;

/// Tests passed, failed and skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    /// Ignored or filtered out.
    pub skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Returns the sum of every summary line in the output of `cargo test` or `cargo nextest run`, or
/// `None` if there is no such line: then it is unknown whether a test ran.
pub fn count(output: &str) -> Option<Count> {
    let mut total = None;
    for found in output.lines().filter_map(summary) {
        *total.get_or_insert_with(Count::default) += found;
    }
    total
}

/// Reads one summary line. The two harnesses write:
///
/// ```text
/// test result: ok. 41 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s
///      Summary [   0.126s] 41 tests run: 40 passed (1 slow), 1 timed out, 2 skipped
/// ```
fn summary(line: &str) -> Option<Count> {
    let parts = if let Some(rest) = line.strip_prefix("test result: ") {
        rest.split_once(". ")?.1
    } else {
        let rest = line
            .trim_start()
            .strip_prefix("Summary [")?
            .split_once(']')?
            .1;
        let (run, parts) = rest.split_once(" run: ")?;
        if !run.ends_with(" test") && !run.ends_with(" tests") {
            return None;
        }
        parts
    };
    let mut count = Count::default();
    for part in outside_parentheses(parts).split([',', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match kind {
            "passed" => count.passed += number,
            "skipped" | "ignored" | "filtered" => count.skipped += number,
            "measured" => {}
            // "failed", and nextest's "timed out", "exec failed" and "leaky failed".
            _ => count.failed += number,
        }
    }
    Some(count)
}

/// Removes what nextest puts in parentheses: "(1 slow, 1 flaky)" are tests already counted.
fn outside_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_counts(output: &str, passed: u64, failed: u64, skipped: u64) {
        assert_eq!(
            count(output),
            Some(Count {
                passed,
                failed,
                skipped
            }),
            "{output}"
        );
    }

    #[test]
    fn cargo_test_lines_are_added_up() {
        let output = "\
running 2 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests eidetica_dag
test result: FAILED. 3 passed; 1 failed; 0 ignored; 5 measured; 4 filtered out; finished in 0.50s
";
        assert_counts(output, 5, 1, 5);
    }

    #[test]
    fn nextest_lines_are_read_in_all_their_shapes() {
        for (output, passed, failed, skipped) in [
            (
                "     Summary [   0.126s] 41 tests run: 41 passed, 0 skipped",
                41,
                0,
                0,
            ),
            (
                "Summary [ 1.0s] 1 test run: 1 passed (1 slow), 2 skipped",
                1,
                0,
                2,
            ),
            (
                "Summary [  9.0s] 9 tests run: 5 passed (1 slow, 1 flaky), 1 failed, \
                 2 timed out, 1 exec failed, 3 skipped",
                5,
                4,
                3,
            ),
            // A run that was cut short says how far it came.
            (
                "Summary [ 1.0s] 3/8 tests run: 2 passed, 1 failed, 0 skipped",
                2,
                1,
                0,
            ),
            (
                "     Summary [   0.000s] 0 tests run: 0 passed, 0 skipped",
                0,
                0,
                0,
            ),
        ] {
            assert_counts(output, passed, failed, skipped);
        }
    }

    #[test]
    fn output_without_a_summary_counts_as_unknown() {
        assert_eq!(count("   Compiling eidetica-dag\n    Finished\n"), None);
        assert_eq!(count("Summary [of the meeting] no one came"), None);
    }

    #[test]
    fn counts_are_added_and_printed() {
        let mut total = Count {
            passed: 3,
            ..Count::default()
        };
        assert_eq!(total.to_string(), "3 passed, 0 failed");
        total += Count {
            passed: 1,
            failed: 2,
            skipped: 4,
        };
        assert_eq!(total.to_string(), "4 passed, 2 failed, 4 skipped");
    }
}
