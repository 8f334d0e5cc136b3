//! How far something has come: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::output::note;

/// How long to wait between two lines where there is no terminal: often enough to see that it goes
/// on, seldom enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// A bar has room for a number of this size before its parts begin to jump.
const BAR: &str = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec}, {eta} left";

/// The bar while nobody knows how much there is.
const SPINNER: &str = "{msg} {spinner} {human_pos} {per_sec}";

/// Shows on stderr how far something has come. What is dropped disappears from the terminal.
pub(crate) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Instant,
    total: Option<u64>,
}

impl Progress {
    /// Begins to show `what` is being done.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            ProgressBar::no_length()
                .with_message(what)
                .with_style(style(SPINNER))
        });
        Self {
            what,
            bar,
            begun: Instant::now(),
            last_line: Instant::now(),
            total: None,
        }
    }

    /// Shows that something is being done with so many, and that nobody knows how far it is.
    pub(crate) fn say(&mut self, what: &'static str, n: u64) {
        self.what = what;
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
        self.set(n, None);
    }

    /// Shows that `done` is done, of `total` if that is known.
    pub(crate) fn set(&mut self, done: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else {
            if self.last_line.elapsed() >= LINE_INTERVAL {
                self.last_line = Instant::now();
                note(line(self.what, done, total, self.begun.elapsed()));
            }
            return;
        };
        if self.total != total {
            self.total = total;
            match total {
                Some(total) => {
                    bar.set_style(style(BAR));
                    bar.set_length(total);
                }
                None => bar.set_style(style(SPINNER)),
            }
        }
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read would show in the test below.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    match total {
        Some(total) if total > 0 && done > 0 => {
            let percent = done.saturating_mul(100) / total;
            let left = total.saturating_sub(done) as f64 / rate;
            format!("{what}: {done} of {total} ({percent} %), {rate:.0}/s, {left:.0} s left")
        }
        _ => format!("{what}: {done}, {rate:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_much_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line("reading", 25, Some(100), second),
            "reading: 25 of 100 (25 %), 25/s, 3 s left"
        );
        assert_eq!(line("reading", 25, None, second), "reading: 25, 25/s");
        assert_eq!(line("reading", 0, Some(9), second), "reading: 0, 0/s");
    }

    #[test]
    fn the_templates_can_be_read() {
        for template in [BAR, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
