//! The streams of a client: a process that has handed its command to the server.

use std::io::{self, Read, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::control::Answer;
use crate::signals::Interruption;

/// A process that has handed its command to the server.
pub(crate) struct Remote {
    to: Mutex<Box<dyn Write + Send>>,
    input: Mutex<Option<Receiver<io::Result<Vec<u8>>>>>,
    gone: watch::Receiver<bool>,
}

#[cfg_attr(not(unix), allow(dead_code))]
impl Remote {
    /// Describes a client. Answers go to `to`, its input arrives in `input` until that closes, and
    /// `gone` becomes true when it has ended.
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

    /// Sends an answer, and waits while the client is slow.
    pub(crate) fn send(&self, answer: &Answer) -> io::Result<()> {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        crate::control::write(&mut *to, answer)
    }

    /// Returns an interruption that occurs when the client has ended.
    pub(crate) fn interruption(&self) -> Interruption {
        Interruption::when(self.gone.clone())
    }

    /// Takes the client's input. Later calls return an empty one.
    pub(crate) fn input(&self) -> RemoteInput {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        RemoteInput {
            chunks: input.take(),
            chunk: Vec::new(),
            read: 0,
        }
    }
}

pub(crate) struct RemoteOut(pub(crate) Arc<Remote>);

impl Write for RemoteOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&Answer::Out(bytes.to_vec()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct RemoteInput {
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
        let remote = remote(chunks);
        let mut text = String::new();
        let mut stdin = remote.input();
        stdin.read_to_string(&mut text).expect("all of it");
        assert_eq!(text, "one two");
        assert_eq!(remote.input().read(&mut [0]).expect("an end"), 0);
    }

    #[test]
    fn truncated_input_is_an_error() {
        let lost = io::Error::from(io::ErrorKind::UnexpectedEof);
        let remote = remote(vec![Ok(b"half".to_vec()), Err(lost)]);
        let read = remote.input().read_to_end(&mut Vec::new());
        assert_eq!(
            read.expect_err("it is half").kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
