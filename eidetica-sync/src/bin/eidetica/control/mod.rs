//! Handing a command to the server that has the store open, over a socket in the store's folder.
//!
//! A connection carries one command. The [`client`] sends its command line, and the [`server`] parses
//! it, runs the command and sends back what it prints. Anyone who can open the socket could also read
//! the store's key.
#![cfg_attr(not(unix), allow(dead_code))]

#[cfg(unix)]
use std::fs::File;
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::fd::AsRawFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[cfg(unix)]
pub(crate) mod client;
#[cfg(unix)]
pub(crate) mod server;

/// The largest message in bytes: all arguments of a command, of which systems allow about two
/// megabytes. All other messages are far smaller.
const MESSAGE_BYTES_MAX: u32 = 4 << 20;

/// The longest path of a socket in bytes that every system takes.
#[cfg(unix)]
const SOCKET_PATH_MAX: usize = 100;

/// Calls `f` with a path to this socket that is short enough for the system. On Linux, any folder has
/// a short path as long as it is open. The socket stays in the store's folder, which keeps others out.
///
/// # Errors
///
/// Those of `f`, and of opening the folder. Other systems than Linux refuse a long path.
#[cfg(unix)]
fn with_short_path<T>(socket: &Path, f: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let is_short = socket.as_os_str().len() <= SOCKET_PATH_MAX;
    let (false, true, Some(folder), Some(name)) = (
        is_short,
        cfg!(target_os = "linux"),
        socket.parent(),
        socket.file_name(),
    ) else {
        return f(socket.to_owned());
    };
    let folder = File::open(folder)?;
    let number = folder.as_raw_fd().to_string();
    f(Path::new("/proc/self/fd").join(number).join(name))
}

/// Tells whether a server takes commands at this socket.
#[cfg(unix)]
pub(crate) fn is_served(socket: &Path) -> bool {
    with_short_path(socket, UnixStream::connect).is_ok()
}

/// Other systems than Unix have no such server.
#[cfg(not(unix))]
pub(crate) fn is_served(_: &Path) -> bool {
    false
}

/// A message from the client.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Runs a command. It is the first message.
    Run(Request),
    /// What the client has read from its input.
    Input(Vec<u8>),
    /// The input has ended.
    InputEnd,
    /// The input could not be read, and why.
    InputFailed(String),
}

/// A command.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The version of the client. The server refuses any other than its own.
    version: String,
    /// The arguments, without the program's name.
    args: Vec<Vec<u8>>,
    /// The client's working directory, which relative paths start from.
    folder: Vec<u8>,
}

/// A message from the server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The command has started.
    Begun,
    /// Data for stdout.
    Out(Vec<u8>),
    /// A line for stderr.
    Note(String),
    /// How far the command has come.
    Progress {
        /// What is being done.
        what: String,
        /// How much of it is done.
        done: u64,
        /// The total, if it is known.
        total: Option<u64>,
    },
    /// There is no more progress to show.
    ProgressEnd,
    /// The command has ended with this exit code.
    Exit(u8),
}

/// Writes a message: its length as four little-endian bytes, then its encoding.
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
    // Allocate only what arrives.
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(|_| invalid("the message is malformed"))
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
    fn truncated_and_oversized_messages_are_refused() {
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
