//! What is inside a batch: compressed or not, a fuzzer rarely gets there by itself.

use eidetica_dag::testing::fuzz::Input;
use eidetica_dag::varint;

use super::batches::batch;
use crate::batch::COMPRESSION_RATIO_MAX;
use crate::compression::{compress, compress_purely};

/// Most repetitions of the records: with 255 parents in each, twice what a batch may unpack to.
const TIMES_MAX: usize = 256;

/// Most records of which the repeated bytes may consist.
const RECORDS_MAX: u8 = 4;

/// Puts records and payloads into a batch that is well formed around them, and unpacks it.
///
/// The input is mode, how often the records are repeated and how many there are of them, the number
/// of authors and of other parents, how many bytes more or less the batch claims to hold, how many
/// bytes of records there are, those, and the payloads.
pub fn batch_records(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let is_compressed = input.byte() & 1 == 1;
    let times = input.below(TIMES_MAX) + 1;
    let entries = times * usize::from(input.byte() % RECORDS_MAX + 1);
    let (authors, externals) = (input.byte(), input.byte());
    let lie = i64::from(input.byte() as i8);
    let record_bytes = input.number().into();
    let mut raw = input.take(record_bytes).repeat(times);
    raw.extend_from_slice(input.rest());

    let mut packed = raw.clone();
    if is_compressed && !compress(&raw, &mut packed) {
        packed = compress_purely(&raw);
    }
    let mut bytes = vec![u8::from(is_compressed)];
    let claimed = (raw.len() as u64).saturating_add_signed(lie);
    bytes.extend(varint(packed.len() as u64));
    bytes.extend(varint(claimed));
    bytes.extend(varint(entries as u64));
    bytes.extend(varint(authors.into()));
    bytes.extend(varint(externals.into()));
    let hashes = (0..authors).chain(0..externals);
    bytes.extend(hashes.flat_map(|number| [number; 32]));
    bytes.resize(bytes.len() + 64 * entries, 0xee);
    bytes.extend_from_slice(&packed);
    let is_understood = batch(&bytes);
    assert!(!is_understood || raw.len() <= packed.len() * COMPRESSION_RATIO_MAX);
    is_understood
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::put(&mut bytes, number);
    bytes
}

/// Records of entries on top of each other, with one or many other parents, and with payloads.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let plan = |mode: u8, times: u8, [authors, externals]: [u8; 2], records: &[u8], rest: &[u8]| {
        let [low, high] = (records.len() as u16).to_le_bytes();
        let head = [mode, times - 1, 0, 0, authors, externals, 0, low, high];
        [&head[..], records, rest].concat()
    };
    // Author 0, one higher, one earlier, no payload, one parent: the first external.
    let bare = [0, 2, 1, 0, 1, 1];
    let with_payload = [0, 2, 1, 3 << 2, 1, 1];
    // An extension of kind 300.
    let extension = [0, 2, 1, 3 << 2 | 3, 0xac, 0x02, 1, 1];
    let others = (0..200).flat_map(|external: u64| varint(external * 2 + 1));
    let head = [0, 2, 1, 0].into_iter().chain(varint(200));
    let many: Vec<u8> = head.chain(others).collect();
    vec![
        plan(0, 1, [1, 1], &bare, b""),
        plan(1, 30, [1, 1], &bare, b""),
        plan(0, 3, [2, 1], &with_payload, b"onetwosix"),
        plan(1, 5, [1, 200], &many, b""),
        plan(0, 3, [2, 1], &extension, b"onetwosix"),
    ]
}
