//! Places in a peer's arrival log.
//!
//! A store numbers the entries of a tree in the order of their arrival, parents before children. A
//! **cursor** names a place in that order: everything before it is known to the side that holds the
//! cursor, everything after it is news, and can be sent as it is. The side that holds a cursor
//! cannot read it; only the store that made it can.

use std::fmt;

use eidetica_dag::{Arrival, DagView, EntryId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of a cursor. This version makes cursors of 20 bytes; the rest is room for other stores.
pub const CURSOR_BYTES_MAX: usize = 32;

/// Bytes of a cursor that this version makes: a log identity, a position, the start of an id.
const MADE_BYTES: usize = 20;

/// How many bytes of the last entry's id a cursor holds. A store that went another way has the same
/// eight bytes at a position once in 2⁶⁴.
const ID_BYTES: usize = 8;

/// The random identity of a store's arrival logs, made once with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId([u8; 8]);

impl LogId {
    /// Wraps eight random bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Returns the eight bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// A place in the arrival log of one tree at one peer; opaque to everyone but that peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    len: u8,
    /// Zero after the first `len` bytes.
    bytes: [u8; CURSOR_BYTES_MAX],
}

impl Cursor {
    /// The cursor that names no place: its holder has to compare first.
    pub const NONE: Self = Self {
        len: 0,
        bytes: [0; CURSOR_BYTES_MAX],
    };

    /// Wraps the bytes of a cursor, or returns `None` if there are more than [`CURSOR_BYTES_MAX`].
    pub fn from_bytes(given: &[u8]) -> Option<Self> {
        let mut bytes = [0; CURSOR_BYTES_MAX];
        bytes.get_mut(..given.len())?.copy_from_slice(given);
        let len = given.len() as u8;
        Some(Self { len, bytes })
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Tells whether the cursor names no place.
    pub const fn is_none(&self) -> bool {
        self.len == 0
    }

    /// Names the place before arrival `position`, which is at most the view's entry count.
    ///
    /// # Errors
    /// Those of the view.
    pub fn at<V: DagView + ?Sized>(log: LogId, view: &V, position: u32) -> Result<Self, V::Error> {
        Ok(Self::made(log, position, last_id(view, position)?))
    }

    /// Names the place before every entry.
    pub fn start(log: LogId) -> Self {
        Self::made(log, 0, [0; ID_BYTES])
    }

    /// Names the place after an entry, which has the arrival number before `position`.
    pub fn after(log: LogId, position: u32, last: &EntryId) -> Self {
        Self::made(log, position, first_bytes(last))
    }

    fn made(log: LogId, position: u32, last: [u8; ID_BYTES]) -> Self {
        let mut bytes = [0; CURSOR_BYTES_MAX];
        bytes[..8].copy_from_slice(&log.0);
        bytes[8..12].copy_from_slice(&position.to_le_bytes());
        bytes[12..MADE_BYTES].copy_from_slice(&last);
        let len = MADE_BYTES as u8;
        Self { len, bytes }
    }

    /// Names the place after everything in a view.
    ///
    /// # Errors
    /// Those of the view.
    pub fn at_end<V: DagView + ?Sized>(log: LogId, view: &V) -> Result<Self, V::Error> {
        Self::at(log, view, view.entry_count())
    }

    /// Returns the position that a cursor of this log names, or `None` if it is of another log, or
    /// of one that went another way since, as a restored backup does.
    ///
    /// # Errors
    /// Those of the view.
    pub fn position<V: DagView + ?Sized>(
        &self,
        log: LogId,
        view: &V,
    ) -> Result<Option<u32>, V::Error> {
        let Some((id, rest)) = self.as_bytes().split_first_chunk::<8>() else {
            return Ok(None);
        };
        let Some((position, last)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let position = u32::from_le_bytes(*position);
        if *id != log.0 || position > view.entry_count() {
            return Ok(None);
        }
        Ok((last == last_id(view, position)?).then_some(position))
    }
}

/// Returns the first bytes of the id of the entry before a position, zeros at position 0.
fn last_id<V: DagView + ?Sized>(view: &V, position: u32) -> Result<[u8; ID_BYTES], V::Error> {
    let Some(last) = position.checked_sub(1) else {
        return Ok([0; ID_BYTES]);
    };
    Ok(first_bytes(&view.node(Arrival(last))?.id))
}

fn first_bytes(id: &EntryId) -> [u8; ID_BYTES] {
    *id.as_bytes().first_chunk().expect("an id is longer")
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(")?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(self.as_bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: &[u8] = serde_bytes::deserialize(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| serde::de::Error::custom("a cursor is too long"))
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::draw;

    use super::*;

    const LOG: LogId = LogId::from_bytes(*b"this log");

    #[test]
    fn a_cursor_names_its_place() {
        let drawn = draw("A-B-C");
        let dag = drawn.replica(&["C"]);
        for position in 0..=3 {
            let Ok(cursor) = Cursor::at(LOG, &dag, position);
            assert_eq!(cursor.position(LOG, &dag), Ok(Some(position)));
            assert_eq!(cursor.as_bytes().len(), MADE_BYTES);
            assert_eq!(Cursor::from_bytes(cursor.as_bytes()), Some(cursor));
            if position == 0 {
                assert_eq!(Cursor::start(LOG), cursor);
            }
            if let Some(last) = position.checked_sub(1) {
                let Ok(last) = dag.node(Arrival(last));
                assert_eq!(Cursor::after(LOG, position, &last.id), cursor);
            }
        }
    }

    #[test]
    fn another_log_another_way_and_a_shorter_log_are_noticed() {
        let drawn = draw("A-B-C    B-X");
        let (dag, other_way) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
        let shorter = drawn.replica(&["B"]);
        let Ok(cursor) = Cursor::at_end(LOG, &dag);
        let foreign = LogId::from_bytes(*b"an other");
        assert_eq!(cursor.position(foreign, &dag), Ok(None));
        assert_eq!(cursor.position(LOG, &other_way), Ok(None));
        assert_eq!(cursor.position(LOG, &shorter), Ok(None));
        let Ok(early) = Cursor::at(LOG, &dag, 2);
        assert_eq!(early.position(LOG, &other_way), Ok(Some(2)));
    }

    #[test]
    fn no_bytes_make_a_place_or_a_panic() {
        let dag = draw("A-B").replica(&["B"]);
        assert_eq!(Cursor::NONE.position(LOG, &dag), Ok(None));
        for len in 0..=CURSOR_BYTES_MAX {
            let cursor = Cursor::from_bytes(&[0xff; CURSOR_BYTES_MAX][..len]);
            assert_eq!(cursor.map(|it| it.position(LOG, &dag)), Some(Ok(None)));
        }
        assert_eq!(Cursor::from_bytes(&[0; CURSOR_BYTES_MAX + 1]), None);
        let Ok(cursor) = Cursor::at_end(LOG, &dag);
        let longer = [cursor.as_bytes(), &[0]].concat();
        let longer = Cursor::from_bytes(&longer).expect("short enough");
        assert_eq!(longer.position(LOG, &dag), Ok(None));
    }
}
