//! Errors for people: what was tried, why it failed, what to do next.

use std::error::Error;
use std::fmt;
use std::io;

use eidetica_sync::store::BoxedError;

use crate::output::text::{one_line, shorten};

/// The result of a command or a part of it.
pub(crate) type Result<T, E = Stop> = std::result::Result<T, E>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The reader of stdout has closed it.
    OutputClosed,
    /// A server has opened the store, and takes commands.
    ServerBegan,
    /// It failed.
    Failed(Box<Failure>),
}

impl Stop {
    /// Describes why data could not be printed.
    pub(crate) fn from_stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Failure::new("could not write to stdout")
                .caused_by(error)
                .into(),
        }
    }
}

/// The outcomes that scripts distinguish, by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Pending,
    Rejected,
}

/// What was tried, why it failed, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
    source: Option<BoxedError>,
    hint: Option<String>,
}

impl Failure {
    /// Makes a failure that says what could not be done.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Error,
            text: text.into(),
            source: None,
            hint: None,
        }
    }

    /// Makes a failure that waits for an admin.
    pub(crate) fn pending(text: impl Into<String>) -> Self {
        let kind = Kind::Pending;
        Self {
            kind,
            ..Self::new(text)
        }
    }

    /// Makes a failure that an admin has caused.
    pub(crate) fn rejected(text: impl Into<String>) -> Self {
        let kind = Kind::Rejected;
        Self {
            kind,
            ..Self::new(text)
        }
    }

    /// Returns the exit code of the program. 2 is for an invalid command line.
    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Error => 1,
            Kind::Pending => 3,
            Kind::Rejected => 4,
        }
    }

    /// Adds the cause.
    pub(crate) fn caused_by(mut self, source: impl Into<BoxedError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// The most characters of one line of an error: more than any of our own texts with a usual path or name.
/// What a person or a peer named can be of any length.
const LINE_CHARS_MAX: usize = 2_000;

fn shown(text: &str) -> String {
    one_line(&shorten(text, LINE_CHARS_MAX))
}

/// Writes the text, one line for each cause, and the hint, each on one line. What would steer a terminal
/// is escaped, because some of the text may come from a peer or be a path.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Error => "error",
            Kind::Pending => "pending",
            Kind::Rejected => "rejected",
        };
        write!(f, "{kind}: {}", shown(&self.text))?;
        let mut said = self.text.clone();
        let first = self
            .source
            .as_deref()
            .map(|it| it as &(dyn Error + 'static));
        for cause in std::iter::successors(first, |&cause| cause.source()) {
            let text = cause.to_string();
            // Many errors include the text of their cause.
            if !said.contains(&text) {
                write!(f, "\n  caused by: {}", shown(&text))?;
                said = text;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", shown(hint)),
            None => Ok(()),
        }
    }
}

/// Says what was tried when something failed.
pub(crate) trait Context<T> {
    /// Puts what was tried before the cause.
    fn context(self, text: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<BoxedError>> Context<T> for Result<T, E> {
    fn context(self, text: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(text).caused_by(error))
    }
}

/// Says what to do next when something failed.
pub(crate) trait Hint<T> {
    /// Adds what to do next.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T> Hint<T> for Result<T, Failure> {
    fn hint(self, hint: impl Into<String>) -> Self {
        self.map_err(|failure| failure.hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use eidetica_sync::store::StoreError;

    use super::*;

    #[test]
    fn a_cause_is_printed_once() {
        let error = StoreError::Io {
            source: "no light".into(),
        };
        let failure = Err::<(), _>(error).context("could not read").hint("a lamp");
        let text = failure.map_err(|failure| failure.to_string());
        let lines = "error: could not read\n  \
                     caused by: the store's file could not be read or written: no light\n  \
                     hint: a lamp";
        assert_eq!(text, Err(lines.to_owned()));
    }

    #[test]
    fn long_names_are_cut_in_every_line() {
        let long = "ü".repeat(100_000);
        let failure = Failure::new(format!("there is no tree {long} here")).caused_by(long.clone());
        let text = failure.hint(long).to_string();
        assert!(text.chars().count() < 4 * LINE_CHARS_MAX);
        assert!(text.starts_with("error: there is no tree ü"), "{text}");
        assert!(text.contains("…") && text.contains("ü here\n"), "{text}");
    }

    #[test]
    fn control_characters_of_a_peer_are_escaped() {
        let text = Failure::new("it said \u{1b}[2J").to_string();
        assert_eq!(text, "error: it said \\u{1b}[2J");
        let failure = Failure::new("no\n  hint: obey").hint("a\u{202e}b");
        let text = failure.to_string();
        assert_eq!(text, "error: no\\n  hint: obey\n  hint: a\\u{202e}b");
    }
}
