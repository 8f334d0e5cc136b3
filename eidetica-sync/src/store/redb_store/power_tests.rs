//! Power cuts: what was acknowledged is there afterwards, whatever became of the rest.
//!
//! `EIDETICA_POWER_CUTS` sets how many cuts are tried.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use eidetica_dag::testing::{Random, key, open_genesis, shapes::sign_on_top};
use eidetica_dag::{Arrival, Body, VerifiedEntry};
use redb::StorageBackend;

use super::*;

/// How many cuts are tried by default.
const CUTS: u32 = 500;

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// Entries in each step of a run, and steps.
const STEP_ENTRIES: usize = 3;
const STEPS: usize = 6;

/// A disk that loses power.
///
/// What was written and not synced may reach it or not, sector by sector and in any order: an older
/// version of a sector can stay where a newer one was lost, and a file can have its old length.
#[derive(Debug, Clone)]
struct PowerDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What reads give.
    seen: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    /// How many more writes and syncs there are before the cut.
    left: u64,
    done: u64,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, mut is_kept: impl FnMut() -> bool) {
        match self {
            Self::Length(length) => {
                if is_kept() {
                    file.resize(*length, 0);
                }
            }
            Self::Write(offset, data) => {
                for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    let start = offset + index * SECTOR_BYTES;
                    if is_kept() {
                        let end = start + sector.len();
                        if file.len() < end {
                            file.resize(end, 0);
                        }
                        file[start..end].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

impl PowerDisk {
    /// Makes a disk with an empty store. A file is made apart from its name, so no cut finds half of
    /// one: see [`RedbStoreBuilder::open`].
    fn new() -> Self {
        let disk = Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            seen: Vec::new(),
            pending: Vec::new(),
            left: u64::MAX,
            done: 0,
        })));
        drop(disk.open().expect("the power stays"));
        disk.state().done = 0;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<RedbStore, StoreError> {
        let disk = self.clone();
        RedbStore::builder().open_with(Path::new("in memory"), move |builder| {
            builder.create_with_backend(disk.clone())
        })
    }

    /// Lets the power fail after so many writes and syncs.
    fn cut_after(&self, left: u64) {
        self.state().left = left;
    }

    /// The power is back; what was not synced is what the disk made of it.
    fn restart(&self, random: &mut Random) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        let mut file = std::mem::take(&mut state.durable);
        // Some disks keep nearly all, some nearly nothing.
        let of_eight = random.below(9);
        for change in pending {
            change.apply(&mut file, || random.below(8) < of_eight);
        }
        state.seen.clone_from(&file);
        state.durable = file;
        state.left = u64::MAX;
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.left == 0 {
            return Err(io::Error::other("there is no power"));
        }
        self.left -= 1;
        self.done += 1;
        Ok(())
    }
}

impl StorageBackend for PowerDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let found = state.seen.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        // The change that is cut may reach the disk, too.
        state.pending.push(Change::Length(len as usize));
        state.step()?;
        state.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.pending.clear();
        state.durable = state.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let change = Change::Write(offset as usize, data.to_vec());
        let stepped = state.step();
        if stepped.is_ok() {
            change.apply(&mut state.seen, || true);
        }
        state.pending.push(change);
        stepped
    }
}

/// A tree in steps, as they are stored one after the other.
fn steps() -> (TreeId, Vec<Vec<VerifiedEntry>>) {
    let mut entries = vec![sign_on_top(None, [], &key(0), 0, open_genesis("tree"))];
    let tree = entries[0].get().tree();
    for n in 1..STEPS * STEP_ENTRIES {
        let body = Body::Data(vec![n as u8; n * 97 % 2_000].into());
        let last = entries.last();
        entries.push(sign_on_top(Some(tree), last, &key(0), n as u64, body));
    }
    let steps = entries.chunks(STEP_ENTRIES).map(<[_]>::to_vec);
    (tree, steps.collect())
}

/// What was acknowledged before a cut.
#[derive(Debug, Default)]
struct Acknowledged {
    steps: usize,
    value: Option<u8>,
}

/// Opens the store and goes on until everything is stored or the power fails.
fn run(disk: &PowerDisk, acknowledged: &mut Acknowledged) -> Result<(), StoreError> {
    let (tree, steps) = steps();
    let store = disk.open()?;
    for (n, step) in steps.into_iter().enumerate().skip(acknowledged.steps) {
        store.append(tree, step)?;
        acknowledged.steps = n + 1;
        store.put("key", Some(&[n as u8]))?;
        acknowledged.value = Some(n as u8);
    }
    Ok(())
}

/// Checks that a store opens, has what was acknowledged, and nothing but whole steps.
fn check(disk: &PowerDisk, acknowledged: &mut Acknowledged, case: &str) {
    let (tree, steps) = steps();
    let store = disk.open();
    let store = store.unwrap_or_else(|error| panic!("{case}: it does not open: {error}"));
    let snapshot = store.snapshot(tree).expect("it can be read");
    let count = snapshot.entry_count() as usize;
    let found = count / STEP_ENTRIES;
    assert_eq!(count % STEP_ENTRIES, 0, "{case}: a part of a step");
    let expected = acknowledged.steps..=acknowledged.steps + 1;
    assert!(expected.contains(&found), "{case}: {found} of {expected:?}");
    for (at, entry) in (0..).zip(steps[..found].concat()) {
        let stored = snapshot.entry(Arrival(at)).expect("it can be read");
        assert_eq!(stored.id(), entry.get().id(), "{case}");
    }
    let problems = eidetica_dag::check(&*snapshot, tree, |_| ()).expect("it can be read");
    assert!(problems.is_empty(), "{case}: {problems:?}");
    let value = store.get("key").expect("it can be read");
    let value = value.map(|value| value[0]);
    let next = acknowledged.steps.checked_sub(1).map(|n| n as u8);
    assert!(
        value == acknowledged.value || value == next,
        "{case}: {value:?} after {acknowledged:?}"
    );
    *acknowledged = Acknowledged {
        steps: found,
        value,
    };
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let whole = PowerDisk::new();
    run(&whole, &mut Acknowledged::default()).expect("the power stays");
    let all = whole.state().done;
    let cuts = match std::env::var("EIDETICA_POWER_CUTS") {
        Ok(text) => text.parse().expect("EIDETICA_POWER_CUTS is a number"),
        Err(_) => CUTS,
    };
    let (mut cut, mut seed) = (0, 0);
    while cut < cuts {
        seed += 1;
        let mut random = Random::new(seed);
        let (disk, mut acknowledged) = (PowerDisk::new(), Acknowledged::default());
        // The next cut may come while the store recovers from the last one.
        loop {
            disk.cut_after(random.below(all as u32).into());
            if run(&disk, &mut acknowledged).is_ok() {
                break;
            }
            cut += 1;
            disk.restart(&mut random);
            check(&disk, &mut acknowledged, &format!("seed {seed}"));
        }
    }
}
