//! How a node lies: what it sends is changed on the way.

use bytes::Bytes;
use eidetica_dag::testing::Random;
use eidetica_proto::Cursor;
use eidetica_proto::message::{Checked, Part, Reply, ResponseHeader, SyncReply, WatchFrame};
use eidetica_proto::tips::{EndTips, TipDigest};

/// One kind of lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Bytes are altered.
    Garble,
    /// Frames are left out.
    Drop,
    /// Frames come twice.
    Double,
    /// What is sent ends early.
    Truncate,
    /// Trees are said to be equal that are not.
    Equal,
    /// Entries are said to be stored that are not, and the tips are others.
    Stored,
    /// Entries are withheld although the end is told as if they had been sent.
    Withhold,
    /// Places in the log are told that are further than what was sent.
    Ahead,
    /// Everything is absent.
    Absent,
}

impl Lie {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Garble,
        Self::Drop,
        Self::Double,
        Self::Truncate,
        Self::Equal,
        Self::Stored,
        Self::Withhold,
        Self::Ahead,
        Self::Absent,
    ];

    /// Returns what is sent in the place of a frame; nothing further if the second value says so.
    pub fn tell(self, frame: &Bytes, is_answer: bool, random: &mut Random) -> (Vec<Bytes>, bool) {
        let unchanged = (vec![frame.clone()], false);
        match self {
            Self::Garble if random.one_in(3) && !frame.is_empty() => {
                let mut bytes = frame.to_vec();
                let at = random.below(bytes.len() as u32) as usize;
                bytes[at] ^= 1 << random.below(8);
                (vec![bytes.into()], false)
            }
            Self::Drop if random.one_in(4) => (vec![], false),
            Self::Double if random.one_in(3) => (vec![frame.clone(), frame.clone()], false),
            Self::Truncate if random.one_in(3) => (vec![], true),
            Self::Equal | Self::Stored | Self::Ahead | Self::Absent if is_answer => {
                (vec![self.answer(frame, random)], false)
            }
            Self::Withhold if is_answer => match withheld(frame) {
                true => (vec![], false),
                false => unchanged,
            },
            _ => unchanged,
        }
    }

    /// Changes the header of an answer, or one of its last frames.
    fn answer(self, frame: &Bytes, random: &mut Random) -> Bytes {
        if let Ok(header) = ResponseHeader::decode(frame)
            && let Ok(reply) = header.reply
            && let Some(reply) = self.reply(reply, random)
        {
            return ResponseHeader::encode(Ok(reply));
        }
        match (self, Part::decode(frame), WatchFrame::decode(frame)) {
            (Self::Ahead, Ok(Part::End { tips, cursor }), _) => Part::End {
                tips,
                cursor: ahead(cursor, random),
            }
            .encode(),
            (Self::Stored, Ok(Part::End { cursor, .. }), _) => Part::End {
                tips: EndTips::Listed(vec![]),
                cursor,
            }
            .encode(),
            (
                Self::Ahead,
                _,
                Ok(WatchFrame::Entries {
                    tree,
                    cursor,
                    batch,
                }),
            ) => {
                let cursor = ahead(cursor, random);
                let frame = WatchFrame::Entries {
                    tree,
                    cursor,
                    batch,
                };
                frame.encode()
            }
            _ => frame.clone(),
        }
    }

    fn reply(self, reply: Reply, random: &mut Random) -> Option<Reply> {
        match (self, reply) {
            (Self::Equal, Reply::Checked(checked)) => {
                let equal = checked.equal.first().copied().unwrap_or(Cursor::NONE);
                Some(Reply::Checked(Checked {
                    looked_at: checked.looked_at,
                    differ: vec![],
                    absent: vec![],
                    equal: vec![equal; checked.looked_at as usize],
                }))
            }
            (Self::Equal, Reply::Sync(SyncReply::Entries(_))) => {
                Some(Reply::Sync(SyncReply::Equal(Cursor::NONE)))
            }
            (Self::Absent, Reply::Checked(checked)) => Some(Reply::Checked(Checked {
                looked_at: checked.looked_at,
                differ: vec![],
                absent: (0..checked.looked_at as u16).collect(),
                equal: vec![],
            })),
            (Self::Stored, Reply::Stored(mut stored)) => {
                stored.stored = random.below(10);
                stored.missing.clear();
                stored.tips = TipDigest::of(&[]);
                Some(Reply::Stored(stored))
            }
            (Self::Ahead, Reply::Stored(mut stored)) => {
                stored.cursor = ahead(stored.cursor, random);
                Some(Reply::Stored(stored))
            }
            _ => None,
        }
    }
}

/// Tells whether a frame of an answer carries entries.
fn withheld(frame: &Bytes) -> bool {
    // The header of an answer is no part: it begins with a version.
    ResponseHeader::decode(frame).is_err()
        && (matches!(Part::decode(frame), Ok(Part::Batch(_)))
            || matches!(WatchFrame::decode(frame), Ok(WatchFrame::Entries { .. })))
}

/// Returns a cursor some places further.
fn ahead(cursor: Cursor, random: &mut Random) -> Cursor {
    let mut bytes = cursor.as_bytes().to_vec();
    if let Some(position) = bytes.get_mut(8) {
        *position = position.wrapping_add(1 + random.below(5) as u8);
    }
    Cursor::from_bytes(&bytes).unwrap_or(cursor)
}
