//! What the program prints: data on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::output::failure::{Result, Stop};

/// How many bytes of data are printed at once: with fewer, system calls dominate a long log.
const OUT_BYTES: usize = 64 << 10;

/// A buffered writer to stdout. Call [`Out::flush`] at the end, or data is lost.
pub(crate) struct Out(BufWriter<Box<dyn Write>>);

impl Out {
    pub(crate) fn new(stdout: impl Write + 'static) -> Self {
        Self(BufWriter::with_capacity(OUT_BYTES, Box::new(stdout)))
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.0, "{text}").map_err(Stop::from_stdout)
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.0, value)
            .map_err(|error| Stop::from_stdout(error.into()))?;
        self.line("")
    }

    /// Writes out the buffer.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(Stop::from_stdout)
    }
}

/// Writes a line to stderr. Errors are ignored: there is no other place to report them.
pub(crate) fn note(text: impl Display) {
    let _is_closed = writeln!(io::stderr().lock(), "{text}");
}
