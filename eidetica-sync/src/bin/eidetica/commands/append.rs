//! `append`: writes entries from the command line, from a file, or from a stream of lines.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use eidetica_sync::dag::{ENTRY_BYTES_MAX, TreeId};
use eidetica_sync::{Node, TreeError};

use crate::args::Append;
use crate::commands::session::Session;
use crate::output::console::Console;
use crate::output::failure::{Context, Failure, Result};
use crate::output::out::Out;
use crate::store::trees;

/// How many bytes of lines are read at once, and so stored together at most, except for one long
/// line. It bounds memory, and each batch costs one commit.
const READ_BYTES: usize = 256 << 10;

/// How many lines are stored together at most: an entry adds a few hundred bytes to a short line.
const LINES_MAX: usize = 4_096;

pub(crate) async fn run(session: &Session, args: Append) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let node = opened.start();
    let (console, mut out) = (&session.console, session.console.out());
    if args.lines {
        announce_terminal(console);
        let lines = BufReader::with_capacity(READ_BYTES, console.stdin());
        return append_lines(&node, tree, lines, &mut out).await;
    }
    let payload = match (args.text, args.file) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(path)) => read_payload(console.file(&path)?, &path.display().to_string())?,
        (None, None) => {
            announce_terminal(console);
            let payload = read_payload(console.stdin(), "stdin")?;
            if payload.is_empty() {
                // More often a closed stdin or a failed pipe than a wish.
                return Err(Failure::new("stdin is empty, and nothing was stored")
                    .hint("give the text after the tree; \"\" writes an empty entry")
                    .into());
            }
            payload
        }
    };
    append(&node, tree, vec![payload.into()], &mut out).await
}

/// Notes that the command waits for typed input.
pub(crate) fn announce_terminal(console: &Console) {
    if console.reads_terminal() {
        console.note("reading from the terminal; press Ctrl-D on an empty line to finish");
    }
}

async fn append(node: &Node, tree: TreeId, data: Vec<Bytes>, out: &mut Out) -> Result<()> {
    let ids = node.append_all(tree, data).await.map_err(|error| {
        let hint = match &error {
            TreeError::Entry(_) => "split it into several entries, for example with --lines",
            TreeError::Refused(_) => {
                "`eidetica access` lists who may write; an admin of the tree can grant the role"
            }
            _ => "nothing was stored; run the command again once the cause is fixed",
        };
        Failure::new("could not append to the tree")
            .caused_by(error)
            .hint(hint)
    })?;
    for id in ids {
        out.line(id)?;
    }
    out.flush()
}

/// Reads one payload, and stops soon after it exceeds an entry.
fn read_payload(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    from.take(ENTRY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut payload)
        .context(format!("could not read {name}"))?;
    if payload.len() > ENTRY_BYTES_MAX {
        return Err(too_large(name).into());
    }
    Ok(payload)
}

fn too_large(what: &str) -> Failure {
    Failure::new(format!(
        "{what} is too large for an entry, which has at most {ENTRY_BYTES_MAX} bytes including \
         parents and signature"
    ))
    .hint("split it into several entries, for example with --lines")
}

/// Appends one entry for each line. Lines that have arrived are stored together, without waiting
/// for more.
async fn append_lines(
    node: &Node,
    tree: TreeId,
    mut from: BufReader<impl Read>,
    out: &mut Out,
) -> Result<()> {
    let mut number = 0_u64;
    loop {
        let mut lines = Vec::new();
        loop {
            let Some(line) = read_line(&mut from, number + 1)? else {
                break;
            };
            number += 1;
            lines.push(line.into());
            if lines.len() == LINES_MAX || !from.buffer().contains(&b'\n') {
                break;
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        append(node, tree, lines, out).await?;
    }
}

/// Reads a line without its line ending, or `None` at the end of input.
fn read_line(from: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(ENTRY_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .context("could not read stdin")?;
    if line.len() > ENTRY_BYTES_MAX {
        return Err(too_large(&format!("line {number}")).into());
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn lines_are_read_without_line_endings() {
        let mut from = io::Cursor::new("one\r\n\ntwo\nlast");
        let mut read = || read_line(&mut from, 1).expect("short lines");
        let lines: Vec<_> = std::iter::from_fn(&mut read).collect();
        assert_eq!(lines, [&b"one"[..], b"", b"two", b"last"]);
    }

    #[test]
    fn endless_line_is_refused() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert!(read_line(&mut endless, 1).is_err());
        assert!(read_payload(io::repeat(b'x'), "it").is_err());
    }
}
