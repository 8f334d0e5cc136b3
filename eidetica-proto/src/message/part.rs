//! The frames that carry entries.

use bytes::Bytes;

use super::growing::{read, take, write};
use super::{check_ids, frame};
use crate::cursor::Cursor;
use crate::error::{ERROR_TEXT_BYTES_MAX, PeerFault, WireError};
use crate::tips::{EndTips, TIPS_MAX};

/// A frame after a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// Entries, packed: see [`crate::batch`].
    Batch(&'a [u8]),
    /// That was everything.
    End {
        /// The sender's tips as of the moment when the entries were chosen.
        tips: EndTips,
        /// The end of the sender's log at that moment; none in a request.
        cursor: Cursor,
    },
    /// The sender cannot go on.
    Failed(WireError),
    /// A later version's kind, of which only the number is known.
    Unknown(u16),
}

impl Part<'_> {
    /// Writes a part as a frame.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Batch(batch) => frame(&[], 0, batch),
            Self::End { tips, cursor } => frame(&[], 1, &write(&(tips, cursor))),
            Self::Failed(error) => frame(&[], 2, &write(error)),
            Self::Unknown(kind) => frame(&[], *kind, &[]),
        }
    }
}

impl<'a> Part<'a> {
    /// Reads a part and checks its lists.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn decode(frame: &'a [u8]) -> Result<Self, PeerFault> {
        let mut body = frame;
        let kind: u16 = take(&mut body).ok_or(PeerFault::NotAMessage)?;
        match kind {
            0 => Ok(Self::Batch(body)),
            1 => {
                let (tips, cursor): (EndTips, _) = read(body).ok_or(PeerFault::NotAMessage)?;
                check_ids(tips.listed(), TIPS_MAX)?;
                Ok(Self::End { tips, cursor })
            }
            2 => {
                let error: WireError = read(body).ok_or(PeerFault::NotAMessage)?;
                if error.text.len() > ERROR_TEXT_BYTES_MAX {
                    return Err(PeerFault::BadList("a text is too long"));
                }
                Ok(Self::Failed(error))
            }
            other => Ok(Self::Unknown(other)),
        }
    }
}
