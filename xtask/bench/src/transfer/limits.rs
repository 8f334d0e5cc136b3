//! What each step of a transfer can do at best: it alone, on one thread, on the same entries.

use std::path::Path;
use std::time::Duration;

use eidetica_dag::{VerifiedEntry, verify_batch};
use eidetica_proto::batch::{Packer, unpack};
use eidetica_proto::receiver::APPEND_BYTES_TARGET;
use eidetica_replicas::clock::timed;
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use sha2::{Digest, Sha256};
use xtask_support::report::{Cell, Table};
use xtask_support::{failed, now};

use crate::history::History;
use crate::nodes::StoreKind;

/// The time that each step took for the whole history.
#[derive(Default)]
pub struct Limits {
    entries: usize,
    hash: Spent,
    pack: Spent,
    unpack: Spent,
    verify: Spent,
    memory: Spent,
    redb: Spent,
}

/// Time on the wall and on a processor.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

impl Spent {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = now();
        let (result, cpu) = timed(work);
        self.wall += before.elapsed();
        self.cpu += cpu;
        result
    }
}

impl Limits {
    /// Measures every step. Leaves the history in a durable store at `file`.
    pub fn measure(history: &History, file: &Path) -> Result<Self, String> {
        let mut limits = Self {
            entries: history.entries.len(),
            ..Self::default()
        };
        limits.hash.measure(|| {
            for entry in &history.entries {
                std::hint::black_box(Sha256::digest(entry.get().encoded()));
            }
        });
        let batches = limits.pack.measure(|| pack(&history.entries));
        for batch in &batches {
            let entries = limits.unpack.measure(|| unpack(history.tree, batch));
            let entries = entries.map_err(failed)?;
            let verified = limits.verify.measure(|| verify_batch(entries));
            if let Some(forged) = verified.forged() {
                return Err(failed(forged));
            }
        }
        drop(batches);
        store(history, &MemoryStore::new(), &mut limits.memory)?;
        let redb = RedbStore::open(file).map_err(failed)?;
        store(history, &redb, &mut limits.redb)?;
        Ok(limits)
    }

    /// Returns the rate, in entries per second, that limits a transfer between stores of this kind:
    /// decoding with hashing, or the insertion into the durable store.
    pub fn of(&self, store: StoreKind) -> f64 {
        let limit = match store {
            StoreKind::Memory => self.unpack,
            StoreKind::Redb => self.redb,
        };
        self.entries as f64 / limit.wall.as_secs_f64()
    }

    /// Returns the figures.
    pub fn table(&self) -> Table {
        let mut table = Table::new(
            "Each step alone, on one thread",
            &[
                ("step", "step"),
                ("entries/s", "entries_per_second"),
                ("µs/entry", "wall_us_per_entry"),
                ("CPU µs/entry", "cpu_us_per_entry"),
            ],
        );
        for (step, spent) in [
            ("hashing", self.hash),
            ("packing", self.pack),
            ("unpacking: decoding and hashing", self.unpack),
            ("checking signatures", self.verify),
            ("insertion into memory", self.memory),
            ("insertion into redb, durable", self.redb),
        ] {
            let entries = self.entries as f64;
            table.push(vec![
                step.into(),
                Cell::Number(entries / spent.wall.as_secs_f64(), 0),
                Cell::Number(spent.wall.as_secs_f64() * 1e6 / entries, 2),
                Cell::Number(spent.cpu.as_secs_f64() * 1e6 / entries, 2),
            ]);
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

/// Inserts the history in the steps in which the engine does.
fn store(history: &History, store: &dyn Store, spent: &mut Spent) -> Result<(), String> {
    for step in history.steps(APPEND_BYTES_TARGET) {
        let batch = step.to_vec();
        let outcome = spent.measure(|| store.append(history.tree, batch));
        outcome.map_err(failed)?;
    }
    Ok(())
}
