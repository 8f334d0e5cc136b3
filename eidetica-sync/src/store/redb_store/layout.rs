//! The tables of the file, and the bytes in them.
//!
//! Each entry is written twice, and both times in sequence: once into the **log**, after its
//! node, and once into the **recent** part of the index from ids to numbers (see
//! [`super::index`]). All numbers in values are little-endian. Keys of several fields are
//! big-endian bytes, or one number with the tree's in its upper half.

use eidetica_dag::{AccessId, AccessKey, Arrival, EntryId, Node};
use redb::TableDefinition;

/// The format of the file that this program writes and reads.
pub const FORMAT_VERSION: u32 = 3;

/// The one key of [`FORMAT`].
pub(super) const FORMAT_KEY: &str = "eidetica store";

/// The key of [`FORMAT`] with the lower half of the identity of the arrival logs.
pub(super) const LOG_ID_LOW_KEY: &str = "log id, low";

/// The key of [`FORMAT`] with the upper half.
pub(super) const LOG_ID_HIGH_KEY: &str = "log id, high";

/// The format's version, and what was drawn when the file was made.
pub(super) const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");
/// The small metadata.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// From a tree's name to its number in this file.
pub(super) const TREES: TableDefinition<'_, &[u8; 32], u32> = TableDefinition::new("trees");
/// From a tree's number to its [`Head`].
pub(super) const HEADS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("heads");
/// From (tree, arrival) to a [`Record`].
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// From (tree, first arrival) to a run of the index.
pub(super) const RECENT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("recent");
/// The keys (tree, prefix of the id, arrival) of the rest of the index.
pub(super) const SETTLED: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("settled");
/// From (tree, height, arrival) to the id.
pub(super) const LANDMARKS: TableDefinition<'_, &[u8; 12], &[u8; 32]> =
    TableDefinition::new("landmarks");
/// The keys (tree, arrival) of the tips: an append writes what it changes, however many there are.
pub(super) const TIPS: TableDefinition<'_, u64, ()> = TableDefinition::new("tips");
/// From (tree, count of entries) to a list of numbers.
pub(super) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
/// From (tree, number in the ledger) to an entry of the ledger: its arrival, and what it follows.
pub(super) const LEDGER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ledger");
/// From (tree, number) to an access state: its latest changes, as numbers of the ledger. They
/// determine the others, so a state takes a few bytes however many there are.
pub(super) const ACCESS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("access");
/// From (tree, name of an access state) to its number.
pub(super) const ACCESS_IDS: TableDefinition<'_, &[u8; 20], u32> =
    TableDefinition::new("access ids");

/// No tree gets this number: it stands for a tree that is not here.
pub(super) const NO_TREE: u32 = u32::MAX;

/// Joins a tree's number and another one to a key.
pub(super) fn key(tree: u32, number: u32) -> u64 {
    u64::from(tree) << 32 | u64::from(number)
}

/// Returns the range of keys of one tree.
pub(super) fn keys_of(tree: u32) -> std::ops::RangeInclusive<u64> {
    key(tree, 0)..=key(tree, u32::MAX)
}

/// Returns the key of a landmark.
pub(super) fn landmark_key(tree: u32, height: u32, at: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&tree.to_be_bytes());
    key[4..8].copy_from_slice(&height.to_be_bytes());
    key[8..].copy_from_slice(&at.to_be_bytes());
    key
}

/// Returns the key of an access state's name.
pub(super) fn access_key(tree: u32, name: &AccessKey) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&tree.to_be_bytes());
    key[4..].copy_from_slice(name.as_bytes());
    key
}

/// Takes a number from the front of `bytes`.
fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

/// Writes a list of arrivals.
pub(super) fn write_arrivals(arrivals: &[Arrival], buffer: &mut Vec<u8>) {
    buffer.extend(arrivals.iter().flat_map(|at| at.0.to_le_bytes()));
}

/// Writes a list of numbers.
pub(super) fn numbers_to_bytes(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Reads a list of numbers, or returns `None` if the bytes are none.
pub(super) fn read_numbers(bytes: &[u8]) -> Option<Vec<u32>> {
    let (numbers, rest) = bytes.as_chunks();
    let numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
    rest.is_empty().then(|| numbers.collect())
}

/// Reads a list of arrivals that must ascend and stay below `end`.
pub(super) fn read_arrivals(bytes: &[u8], end: u32) -> Option<Vec<Arrival>> {
    let (numbers, rest) = bytes.as_chunks();
    let arrivals: Vec<Arrival> = numbers
        .iter()
        .map(|number| Arrival(u32::from_le_bytes(*number)))
        .collect();
    let is_sound = rest.is_empty()
        && arrivals.is_sorted_by(|a, b| a < b)
        && arrivals.last().is_none_or(|last| last.0 < end);
    is_sound.then_some(arrivals)
}

/// What a store knows of a tree without looking at its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) entry_count: u32,
    pub(super) access_count: u32,
    pub(super) ledger_count: u32,
    pub(super) tip_count: u32,
    /// Entries below this number are in the settled part of the index.
    pub(super) settled_count: u32,
}

impl Head {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        numbers_to_bytes([
            self.entry_count,
            self.access_count,
            self.ledger_count,
            self.tip_count,
            self.settled_count,
        ])
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let numbers = read_numbers(bytes)?;
        let [
            entry_count,
            access_count,
            ledger_count,
            tip_count,
            settled_count,
        ] = numbers.try_into().ok()?;
        let largest = settled_count.max(tip_count).max(ledger_count);
        (largest <= entry_count).then_some(Self {
            entry_count,
            access_count,
            ledger_count,
            tip_count,
            settled_count,
        })
    }
}

/// An entry in the log: id, height, access, number of parents (two bytes), parents, then the entry
/// as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) id: EntryId,
    pub(super) height: u32,
    pub(super) access: AccessId,
    parents: &'a [[u8; 4]],
    pub(super) encoded: &'a [u8],
}

impl<'a> Record<'a> {
    /// Writes a record into an emptied `buffer`.
    pub(super) fn write(node: &Node, encoded: &[u8], buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(node.id.as_bytes());
        buffer.extend_from_slice(&node.height.to_le_bytes());
        buffer.extend_from_slice(&node.access.0.to_le_bytes());
        // An entry has at most `PARENTS_MAX` parents, which fits.
        buffer.extend_from_slice(&(node.parents.len() as u16).to_le_bytes());
        write_arrivals(&node.parents, buffer);
        buffer.extend_from_slice(encoded);
    }

    /// Reads a record, or `None` if the bytes are too short for one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (id, mut bytes) = bytes.split_first_chunk()?;
        let height = take_u32(&mut bytes)?;
        let access = AccessId(take_u32(&mut bytes)?);
        let (count, bytes) = bytes.split_first_chunk()?;
        let parents_bytes = usize::from(u16::from_le_bytes(*count)) * 4;
        let (parents, encoded) = bytes.split_at_checked(parents_bytes)?;
        Some(Self {
            id: EntryId::from_bytes(*id),
            height,
            access,
            parents: parents.as_chunks().0,
            encoded,
        })
    }

    /// Returns the node, or `None` if its parents are not below `at`.
    pub(super) fn node(&self, at: Arrival) -> Option<Node> {
        Some(Node {
            id: self.id,
            parents: read_arrivals(self.parents.as_flattened(), at.0)?,
            height: self.height,
            access: self.access,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: EntryId::from_bytes([7; 32]),
            parents: vec![Arrival(3), Arrival(70_000)],
            height: 9,
            access: AccessId(2),
        }
    }

    #[test]
    fn a_record_comes_back() {
        let mut bytes = Vec::new();
        Record::write(&node(), b"entry", &mut bytes);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.encoded, b"entry");
        assert_eq!(record.node(Arrival(70_001)), Some(node()));
        assert_eq!(record.node(Arrival(70_000)), None, "a parent of itself");
    }

    #[test]
    fn a_record_cut_anywhere_is_noticed_or_a_shorter_entry() {
        let mut bytes = Vec::new();
        Record::write(&node(), b"entry", &mut bytes);
        let header_bytes = bytes.len() - b"entry".len();
        for length in 0..bytes.len() {
            let parsed = Record::parse(&bytes[..length]);
            assert_eq!(parsed.is_some(), length >= header_bytes, "at {length}");
        }
    }

    #[test]
    fn a_head_comes_back_and_damage_shows() {
        let head = Head {
            entry_count: 9,
            access_count: 12,
            ledger_count: 1,
            tip_count: 2,
            settled_count: 4,
        };
        let bytes = head.to_bytes();
        assert_eq!(Head::parse(&bytes), Some(head));
        assert_eq!(Head::parse(&bytes[..bytes.len() - 1]), None);
        let beyond = Head {
            tip_count: 10,
            ..Head::parse(&bytes).unwrap()
        };
        assert_eq!(Head::parse(&beyond.to_bytes()), None);
    }
}
