//! Where a command reads from and prints to: its own process, or the client of a server.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use crate::control::Answer;
use crate::output::failure::{Context, Failure, Hint, Result, Stop};
use crate::output::out::{self, Out};
use crate::output::progress::Progress;
use crate::output::remote::{Remote, RemoteOut};
use crate::signals::Interruption;

/// Where a command reads from and prints to. Clones share the streams.
#[derive(Clone)]
pub(crate) enum Console {
    /// The streams of this process.
    Own,
    /// The streams of a client that has handed its command to the server.
    Remote(Arc<Remote>),
}

impl Console {
    /// Begins to print data.
    pub(crate) fn out(&self) -> Out {
        match self {
            Self::Own => Out::new(io::stdout().lock()),
            Self::Remote(remote) => Out::new(RemoteOut(remote.clone())),
        }
    }

    /// Prints a line to stderr. Errors are ignored: there is no other place to report them.
    pub(crate) fn note(&self, text: impl Display) {
        match self {
            Self::Own => out::note(text),
            Self::Remote(remote) => {
                let _client_is_gone = remote.send(&Answer::Note(text.to_string()));
            }
        }
    }

    /// Begins to show how far `what` has come.
    pub(crate) fn progress(&self, what: &'static str) -> Progress {
        match self {
            Self::Own => Progress::new(what),
            Self::Remote(remote) => Progress::remote(remote.clone(), what),
        }
    }

    /// Reads typed or piped input.
    pub(crate) fn stdin(&self) -> Box<dyn Read> {
        match self {
            Self::Own => Box::new(io::stdin().lock()),
            Self::Remote(remote) => Box::new(remote.input()),
        }
    }

    /// Tells whether stdin is a terminal. A client announces that itself.
    pub(crate) fn reads_terminal(&self) -> bool {
        matches!(self, Self::Own) && io::stdin().is_terminal()
    }

    /// Reads a file of the command line. A client sends its content along.
    pub(crate) fn file(&self, path: &Path) -> Result<Box<dyn Read>> {
        Ok(match self {
            Self::Own => Box::new(open(path)?),
            Self::Remote(remote) => Box::new(remote.input()),
        })
    }

    /// Reads a variable of the environment. A client sends its value along.
    pub(crate) fn variable(&self, name: &str) -> Box<dyn Read> {
        match self {
            Self::Own => variable(name),
            Self::Remote(remote) => Box::new(remote.input()),
        }
    }

    /// Reports why a command failed, if it did, and returns the exit code.
    pub(crate) fn conclude(&self, result: Result<()>) -> u8 {
        match result {
            // The reader of our output has seen enough.
            Ok(()) | Err(Stop::OutputClosed) => 0,
            // The server has ended again since.
            Err(Stop::ServerBegan) => {
                let failure = Failure::new("the server on this store has ended");
                self.note(failure.hint("run the command again"));
                1
            }
            Err(Stop::Failed(failure)) => {
                self.note(&failure);
                failure.code()
            }
        }
    }

    /// Starts to listen for an interruption of the command.
    pub(crate) fn interruption(&self) -> Result<Interruption> {
        match self {
            Self::Own => Interruption::listen(),
            Self::Remote(remote) => Ok(remote.interruption()),
        }
    }
}

/// Reads a variable of the environment, which is empty if it is not set.
pub(crate) fn variable(name: &str) -> Box<dyn Read + Send> {
    let value = std::env::var_os(name).unwrap_or_default();
    Box::new(io::Cursor::new(value.into_encoded_bytes()))
}

/// Opens a file that the command line names.
pub(crate) fn open(path: &Path) -> Result<File> {
    let file = File::open(path);
    let file = file.context(format!("could not open {}", path.display()));
    Ok(file.hint("check the path")?)
}
