//! How far something has come: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::control::Answer;
use crate::output::out::note;
use crate::output::remote::Remote;

/// How long to wait between two lines where there is no terminal: often enough to see that it goes
/// on, seldom enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// How long to wait between two messages to another process, which shows them: as smooth as a bar
/// need be.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(100);

/// A bar has room for a number of this size before its parts begin to jump.
const BAR: &str = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec}, {eta} left";

/// The bar while nobody knows how much there is.
const SPINNER: &str = "{msg} {spinner} {human_pos} {per_sec}";

/// Shows on stderr how far something has come. What is dropped disappears from the terminal.
pub(crate) struct Progress {
    what: String,
    shown: Shown,
    begun: Instant,
    last_line: Instant,
    total: Option<u64>,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Remote(Arc<Remote>),
}

impl Progress {
    /// Begins to show `what` is being done.
    pub(crate) fn new(what: &'static str) -> Self {
        let shown = match io::stderr().is_terminal() {
            true => Shown::Bar(
                ProgressBar::no_length()
                    .with_message(what)
                    .with_style(style(SPINNER)),
            ),
            false => Shown::Lines,
        };
        Self::with(shown, what)
    }

    /// Begins to have it shown by another process.
    pub(crate) fn remote(remote: Arc<Remote>, what: &'static str) -> Self {
        Self::with(Shown::Remote(remote), what)
    }

    fn with(shown: Shown, what: &str) -> Self {
        Self {
            what: what.to_owned(),
            shown,
            begun: Instant::now(),
            last_line: Instant::now(),
            total: None,
        }
    }

    /// Shows that something is being done with so many, and that nobody knows how far it is.
    pub(crate) fn say(&mut self, what: &'static str, n: u64) {
        self.show(what.to_owned(), n, None);
    }

    /// Shows how far something is that may be something else than before.
    pub(crate) fn show(&mut self, what: String, done: u64, total: Option<u64>) {
        if self.what != what {
            if let Shown::Bar(bar) = &self.shown {
                bar.set_message(what.clone());
            }
            self.what = what;
        }
        self.set(done, total);
    }

    /// Shows that `done` is done, of `total` if that is known.
    pub(crate) fn set(&mut self, done: u64, total: Option<u64>) {
        let bar = match &self.shown {
            Shown::Bar(bar) => bar,
            Shown::Lines => {
                if self.last_line.elapsed() >= LINE_INTERVAL {
                    self.last_line = Instant::now();
                    note(line(&self.what, done, total, self.begun.elapsed()));
                }
                return;
            }
            Shown::Remote(remote) => {
                if self.last_line.elapsed() >= MESSAGE_INTERVAL {
                    self.last_line = Instant::now();
                    let what = self.what.clone();
                    let _nobody_reads = remote.tell(&Answer::Progress { what, done, total });
                }
                return;
            }
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
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines => {}
            Shown::Remote(remote) => {
                let _nobody_reads = remote.tell(&Answer::ProgressEnd);
            }
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
