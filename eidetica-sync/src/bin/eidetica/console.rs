//! Whoever started a command: what it reads, and what it is told.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::control::Answer;
use crate::failure::{Context, Hint, Result};
use crate::output::{self, Out};
use crate::progress::Progress;
use crate::signals::Interruption;

/// Where a command reads from and prints to. Clones are the same.
#[derive(Clone)]
pub(crate) enum Console {
    /// The streams of this process.
    Own,
    /// Those of a process that has given its command to the server.
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

    /// Prints a line that is no data. If nobody can be told, nobody is.
    pub(crate) fn note(&self, text: impl Display) {
        match self {
            Self::Own => output::note(text),
            Self::Remote(remote) => {
                let _nobody_reads = remote.tell(&Answer::Note(text.to_string()));
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

    /// Reads what is typed or piped in.
    pub(crate) fn stdin(&self) -> Box<dyn Read> {
        match self {
            Self::Own => Box::new(io::stdin().lock()),
            Self::Remote(remote) => Box::new(remote.input()),
        }
    }

    /// Tells whether a person types what stdin gives. Who hands a command over is told before.
    pub(crate) fn reads_terminal(&self) -> bool {
        matches!(self, Self::Own) && io::stdin().is_terminal()
    }

    /// Reads a file. The one who hands a command over sends along the file that it names.
    pub(crate) fn file(&self, path: &Path) -> Result<Box<dyn Read>> {
        Ok(match self {
            Self::Own => Box::new(open(path)?),
            Self::Remote(remote) => Box::new(remote.input()),
        })
    }

    /// Begins to listen for the wish to end the command.
    pub(crate) fn interruption(&self) -> Result<Interruption> {
        match self {
            Self::Own => Interruption::listen(),
            Self::Remote(remote) => Ok(Interruption::when(remote.gone.clone())),
        }
    }
}

/// Opens a file that the command line names.
pub(crate) fn open(path: &Path) -> Result<File> {
    let file = File::open(path);
    let file = file.context(format!("could not open {}", path.display()));
    Ok(file.hint("check the path")?)
}

/// A process that has given its command to the server.
pub(crate) struct Remote {
    to: Mutex<Box<dyn Write + Send>>,
    input: Mutex<Option<Receiver<io::Result<Vec<u8>>>>>,
    gone: watch::Receiver<bool>,
}

#[cfg_attr(not(unix), allow(dead_code))]
impl Remote {
    /// Describes one that is told things by way of `to`. What it reads comes by `input`, until that
    /// is closed, and `gone` says when it has ended.
    pub(crate) fn new(
        to: impl Write + Send + 'static,
        input: Receiver<io::Result<Vec<u8>>>,
        gone: watch::Receiver<bool>,
    ) -> Self {
        Self {
            to: Mutex::new(Box::new(to)),
            input: Mutex::new(Some(input)),
            gone,
        }
    }

    /// Tells it something, and waits while it is slow.
    pub(crate) fn tell(&self, answer: &Answer) -> io::Result<()> {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        crate::control::write(&mut *to, answer)
    }

    /// Returns its input. There is one, and nothing in it for whoever asks again.
    fn input(&self) -> RemoteInput {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        RemoteInput {
            chunks: input.take(),
            chunk: Vec::new(),
            read: 0,
        }
    }
}

struct RemoteOut(Arc<Remote>);

impl Write for RemoteOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.tell(&Answer::Out(bytes.to_vec()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct RemoteInput {
    chunks: Option<Receiver<io::Result<Vec<u8>>>>,
    chunk: Vec<u8>,
    read: usize,
}

impl Read for RemoteInput {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            let next = self.chunks.as_ref().and_then(|it| it.recv().ok());
            let Some(chunk) = next else {
                return Ok(0);
            };
            (self.chunk, self.read) = (chunk?, 0);
        }
        let n = (&self.chunk[self.read..]).read(to)?;
        self.read += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn remote(chunks: Vec<io::Result<Vec<u8>>>) -> Remote {
        let (to, input) = sync_channel(chunks.len());
        for chunk in chunks {
            to.send(chunk).expect("room");
        }
        Remote::new(io::sink(), input, watch::channel(false).1)
    }

    #[test]
    fn input_is_read_to_its_end() {
        let chunks = vec![Ok(b"one".to_vec()), Ok(vec![]), Ok(b" two".to_vec())];
        let remote = Console::Remote(Arc::new(remote(chunks)));
        let mut text = String::new();
        let mut stdin = remote.stdin();
        stdin.read_to_string(&mut text).expect("all of it");
        assert_eq!(text, "one two");
        assert_eq!(remote.stdin().read(&mut [0]).expect("an end"), 0);
    }

    #[test]
    fn input_that_breaks_off_is_not_taken_for_all() {
        let lost = io::Error::from(io::ErrorKind::UnexpectedEof);
        let remote = Console::Remote(Arc::new(remote(vec![Ok(b"half".to_vec()), Err(lost)])));
        let read = remote.stdin().read_to_end(&mut Vec::new());
        assert_eq!(
            read.expect_err("it is half").kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
