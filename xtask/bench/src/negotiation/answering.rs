//! How long an answer takes, and how little that depends on the length of the history.
//!
//! One tree grows from ten thousand entries on, in memory and on disk. At each size both sides write
//! ten entries: at the end of the line, or as a branch from the root that arrives last.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{key, open_genesis};
use eidetica_dag::{Body, Role, TreeId, VerifiedEntry};
use eidetica_proto::answer::{answer_sync, check_access};
use eidetica_proto::message::{Request, RequestHeader, SyncTree};
use eidetica_proto::{LogId, Step, SyncOptions, SyncSession};
use eidetica_sync::store::{MemoryStore, RedbStore, Snapshot, Store};

use xtask_support::figures::quantile_ms;
use xtask_support::report::{Table, Target, decimals, grouped};
use xtask_support::{failed, now};

/// Stands for the server's log. No cursor is used here.
const ANY_LOG: LogId = LogId::from_bytes([0; 8]);

/// How many entries the tree has where answers are measured. Signing them takes a minute.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];

/// Entries that the client lacks, and those that it wrote itself.
const MISSING: u32 = 10;

/// Most entries that an answer sends: the missing ones, and a few redundant ones.
const SENT_MAX: u32 = 60;

const PAYLOAD_BYTES: usize = 200;

/// Entries in one append while the tree grows. Larger batches write faster.
const GROWTH_BATCH: u32 = 50_000;

/// How often each answer is timed. The median counts.
const REPEATS: usize = 51;

const MEMORY_US_MAX: f64 = 1_000.0;
const REDB_US_MAX: f64 = 5_000.0;
const RATIO_MAX: f64 = 3.0;

/// Measures answers at every size.
pub fn measure() -> Result<(Table, Vec<Target>), String> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut growing =
        Growing::new(RedbStore::open(folder.path().join("answering")).map_err(failed)?)?;
    for size in SIZES {
        eprintln!("answering at {size} entries …");
        growing.grow_to(size)?;
        growing.measure()?;
    }
    Ok((growing.table, growing.targets.into()))
}

/// A line of entries in three stores: two that answer, and one that asks.
struct Growing {
    tree: TreeId,
    root: VerifiedEntry,
    tip: VerifiedEntry,
    entries: u32,
    memory: MemoryStore,
    redb: RedbStore,
    client: MemoryStore,
    /// The medians at the smallest size, in µs.
    at_first: BTreeMap<(&'static str, &'static str), f64>,
    table: Table,
    targets: [Target; 2],
}

impl Growing {
    fn new(redb: RedbStore) -> Result<Self, String> {
        let root = sign_on_top(None, [], &key(0), 0, open_genesis("answering"));
        let headings = &[
            "missing 10 entries",
            "store",
            "entries",
            "answer µs",
            "of that at 10,000",
        ];
        let targets = [
            "10 missing entries are answered within 1 ms in memory, 5 ms on redb",
            "an answer takes at most 3 times as long as at 10,000 entries",
        ];
        let growing = Self {
            tree: root.get().tree(),
            tip: root.clone(),
            root: root.clone(),
            entries: 1,
            memory: MemoryStore::new(),
            redb,
            client: MemoryStore::new(),
            at_first: BTreeMap::new(),
            table: Table::new("answering a peer that lacks 10 entries", headings),
            targets: targets.map(Target::new),
        };
        growing.append(&growing.stores(), vec![root])?;
        Ok(growing)
    }

    fn stores(&self) -> [&dyn Store; 3] {
        [&self.memory, &self.redb, &self.client]
    }

    fn append(&self, stores: &[&dyn Store], entries: Vec<VerifiedEntry>) -> Result<(), String> {
        for store in stores {
            let outcome = store.append(self.tree, entries.clone()).map_err(failed)?;
            if outcome.refused.is_some() || !outcome.waiting.is_empty() {
                return Err("a store does not take an entry".to_owned());
            }
        }
        Ok(())
    }

    fn sign(&self, parents: &[&VerifiedEntry], nonce: u32) -> VerifiedEntry {
        let body = Body::Data(Bytes::from(vec![nonce as u8; PAYLOAD_BYTES]));
        let parents = parents.iter().copied();
        sign_on_top(Some(self.tree), parents, &key(0), nonce.into(), body)
    }

    /// Signs entries in a line on top of another.
    fn line(&self, on_top_of: &VerifiedEntry, count: u32, nonce: u32) -> Vec<VerifiedEntry> {
        let mut line: Vec<VerifiedEntry> = Vec::with_capacity(count as usize);
        for step in 0..count {
            let parent = line.last().unwrap_or(on_top_of);
            line.push(self.sign(&[parent], nonce.wrapping_add(step)));
        }
        line
    }

    /// Makes the line longer, in all stores.
    fn grow_to(&mut self, size: u32) -> Result<(), String> {
        while self.entries < size {
            let count = (size - self.entries).min(GROWTH_BATCH);
            let line = self.line(&self.tip, count, self.entries);
            self.tip = line[line.len() - 1].clone();
            self.entries += count;
            self.append(&self.stores(), line)?;
        }
        Ok(())
    }

    /// Gives the servers ten entries, at the end of the line and then on the root, and asks for
    /// them after the client wrote.
    fn measure(&mut self) -> Result<(), String> {
        const THEIRS: u32 = 1 << 30;
        const OWN: u32 = 1 << 31;
        for (on_top_of, case) in [
            (self.tip.clone(), "at the end"),
            (self.root.clone(), "late branch from the root"),
        ] {
            let theirs = self.line(&on_top_of, MISSING, THEIRS | self.entries);
            let own = self.line(&on_top_of, MISSING, OWN | self.entries);
            self.append(&self.stores()[..2], theirs.clone())?;
            self.append(&self.stores()[2..], own.clone())?;
            for (name, most_us) in [("memory", MEMORY_US_MAX), ("redb", REDB_US_MAX)] {
                let median_us = self.answer(name)?;
                let at_first = self.at_first.entry((case, name)).or_insert(median_us);
                let ratio = median_us / *at_first;
                let row = [case.into(), name.into(), grouped(self.entries.into())].into_iter();
                let row = row.chain([decimals(median_us, 0), decimals(ratio, 2)]);
                let row: Vec<String> = row.collect();
                self.targets[0].check(median_us <= most_us, || row.join(", "));
                self.targets[1].check(ratio <= RATIO_MAX, || row.join(", "));
                self.table.push(row);
            }
            self.append(&self.stores()[2..], theirs.clone())?;
            self.append(&self.stores()[..2], own.clone())?;
            // The line goes on from everything, so that the next case finds one tip.
            let (theirs, own) = (&theirs[theirs.len() - 1], &own[own.len() - 1]);
            let tips = [&self.tip, theirs, own];
            let is_below = usize::from(on_top_of == self.tip);
            let merge = self.sign(&tips[is_below..], self.entries);
            self.append(&self.stores(), vec![merge.clone()])?;
            self.tip = merge;
            self.entries += 2 * MISSING + 1;
        }
        Ok(())
    }

    /// Returns the median time of an answer from a store, in µs.
    fn answer(&self, name: &str) -> Result<f64, String> {
        let asked = request(self.tree, &self.client.snapshot(self.tree).map_err(failed)?)?;
        let server = self.stores()[usize::from(name == "redb")];
        let mut times = Vec::with_capacity(REPEATS);
        for _ in 0..REPEATS {
            let began = now();
            let view = server.snapshot(self.tree).map_err(failed)?;
            check_access(&*view, None, Role::Read).map_err(failed)?;
            let answer = answer_sync(&*view, ANY_LOG, &asked).map_err(failed)?;
            let selection = answer.entries.ok_or("ten entries are missing")?;
            let sent = selection.entry_count();
            let mut outgoing = selection.outgoing();
            while outgoing.poll_frame(&*view).map_err(failed)?.is_some() {}
            times.push(began.elapsed());
            if !(MISSING..=SENT_MAX).contains(&sent) {
                return Err(format!("{name}: {sent} entries are sent"));
            }
        }
        Ok(quantile_ms(&times, 0.5) * 1e3)
    }
}

/// Makes the request by which a sync begins.
fn request(tree: TreeId, snapshot: &Snapshot) -> Result<SyncTree, String> {
    let mut session = SyncSession::new(tree, SyncOptions::default(), *b"any seed");
    session
        .handle_view(&**snapshot)
        .map_err(failed)?
        .map_err(failed)?;
    let Step::Exchange { header, .. } = session.poll_step() else {
        return Err("a sync begins with a request".to_owned());
    };
    match RequestHeader::decode(&header).map_err(failed)?.request {
        Request::SyncTree(asked) => Ok(asked),
        other => Err(format!("a sync does not begin with {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_entries_are_asked_for_in_every_case() {
        let folder = tempfile::tempdir().unwrap();
        let store = RedbStore::open(folder.path().join("store")).unwrap();
        let mut growing = Growing::new(store).unwrap();
        growing.grow_to(700).unwrap();
        growing.measure().unwrap();
        assert_eq!(growing.at_first.len(), 4);
    }
}
