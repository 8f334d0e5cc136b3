//! Range-based set reconciliation, by the `negentropy` crate.

use std::collections::HashSet;

use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::peer::{Cost, Peer, start};
use crate::workload::{Pair, Side};

/// Ordered by the authors' clocks, which are right here and in agreement: the best case.
pub struct Ranges;

impl Peer for Ranges {
    fn names(&self) -> &'static [&'static str] {
        &["negentropy"]
    }

    fn fetch(&self, pair: &Pair) -> Result<Vec<Cost>, String> {
        reconcile(pair)
            .map(|cost| vec![cost])
            .map_err(|error| format!("negentropy: {error}"))
    }
}

fn reconcile(pair: &Pair) -> Result<Cost, Box<dyn std::error::Error>> {
    let mut a = Negentropy::owned(storage(pair, Side::A)?, 0)?;
    let mut b = Negentropy::owned(storage(pair, Side::B)?, 0)?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut cost = Cost::default();
    let began = start();
    let mut message = Some(a.initiate()?);
    while let Some(question) = message {
        let answer = b.reconcile(&question)?;
        cost.round_trips += 1;
        cost.negotiation_bytes += (question.len() + answer.len()) as u64;
        message = a.reconcile_with_ids(&answer, &mut have, &mut need)?;
    }
    cost.elapsed = began.elapsed();
    let needed: HashSet<Id> = need.iter().copied().collect();
    if needed.len() as u64 != pair.missing() {
        return Err("it found another difference".into());
    }
    if !need.is_empty() {
        // Ids are known by then, entries are not: they are asked for by id.
        cost.round_trips += 1;
        cost.negotiation_bytes += (need.len() * size_of::<Id>()) as u64;
    }
    Ok(cost)
}

fn storage(pair: &Pair, side: Side) -> Result<NegentropyStorageVector, negentropy::Error> {
    let mut storage = NegentropyStorageVector::new();
    for entry in pair.order(side) {
        let id = pair.entries[entry as usize].get().id();
        let clock = pair.world.clock[entry as usize];
        storage.insert(clock.into(), Id::from_byte_array(*id.as_bytes()))?;
    }
    storage.seal()?;
    Ok(storage)
}
