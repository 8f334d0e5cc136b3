//! One part of a message, unpacked.

use eidetica_dag::{TreeId, Verification, verify_batch};

use crate::batch::unpack;
use crate::cursor::Cursor;
use crate::error::{PeerFault, WireError};
use crate::message::Part;
use crate::tips::EndTips;

/// A part of a message, unpacked, its ids computed and its signatures checked.
///
/// Unpacking is the expensive half of receiving and needs only the frame. A driver unpacks several
/// frames at a time, on any threads, and hands the results over in order.
#[derive(Debug)]
pub enum Received {
    /// Entries, parents before children.
    Entries(Verification),
    /// The sender has sent everything.
    End {
        /// Its tips.
        tips: EndTips,
        /// The end of its log.
        cursor: Cursor,
    },
    /// The sender cannot go on.
    Failed(WireError),
}

impl Received {
    /// Unpacks a frame that follows a header.
    ///
    /// # Errors
    /// The peer's fault, if nothing in the frame is of use.
    pub fn from_frame(tree: TreeId, frame: &[u8]) -> Result<Self, PeerFault> {
        match Part::decode(frame)? {
            Part::Batch(batch) => {
                let entries = unpack(tree, batch)?;
                Ok(Self::Entries(verify_batch(entries)))
            }
            Part::End { tips, cursor } => Ok(Self::End { tips, cursor }),
            Part::Unknown(kind) => Err(PeerFault::UnknownKind {
                what: "a part",
                kind,
            }),
            Part::Failed(error) => Ok(Self::Failed(error)),
        }
    }
}
