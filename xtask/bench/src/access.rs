//! What it costs to judge access where it was changed very often, and to keep trees with very many
//! tips.

use eidetica_dag::testing::random::Random;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{genesis, key};
use eidetica_dag::{AccessChange, Body, Role, Subject, VerifiedEntry};
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use xtask_support::failed;
use xtask_support::figures::{mean, milliseconds};
use xtask_support::report::{Report, Table, Target, decimals, grouped};

use crate::clock::timed;

/// Entries that merge old states of access, and trees with very many tips
#[derive(clap::Args)]
pub struct Options {
    /// Changes of access in a tree
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    changes: u32,
    /// Entries that merge two old states each
    #[arg(long, default_value_t = 1_000)]
    merges: u32,
    /// Tips of a tree
    #[arg(long, default_value_t = 300_000)]
    tips: u32,
}

/// Most time for one entry that merges two old states.
const MERGE_US_MAX: f64 = 200.0;

/// Entries of one push: as many small ones as fit into the step in which a receiver stores.
const PUSH_ENTRIES: usize = 1_000;

/// Trees with changes of access, and one change in how many makes or removes an admin.
const CHANGES: [(&str, Option<u32>); 3] = [
    ("two branches", None),
    ("two branches, 1 % about admins", Some(100)),
    (ALL_ABOUT_ADMINS, Some(2)),
];

/// What only hostile admins do.
const ALL_ABOUT_ADMINS: &str = "two branches, all about admins";

/// A tree, and entries that merge two of its old states each.
type Signed = (Vec<VerifiedEntry>, Vec<VerifiedEntry>);

/// Measures every tree in memory and on disk.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "tree",
        "entries",
        "store",
        "µs an entry",
        "first tenth",
        "last tenth",
        "µs a merge",
        "file bytes an entry",
    ];
    let mut table = Table::new("changes of access and tips, in pushes of 1,000", headings);
    let mut quick =
        Target::new("0.2 ms for an entry that merges two old states, unless admins are hostile");
    let mut measure = |name: &str, signed: &Signed| {
        for durable in [false, true] {
            let (figures, merge_us) = store(signed, durable)?;
            let is_met = merge_us <= MERGE_US_MAX || name == ALL_ABOUT_ADMINS;
            quick.check(is_met, || format!("{name}: {merge_us:.0} µs"));
            table.push([vec![name.into()], figures].concat());
        }
        Ok::<(), String>(())
    };
    for (name, admin_in) in CHANGES {
        measure(name, &sign(admin_in, options.changes, options.merges))?;
    }
    measure("many tips", &widen(options.tips))?;
    Ok(Report {
        tables: vec![table],
        targets: vec![quick],
    })
}

/// Stores a tree and its merges. Returns the figures, and the µs that a merge takes.
fn store((entries, merges): &Signed, durable: bool) -> Result<(Vec<String>, f64), String> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("store");
    let store: Box<dyn Store> = match durable {
        true => Box::new(RedbStore::open(&file).map_err(failed)?),
        false => Box::new(MemoryStore::new()),
    };
    let times = push_all(&*store, entries)?;
    let merge_us = mean(&push_all(&*store, merges)?, |time| *time);
    // A push in which a checkpoint lies costs more, so several are taken together.
    let tenth = times.len().div_ceil(10);
    let tenths = [&times[..], &times[..tenth], &times[times.len() - tenth..]];
    let [all, first, last] = tenths.map(|times| decimals(mean(times, |time| *time), 2));
    let file_bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
    let stored = (entries.len() + merges.len()) as u64;
    let name = if durable { "redb" } else { "memory" };
    let (merge, bytes) = (decimals(merge_us, 1), grouped(file_bytes / stored));
    let entries = grouped(entries.len() as u64);
    Ok((
        vec![entries, name.into(), all, first, last, merge, bytes],
        merge_us,
    ))
}

/// Stores entries push by push, and returns the µs that an entry took in each push.
fn push_all(store: &dyn Store, entries: &[VerifiedEntry]) -> Result<Vec<f64>, String> {
    let push = |batch: &[VerifiedEntry]| {
        let (tree, batch_len) = (batch[0].get().tree(), batch.len());
        let (outcome, time) = timed(|| store.append(tree, batch.to_vec()));
        let outcome = outcome.map_err(failed)?;
        match outcome.stored.len() == batch_len {
            true => Ok(milliseconds(time) * 1e3 / batch_len as f64),
            false => Err(format!("not all is stored: {outcome:?}")),
        }
    };
    entries.chunks(PUSH_ENTRIES).map(push).collect()
}

/// Begins a tree with two admins beside its author, and a member who may write.
fn root() -> VerifiedEntry {
    let roles = [(1, Role::Admin), (2, Role::Admin), (3, Role::Write)];
    let grant = |(number, role)| AccessChange::grant(Subject::Key(key(number).public()), role);
    let access = roles.map(grant).into();
    sign_on_top(None, [], &key(0), 0, genesis("access", access))
}

/// Signs changes of access on two branches that do not know each other, and merges of both.
fn sign(admin_in: Option<u32>, size: u32, merges: u32) -> Signed {
    let mut entries = vec![root()];
    let tree = Some(entries[0].get().tree());
    for number in 0..size {
        let (branch, step) = (number % 2, number / 2);
        let (of, high) = match admin_in.is_some_and(|admin_in| step % admin_in < 2) {
            true => (50 + step / 100 % 50, Role::Admin),
            false => (1_000 + step / 2 % 1_000, Role::Write),
        };
        let subject = Subject::Key(key(of).public());
        let change = match step % 2 {
            0 => AccessChange::grant(subject, high),
            _ => AccessChange::revoke(subject),
        };
        // The last entry but one is on the same branch. Each branch has an admin of its own, so
        // that neither needs the other's grant.
        let (parent, author) = (&entries[entries.len().saturating_sub(2)], key(1 + branch));
        let body = Body::Access(vec![change]);
        entries.push(sign_on_top(tree, [parent], &author, number.into(), body));
    }
    let mut random = Random::new(size.into());
    let merge = |number: u32| {
        let parents = [1, 2].map(|first| &entries[first + 2 * random.below(size / 2) as usize]);
        let body = Body::Data("merge".into());
        sign_on_top(tree, parents, &key(3), number.into(), body)
    };
    let merges = (0..merges).map(merge).collect();
    (entries, merges)
}

/// Signs entries on top of the root alone.
fn widen(count: u32) -> Signed {
    let root = root();
    let tree = Some(root.get().tree());
    let tip = |number: u32| {
        let body = Body::Data("tip".into());
        sign_on_top(tree, [&root], &key(3), number.into(), body)
    };
    let tips: Vec<VerifiedEntry> = (0..count).map(tip).collect();
    ([vec![root], tips].concat(), vec![])
}
