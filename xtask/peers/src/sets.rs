//! Set reconciliation, by the crates `negentropy` (ranges) and `riblt` (rateless coded symbols). Both
//! know ids only.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use riblt::{CodedSymbol, RandomMapping, RatelessIBLT, Symbol};

use crate::pair::{Cost, Pair, Peer};

/// Ranges ordered by the authors' clocks, which are right here and in agreement: the best case.
pub struct Ranges;

impl Peer for Ranges {
    fn names(&self) -> &'static [&'static str] {
        &["negentropy, and a fetch by id"]
    }

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let cost = reconcile(pair).map_err(|error| format!("negentropy: {error}"))?;
        Ok(vec![cost])
    }
}

fn reconcile(pair: &Pair<'_>) -> Result<Cost, Box<dyn std::error::Error>> {
    let storage = |order: &[u32]| -> Result<_, negentropy::Error> {
        let mut storage = NegentropyStorageVector::new();
        for entry in order {
            let id = pair.world.entries[*entry as usize].get().id();
            let clock = pair.world.clock[*entry as usize];
            storage.insert(clock.into(), Id::from_byte_array(*id.as_bytes()))?;
        }
        storage.seal()?;
        Ok(storage)
    };
    let mut a = Negentropy::owned(storage(&pair.orders[0])?, 0)?;
    let mut b = Negentropy::owned(storage(&pair.orders[1])?, 0)?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut cost = Cost::default();
    let mut message = Some(a.initiate()?);
    while let Some(question) = message {
        let answer = b.reconcile(&question)?;
        cost.round_trips += 1;
        cost.bytes += (question.len() + answer.len()) as u64;
        message = a.reconcile_with_ids(&answer, &mut have, &mut need)?;
    }
    let needed: BTreeSet<&Id> = need.iter().collect();
    if needed.len() as u64 != pair.missing {
        return Err("it found another difference".into());
    }
    if !need.is_empty() {
        // Ids are known by then, entries are not: they are asked for by id.
        cost.round_trips += 1;
        cost.bytes += (need.len() * size_of::<Id>()) as u64;
    }
    Ok(cost)
}

/// The first eight bytes of an id. Enough to distinguish a hundred thousand entries that were
/// not chosen with ill intent; whole ids would more than double the length of a coded symbol.
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

/// A streams coded symbols until B can tell what A lacks. The stream ends with the very symbol that B
/// needed: entries under way by then are not counted.
///
/// The crate makes the coded symbols and says which can be peeled. Its own decoder wants a finished
/// sequence and takes quadratic time, so one that takes symbol after symbol is here.
pub struct Cells;

impl Peer for Cells {
    fn names(&self) -> &'static [&'static str] {
        &["rateless IBLT (riblt)"]
    }

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let short = |entry: &u32| ShortId(pair.world.entries[*entry as usize].get().id().prefix());
        let [a_ids, b_ids] =
            [0, 1].map(|side| pair.orders[side].iter().map(short).collect::<Vec<_>>());
        // No stream takes three symbols for each difference, except the shortest.
        let symbols_max = 3 * (a_ids.len() + b_ids.len()) + 100;
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
            // Sum, checksum, and the count in seven bits a byte.
            let count_bits = u64::BITS - sent.count.unsigned_abs().leading_zeros();
            cost.bytes += 16 + u64::from((count_bits + 1).div_ceil(7));
            decoder.push(b.get_coded_symbol(index).collapse(&sent));
        }
        match decoder.only_local == pair.missing {
            true => Ok(vec![cost]),
            false => Err("riblt: it found another difference".into()),
        }
    }
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
