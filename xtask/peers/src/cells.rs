//! Rateless set reconciliation, by the `riblt` crate: A streams coded symbols until B can tell what
//! A lacks, and B answers with that.
//!
//! The crate makes the coded symbols and says which can be peeled. Its own decoder wants a finished
//! sequence and takes quadratic time, so the one that takes symbol after symbol is here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use riblt::{CodedSymbol, RandomMapping, RatelessIBLT, Symbol};

use crate::peer::{Cost, Peer, start};
use crate::workload::{Pair, Side};

/// The first eight bytes of an id. Enough to tell a hundred thousand entries apart that nobody
/// chose with ill intent; whole ids would more than double the length of a coded symbol.
#[derive(Debug, Clone)]
struct ShortId(u64);

impl Symbol for ShortId {
    const BYTE_ARRAY_LENGTH: usize = size_of::<u64>();

    fn encode_to_bytes(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn decode_from_bytes(bytes: &Vec<u8>) -> Self {
        let bytes = bytes.as_slice().try_into();
        Self(u64::from_le_bytes(
            bytes.expect("of the length given above"),
        ))
    }
}

/// The stream ends with the very symbol that B needed: what is under way by then is not counted.
pub struct Cells;

impl Peer for Cells {
    fn names(&self) -> &'static [&'static str] {
        &["riblt"]
    }

    fn fetch(&self, pair: &Pair) -> Result<Vec<Cost>, String> {
        let [a_ids, b_ids] = [Side::A, Side::B].map(|side| short_ids(pair, side));
        // No stream takes three symbols for each difference, except the shortest.
        let symbols_max = 3 * (a_ids.len() + b_ids.len()) + 100;
        let began = start();
        let mut a = RatelessIBLT::new(a_ids);
        let mut b = RatelessIBLT::new(b_ids);
        let mut decoder = Decoder::default();
        let mut cost = Cost {
            round_trips: 1,
            ..Cost::default()
        };
        while !decoder.is_done() {
            let index = decoder.cells.len();
            if index == symbols_max {
                return Err("riblt: the symbols do not come to an end".into());
            }
            let sent = a.get_coded_symbol(index);
            cost.negotiation_bytes += wire_bytes(&sent);
            decoder.push(b.get_coded_symbol(index).collapse(&sent));
        }
        cost.elapsed = began.elapsed();
        match decoder.only_local == pair.missing() {
            true => Ok(vec![cost]),
            false => Err("riblt: it found another difference".into()),
        }
    }
}

fn short_ids(pair: &Pair, side: Side) -> Vec<ShortId> {
    let short = |entry: u32| ShortId(pair.entries[entry as usize].get().id().prefix());
    pair.order(side).into_iter().map(short).collect()
}

/// Returns the bytes of a symbol on the wire: sum, checksum, and the count in seven bits a byte.
fn wire_bytes(symbol: &CodedSymbol<ShortId>) -> u64 {
    let count_bits = u64::BITS - symbol.count.unsigned_abs().leading_zeros();
    let count_bytes = (count_bits + 1).div_ceil(7);
    (ShortId::BYTE_ARRAY_LENGTH + size_of::<u64>()) as u64 + u64::from(count_bytes)
}

/// Finds the difference in coded symbols from which the own ones have been subtracted.
#[derive(Default)]
struct Decoder {
    cells: Vec<CodedSymbol<ShortId>>,
    /// Where each id that was found comes next, beyond the cells that there are.
    ahead: BinaryHeap<Reverse<(usize, usize)>>,
    found: Vec<(ShortId, i64, RandomMapping)>,
    only_local: u64,
}

impl Decoder {
    fn push(&mut self, cell: CodedSymbol<ShortId>) {
        let index = self.cells.len();
        self.cells.push(cell);
        while let Some(Reverse((at, number))) = self.ahead.peek().copied()
            && at == index
        {
            self.ahead.pop();
            let (id, count, places) = &mut self.found[number];
            take_out(&mut self.cells[index], id, *count);
            let next = places.next().expect("the places never end");
            self.ahead.push(Reverse((next, number)));
        }
        let mut changed = vec![index];
        while let Some(at) = changed.pop() {
            let cell = &self.cells[at];
            if cell.is_peelable() {
                let (id, count) = (ShortId::decode_from_bytes(&cell.sum), cell.count);
                self.only_local += u64::from(count > 0);
                self.peel(id, count, &mut changed);
            }
        }
    }

    fn peel(&mut self, id: ShortId, count: i64, changed: &mut Vec<usize>) {
        let mut places = RandomMapping::new(&id);
        let ahead = loop {
            let at = places.next().expect("the places never end");
            let Some(cell) = self.cells.get_mut(at) else {
                break at;
            };
            take_out(cell, &id, count);
            changed.push(at);
        };
        self.ahead.push(Reverse((ahead, self.found.len())));
        self.found.push((id, count, places));
    }

    /// Every id is in the first cell, so that it is empty when all are found.
    fn is_done(&self) -> bool {
        self.cells.first().is_some_and(CodedSymbol::is_empty)
    }
}

fn take_out(cell: &mut CodedSymbol<ShortId>, id: &ShortId, count: i64) {
    for (sum, byte) in cell.sum.iter_mut().zip(id.0.to_le_bytes()) {
        *sum ^= byte;
    }
    cell.hash ^= id.hash_();
    cell.count -= count;
}
