//! Progress: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::control::Answer;
use crate::output::out::note;
use crate::output::remote::Remote;

/// How long to wait between two lines without a terminal: often enough to see progress, seldom
/// enough for a log.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// How long to wait between two messages to a client: smooth enough for a bar.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(100);

/// The bar while the total is known.
const BAR: &str = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec}, {eta} left";

/// The bar while the total is unknown.
const SPINNER: &str = "{msg} {spinner} {human_pos} {per_sec}";

/// Shows progress on stderr until it is dropped.
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
    /// Starts to show the progress of `what`.
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

    /// Starts to show the progress of `what` on the client's terminal.
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

    /// Shows that `n` items are being processed, without a measure of progress.
    pub(crate) fn say(&mut self, what: &'static str, n: u64) {
        self.show(what.to_owned(), n, None);
    }

    /// Shows the progress of `what`, which may differ from before.
    pub(crate) fn show(&mut self, what: String, done: u64, total: Option<u64>) {
        if self.what != what {
            if let Shown::Bar(bar) = &self.shown {
                bar.set_message(what.clone());
            }
            self.what = what;
        }
        self.set(done, total);
    }

    /// Shows that `done` items are done, of `total` if that is known.
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
                    let _client_is_gone = remote.send(&Answer::Progress { what, done, total });
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
                let _client_is_gone = remote.send(&Answer::ProgressEnd);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The tests below parse every template.
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
    fn lines_show_what_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line("reading", 25, Some(100), second),
            "reading: 25 of 100 (25 %), 25/s, 3 s left"
        );
        assert_eq!(line("reading", 25, None, second), "reading: 25, 25/s");
        assert_eq!(line("reading", 0, Some(9), second), "reading: 0, 0/s");
    }

    #[test]
    fn templates_are_valid() {
        for template in [BAR, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
