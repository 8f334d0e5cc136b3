//! The channel over which a command is carried out by the server that has the store open: a socket
//! in the store's folder.
//!
//! A connection carries one command. The client sends the command line as it is, the server parses
//! it and runs what the client would have run; what it prints goes back. The server acts for
//! whoever can open the socket, which is whoever could read the store's key.
#![cfg_attr(not(unix), allow(dead_code))]

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[cfg(unix)]
pub(crate) mod client;
#[cfg(unix)]
pub(crate) mod server;

/// The largest message in bytes: all arguments of a command together, of which systems allow about
/// two megabytes. All others are smaller by far.
const MESSAGE_BYTES_MAX: u32 = 4 << 20;

/// What the client says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Asks for a command. It comes first.
    Run(Request),
    /// What the client has read from its input.
    Input(Vec<u8>),
    /// There is no more of it.
    InputEnd,
    /// It could not be read, and why.
    InputFailed(String),
}

/// A command.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The version of the client, so that nothing is misunderstood.
    version: String,
    /// The arguments, without the program's name.
    args: Vec<Vec<u8>>,
    /// The folder from which paths are meant.
    folder: Vec<u8>,
}

/// What the server says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The command begins.
    Begun,
    /// Something for stdout.
    Out(Vec<u8>),
    /// A line for stderr.
    Note(String),
    /// How far something has come.
    Progress {
        /// What is being done.
        what: String,
        /// How much of it.
        done: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
    },
    /// There is no more progress to be shown.
    ProgressEnd,
    /// The command has ended with this exit code.
    Exit(u8),
}

/// Writes a message: its length in four bytes, the lowest first, and what it says.
pub(crate) fn write(to: &mut (impl Write + ?Sized), message: &impl Serialize) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if length > MESSAGE_BYTES_MAX {
        let text = format!("a message of {length} bytes is too long for the server");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)
}

/// Reads a message.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    if length > MESSAGE_BYTES_MAX {
        return Err(invalid("the message is too long"));
    }
    // What was not sent takes no memory.
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(|_| invalid("the message makes no sense"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let orders = [
            Order::Run(Request {
                version: "1".into(),
                args: vec![b"ls".to_vec(), vec![0xff]],
                folder: b"/".to_vec(),
            }),
            Order::Input(vec![1, 2, 3]),
            Order::InputEnd,
        ];
        let mut bytes = Vec::new();
        for order in &orders {
            write(&mut bytes, order).expect("room");
        }
        let mut from = &bytes[..];
        for order in orders {
            assert_eq!(read::<Order>(&mut from).expect("a message"), order);
        }
        let end = read::<Order>(&mut from).expect_err("there is no more");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Answer::Note("text".into())).expect("room");
        for cut in 0..bytes.len() {
            assert!(read::<Answer>(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        let length = (MESSAGE_BYTES_MAX + 1).to_le_bytes();
        let error = read::<Answer>(&mut &length[..]).expect_err("it is too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let long = Answer::Out(vec![0; MESSAGE_BYTES_MAX as usize]);
        assert!(write(&mut Vec::new(), &long).is_err());
    }
}
