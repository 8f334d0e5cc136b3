//! How long an answer takes, and how little that depends on the length of the history.
//!
//! One tree grows from ten thousand entries on, in memory and on disk. At each size the answerer
//! gets ten more entries than the asker has: at the end of the line, or as a branch from near the
//! root that arrives last. The asker has written nothing, so that its tips are known, or ten
//! entries of its own, so that only its filter says what it has.

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{key, open_genesis};
use eidetica_dag::{Body, Role, SecretKey, TreeId, VerifiedEntry};
use eidetica_proto::answer::{answer_sync, check_access};
use eidetica_proto::message::{Request, RequestHeader, SyncTree};
use eidetica_proto::{LogId, Step, SyncOptions, SyncSession};
use eidetica_sync::store::{MemoryStore, RedbStore, Snapshot, Store};

use xtask_support::figures::quantile_ms;
use xtask_support::report::{Table, Target, decimals, grouped};
use xtask_support::{failed, now};

/// Stands for the answerer's log. No cursor is used here.
const ANY_LOG: LogId = LogId::from_bytes([0; 8]);

/// How many entries the tree has where answers are measured.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];

/// The first sizes, which signing reaches within seconds.
const QUICK_SIZES: usize = 2;

/// Entries that the asker lacks, and those that it wrote itself.
const MISSING: u32 = 10;

/// Most entries that an answer sends: the missing ones, and a few redundant ones.
const SENT_MAX: u32 = 60;

/// The entry from which the late branch starts.
const NEAR_ROOT: usize = 5;

const PAYLOAD_BYTES: usize = 200;

/// Entries in one append while the tree grows. Larger batches write faster.
const GROWTH_BATCH: usize = 50_000;

/// How often each answer is timed. The median counts.
const REPEATS: usize = 51;

const MEMORY_US_MAX: f64 = 1_000.0;
const REDB_US_MAX: f64 = 5_000.0;
const RATIO_MAX: f64 = 3.0;

struct Figure {
    store: &'static str,
    case: String,
    entries: u32,
    median_us: f64,
}

/// Measures answers at every size; at a million entries only if `large`.
pub fn measure(large: bool) -> Result<(Table, Vec<Target>), String> {
    let sizes = if large {
        &SIZES[..]
    } else {
        &SIZES[..QUICK_SIZES]
    };
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut growing =
        Growing::new(RedbStore::open(folder.path().join("answering")).map_err(failed)?)?;
    let mut figures = Vec::new();
    for size in sizes {
        eprintln!("answering at {size} entries …");
        growing.grow_to(*size)?;
        for at_end in [true, false] {
            growing.measure(at_end, &mut figures)?;
        }
    }
    Ok(judge(&figures))
}

/// A line of entries in three stores: two that answer, and one that asks.
struct Growing {
    tree: TreeId,
    key: SecretKey,
    /// The line's first entries.
    first: Vec<VerifiedEntry>,
    /// What the next entry merges.
    tips: Vec<VerifiedEntry>,
    entries: u32,
    memory: MemoryStore,
    redb: RedbStore,
    asker: MemoryStore,
}

impl Growing {
    fn new(redb: RedbStore) -> Result<Self, String> {
        let key = key(0);
        let root = sign_on_top(None, [], &key, 0, open_genesis("answering"));
        let growing = Self {
            tree: root.get().tree(),
            key,
            first: vec![root.clone()],
            tips: vec![root.clone()],
            entries: 1,
            memory: MemoryStore::new(),
            redb,
            asker: MemoryStore::new(),
        };
        growing.append(&growing.stores(), vec![root])?;
        Ok(growing)
    }

    fn stores(&self) -> [&dyn Store; 3] {
        [&self.memory, &self.redb, &self.asker]
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

    fn sign(&self, parents: &[VerifiedEntry], nonce: u32) -> VerifiedEntry {
        let body = Body::Data(Bytes::from(vec![nonce as u8; PAYLOAD_BYTES]));
        sign_on_top(Some(self.tree), parents, &self.key, nonce.into(), body)
    }

    /// Signs entries in a line on top of others.
    fn line(&self, on_top_of: &[VerifiedEntry], count: u32, nonce: u32) -> Vec<VerifiedEntry> {
        let mut line: Vec<VerifiedEntry> = Vec::with_capacity(count as usize);
        for step in 0..count {
            let parents = line.last().map_or(on_top_of, std::slice::from_ref);
            line.push(self.sign(parents, nonce.wrapping_add(step)));
        }
        line
    }

    /// Makes the line longer, in all stores.
    fn grow_to(&mut self, size: u32) -> Result<(), String> {
        while self.entries < size {
            let count = (size - self.entries).min(GROWTH_BATCH as u32);
            let line = self.line(&self.tips, count, self.entries);
            if self.first.len() <= NEAR_ROOT {
                self.first.extend(line.iter().take(NEAR_ROOT).cloned());
            }
            self.tips = line[line.len() - 1..].to_vec();
            self.entries += count;
            self.append(&self.stores(), line)?;
        }
        Ok(())
    }

    /// Gives the answerers ten entries and asks for them, before and after the asker writes.
    fn measure(&mut self, at_end: bool, figures: &mut Vec<Figure>) -> Result<(), String> {
        const THEIRS: u32 = 1 << 30;
        const OWN: u32 = 1 << 31;
        let (on_top_of, place) = match at_end {
            true => (self.tips.clone(), "at the end"),
            false => (
                vec![self.first[NEAR_ROOT].clone()],
                "late branch near the root",
            ),
        };
        let theirs = self.line(&on_top_of, MISSING, THEIRS | self.entries);
        self.append(&self.stores()[..2], theirs.clone())?;
        self.measure_answers(format!("{place}, tips known"), figures)?;
        let own = self.line(&on_top_of, MISSING, OWN | self.entries);
        self.append(&self.stores()[2..], own.clone())?;
        self.measure_answers(format!("{place}, both wrote"), figures)?;

        self.append(&self.stores()[2..], theirs.clone())?;
        self.append(&self.stores()[..2], own.clone())?;
        // The line goes on from everything, so that the next case finds one tip.
        if at_end {
            self.tips.clear();
        }
        self.tips
            .extend([theirs, own].into_iter().filter_map(|mut line| line.pop()));
        let merge = self.sign(&self.tips, self.entries);
        self.append(&self.stores(), vec![merge.clone()])?;
        self.tips = vec![merge];
        self.entries += 2 * MISSING + 1;
        Ok(())
    }

    fn measure_answers(&self, case: String, figures: &mut Vec<Figure>) -> Result<(), String> {
        let asked = request(self.tree, &self.asker.snapshot(self.tree).map_err(failed)?)?;
        for (store, answerer) in [("memory", self.stores()[0]), ("redb", self.stores()[1])] {
            let mut times = Vec::with_capacity(REPEATS);
            for _ in 0..REPEATS {
                let began = now();
                let view = answerer.snapshot(self.tree).map_err(failed)?;
                check_access(&*view, None, Role::Read).map_err(failed)?;
                let answer = answer_sync(&*view, ANY_LOG, &asked).map_err(failed)?;
                let selection = answer.entries.ok_or("ten entries are missing")?;
                let sent = selection.entry_count();
                let mut outgoing = selection.outgoing();
                while outgoing.poll_frame(&*view).map_err(failed)?.is_some() {}
                times.push(began.elapsed());
                if !(MISSING..=SENT_MAX).contains(&sent) {
                    return Err(format!("{store}, {case}: {sent} entries are sent"));
                }
            }
            let (case, entries) = (case.clone(), self.entries);
            figures.push(Figure {
                store,
                case,
                entries,
                median_us: quantile_ms(&times, 0.5) * 1e3,
            });
        }
        Ok(())
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

/// Returns the table of the figures, and the targets.
fn judge(figures: &[Figure]) -> (Table, Vec<Target>) {
    let headings = &[
        "store",
        "missing 10 entries",
        "entries",
        "answer µs",
        "of that at 10,000",
    ];
    let mut table = Table::new("answering a peer that lacks 10 entries", headings);
    let mut fast =
        Target::new("10 missing entries are answered within 1 ms in memory, 5 ms on redb");
    let mut level = Target::new("an answer takes at most 3 times as long as at 10,000 entries");
    let mut sorted: Vec<&Figure> = figures.iter().collect();
    sorted.sort_by_key(|figure| (figure.store, &figure.case, figure.entries));
    // The first of each group is at the smallest size.
    for group in sorted.chunk_by(|a, b| (a.store, &a.case) == (b.store, &b.case)) {
        for figure in group {
            let Figure {
                store,
                case,
                entries,
                median_us,
            } = figure;
            let ratio = median_us / group[0].median_us;
            let place =
                || format!("{store}, {case}, {entries}: {median_us:.0} µs, {ratio:.1} times");
            let most = if *store == "memory" {
                MEMORY_US_MAX
            } else {
                REDB_US_MAX
            };
            fast.check(*median_us <= most, place);
            level.check(ratio <= RATIO_MAX, place);
            let entries = grouped((*entries).into());
            let row = [
                (*store).into(),
                case.clone(),
                entries,
                decimals(*median_us, 0),
            ];
            table.push(row.into_iter().chain([decimals(ratio, 2)]).collect());
        }
    }
    (table, vec![fast, level])
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
        let mut figures = Vec::new();
        growing.measure(true, &mut figures).unwrap();
        growing.measure(false, &mut figures).unwrap();
        assert_eq!(figures.len(), 8);
    }

    #[test]
    fn slow_answers_and_answers_that_grow_miss_their_targets() {
        let figure = |(entries, median_us)| Figure {
            store: "memory",
            case: "any".into(),
            entries,
            median_us,
        };
        let missed = |figures: &[(u32, f64)]| {
            let figures: Vec<Figure> = figures.iter().copied().map(figure).collect();
            judge(&figures)
                .1
                .iter()
                .map(|target| target.missed.len())
                .sum::<usize>()
        };
        assert_eq!(missed(&[(10, 300.0), (100, 900.0)]), 0);
        assert_eq!(missed(&[(10, 300.0), (100, 901.0)]), 1);
        assert_eq!(missed(&[(10, 1_001.0)]), 1);
    }
}
