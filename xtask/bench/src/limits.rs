//! What each step of a transfer can do at best: it alone, on one thread, on the same entries.

use std::path::Path;
use std::time::Duration;

use eidetica_dag::{VerifiedEntry, verify_batch};
use eidetica_proto::batch::{Packer, unpack};
use eidetica_proto::receiver::APPEND_BYTES_TARGET;
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use sha2::{Digest, Sha256};
use xtask_support::report::{Table, decimals};
use xtask_support::{failed, now};

use crate::clock::process_cpu;
use crate::history::History;

/// The steps, in the order of a transfer.
const STEPS: [&str; 6] = [
    "hashing",
    "packing",
    "unpacking: decoding and hashing",
    "checking signatures",
    "insertion into memory",
    "insertion into redb, durable",
];
const HASH: usize = 0;
const PACK: usize = 1;
const UNPACK: usize = 2;
const VERIFY: usize = 3;
const MEMORY: usize = 4;
const REDB: usize = 5;

/// The time that each step took for the whole history: on the wall and on a processor.
#[derive(Default)]
pub struct Limits {
    entries: usize,
    spent: [(Duration, Duration); STEPS.len()],
}

impl Limits {
    /// Measures every step. Leaves the history in a durable store at `file`.
    pub fn measure(history: &History, file: &Path) -> Result<Self, String> {
        let mut limits = Self {
            entries: history.entries.len(),
            ..Self::default()
        };
        limits.time(HASH, || {
            for entry in &history.entries {
                std::hint::black_box(Sha256::digest(entry.get().encoded()));
            }
        });
        let batches = limits.time(PACK, || pack(&history.entries));
        for batch in &batches {
            let entries = limits
                .time(UNPACK, || unpack(history.tree, batch))
                .map_err(failed)?;
            let verified = limits.time(VERIFY, || verify_batch(entries));
            if let Some(forged) = verified.forged() {
                return Err(failed(forged));
            }
        }
        drop(batches);
        let redb = RedbStore::open(file).map_err(failed)?;
        let stores: [(usize, &dyn Store); 2] = [(MEMORY, &MemoryStore::new()), (REDB, &redb)];
        for (step, store) in stores {
            // In the steps in which the engine stores.
            for batch in history.steps(APPEND_BYTES_TARGET) {
                let batch = batch.to_vec();
                limits
                    .time(step, || store.append(history.tree, batch))
                    .map_err(failed)?;
            }
        }
        Ok(limits)
    }

    fn time<T>(&mut self, step: usize, work: impl FnOnce() -> T) -> T {
        let (before, cpu) = (now(), process_cpu());
        let result = work();
        let (wall, on_cpu) = &mut self.spent[step];
        *on_cpu += process_cpu() - cpu;
        *wall += before.elapsed();
        result
    }

    fn rate(&self, step: usize) -> f64 {
        self.entries as f64 / self.spent[step].0.as_secs_f64()
    }

    /// Returns the rate of insertion into a durable store, in entries per second.
    pub fn insertion(&self) -> f64 {
        self.rate(REDB)
    }

    /// Returns the rate of decoding and hashing, in entries per second.
    pub fn unpacking(&self) -> f64 {
        self.rate(UNPACK)
    }

    /// Returns the figures.
    pub fn table(&self) -> Table {
        let headings = &["step", "entries/s", "µs of one core for each entry"];
        let mut table = Table::new("each step alone, on one thread", headings);
        for (step, (_, cpu)) in self.spent.iter().enumerate() {
            let cpu_us = cpu.as_secs_f64() * 1e6 / self.entries as f64;
            let row = [
                STEPS[step].into(),
                decimals(self.rate(step), 0),
                decimals(cpu_us, 2),
            ];
            table.push(row.into());
        }
        table
    }
}

fn pack(entries: &[VerifiedEntry]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new();
    let mut batches = Vec::new();
    for entry in entries {
        if !packer.has_room_for(entry.get().encoded().len()) {
            batches.push(packer.finish());
        }
        packer.push(entry.get());
    }
    batches.push(packer.finish());
    batches
}
