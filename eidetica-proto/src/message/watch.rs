//! The frames that answer a watch.

use bytes::Bytes;

use super::frame;
use super::growing::{read, take, write};
use crate::cursor::Cursor;
use crate::error::{ERROR_TEXT_BYTES_MAX, PeerFault, WireError};

/// A frame after the header that answers a [`Watch`](super::Watch). Trees are named by their index
/// in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchFrame<'a> {
    /// Entries that the watcher lacks, parents first.
    Entries {
        /// The tree.
        tree: u16,
        /// The place after them.
        cursor: Cursor,
        /// The entries, packed: see [`crate::batch`].
        batch: &'a [u8],
    },
    /// The cursor is of no use, or it was empty and the tree can be read; the watcher has to compare.
    /// Nothing more is said of this tree.
    CompareFirst {
        /// The tree.
        tree: u16,
    },
    /// The tree is absent, or may not be read; the two look alike. Nothing more is said of it.
    Gone {
        /// The tree.
        tree: u16,
    },
    /// The server is alive.
    Heartbeat,
    /// The server cannot go on.
    Failed(WireError),
    /// A later version's kind, of which only the number is known.
    Unknown(u16),
}

impl WatchFrame<'_> {
    /// Writes the frame.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Entries {
                tree,
                cursor,
                batch,
            } => {
                let mut body = write(&(tree, cursor));
                body.extend_from_slice(batch);
                frame(&[], 0, &body)
            }
            Self::CompareFirst { tree } => frame(&[], 1, &write(tree)),
            Self::Gone { tree } => frame(&[], 2, &write(tree)),
            Self::Heartbeat => frame(&[], 3, &[]),
            Self::Failed(error) => frame(&[], 4, &write(error)),
            Self::Unknown(kind) => frame(&[], *kind, &[]),
        }
    }
}

impl<'a> WatchFrame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn decode(frame: &'a [u8]) -> Result<Self, PeerFault> {
        let mut body = frame;
        let kind: u16 = take(&mut body).ok_or(PeerFault::NotAMessage)?;
        let decoded = match kind {
            0 => take::<(u16, Cursor)>(&mut body).map(|(tree, cursor)| Self::Entries {
                tree,
                cursor,
                batch: body,
            }),
            1 => read(body).map(|tree| Self::CompareFirst { tree }),
            2 => read(body).map(|tree| Self::Gone { tree }),
            3 => body.is_empty().then_some(Self::Heartbeat),
            4 => read(body).map(Self::Failed),
            other => Some(Self::Unknown(other)),
        };
        match decoded.ok_or(PeerFault::NotAMessage)? {
            Self::Failed(error) if error.text.len() > ERROR_TEXT_BYTES_MAX => {
                Err(PeerFault::BadList("a text is too long"))
            }
            frame => Ok(frame),
        }
    }
}
