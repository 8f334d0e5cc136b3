//! What the program prints: data on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::output::failure::{Result, Stop};
use crate::output::text::{one_line, steers};

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

    /// Prints bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(Stop::from_stdout)
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.line(json_line(value))
    }

    /// Writes out the buffer.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(Stop::from_stdout)
    }
}

/// Returns a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut line, Readable);
    (value.serialize(&mut to)).expect("a vector takes every value");
    String::from_utf8(line).expect("JSON is text")
}

/// Writes JSON in which texts contain nothing that would steer a terminal. The escapes are JSON's own, so
/// programs read the same values.
struct Readable;

impl Formatter for Readable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain_from = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| steers(*c)) {
            to.write_all(&fragment.as_bytes()[plain_from..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            plain_from = at + c.len_utf8();
        }
        to.write_all(&fragment.as_bytes()[plain_from..])
    }
}

/// The log's way to stderr: a record stays one line, whatever is in it.
pub(crate) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let mut line = one_line(text.trim_end_matches('\n'));
        line.push('\n');
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to stderr. Errors are ignored: there is no other place to report them.
pub(crate) fn note(text: impl Display) {
    let _is_closed = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_steers_no_terminal_and_keeps_its_values() {
        let text = "a\"\u{9b}2J\u{202e}b\u{e0041}\u{200b}\nü";
        let json = json_line(&text);
        assert!(!json.chars().any(steers), "{json}");
        assert!(json.contains("\\u202eb\\udb40\\udc41"), "{json}");
        let read: String = serde_json::from_str(&json).expect("JSON");
        assert_eq!(read, text);
    }
}
