//! Power cuts: what was acknowledged is there afterwards, whatever became of the rest.
//!
//! `EIDETICA_POWER_CUTS` sets how many cuts are tried.

use super::simulated_disk::SimulatedDisk;
use super::*;
use eidetica_dag::testing::{Random, key, open_genesis, shapes::sign_on_top};
use eidetica_dag::{Arrival, Body, VerifiedEntry};

/// How many cuts are tried by default.
const CUTS: u32 = 500;

/// Entries in each step of a run, and steps.
const STEP_ENTRIES: usize = 3;
const STEPS: usize = 6;

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
fn run(disk: &SimulatedDisk, acknowledged: &mut Acknowledged) -> Result<(), StoreError> {
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
fn check(disk: &SimulatedDisk, acknowledged: &mut Acknowledged, case: &str) {
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
    let whole = SimulatedDisk::new();
    run(&whole, &mut Acknowledged::default()).expect("the power stays");
    let all = whole.steps_done();
    let cuts = match std::env::var("EIDETICA_POWER_CUTS") {
        Ok(text) => text.parse().expect("EIDETICA_POWER_CUTS is a number"),
        Err(_) => CUTS,
    };
    let (mut cut, mut seed) = (0, 0);
    while cut < cuts {
        seed += 1;
        let mut random = Random::new(seed);
        let (disk, mut acknowledged) = (SimulatedDisk::new(), Acknowledged::default());
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
