//! What it costs to judge access where it was changed very often, and to keep trees with very many
//! tips.

use std::path::Path;
use std::time::Duration;

use eidetica_dag::testing::random::Random;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{genesis, key};
use eidetica_dag::{
    AccessChange, Arrival, Body, Role, Subject, TreeId, VerifiedEntry, current_access,
};
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use xtask_support::failed;
use xtask_support::figures::{mean, milliseconds};
use xtask_support::report::{Report, Table, Target, decimals, grouped, mib};

use crate::clock::timed;

/// Entries that merge old states of access, and trees with very many tips
#[derive(clap::Args)]
pub struct Options {
    /// Changes of access in a tree
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    changes: Vec<u32>,
    /// Entries that merge two old states each
    #[arg(long, default_value_t = 1_000)]
    merges: u32,
    /// Tips of a tree
    #[arg(long, value_delimiter = ',', default_values_t = [30_000, 300_000])]
    tips: Vec<u32>,
}

/// Most time for one entry that merges two old states.
const MERGE_MS_MAX: f64 = 0.2;

/// Entries of one push: as many small ones as fit into the step in which a receiver stores.
const PUSH_ENTRIES: usize = 1_000;

/// How the changes of a tree lie: each on top of the one before, or on two branches that do not know
/// each other. One change in so many makes or removes an admin, which only hostile admins do always.
struct Layout {
    name: &'static str,
    branches: u32,
    admin_in: Option<u32>,
}

const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "line",
        branches: 1,
        admin_in: None,
    },
    Layout {
        name: "two branches",
        branches: 2,
        admin_in: None,
    },
    Layout {
        name: "two branches, 1 % about admins",
        branches: 2,
        admin_in: Some(100),
    },
    Layout {
        name: "two branches, all about admins",
        branches: 2,
        admin_in: Some(2),
    },
];

impl Layout {
    fn change(&self, number: u32) -> AccessChange {
        let (of, high) = match self.admin_in.is_some_and(|admin_in| number % admin_in < 2) {
            true => (50 + number / 100 % 50, Role::Admin),
            false => (1_000 + number / 2 % 1_000, Role::Write),
        };
        let subject = Subject::Key(key(of).public());
        match number % 2 {
            0 => AccessChange::grant(subject, high),
            _ => AccessChange::revoke(subject),
        }
    }
}

/// Measures every layout and size in memory and on disk.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "changes",
        "number",
        "store",
        "µs a change",
        "µs a merge",
        "file bytes an entry",
    ];
    let mut changes = Table::new("changes of access, in pushes of 1,000 entries", headings);
    let mut quick =
        Target::new("0.2 ms for an entry that merges two old states, unless admins are hostile");
    for layout in &LAYOUTS {
        for size in &options.changes {
            let (entries, merges) = sign(layout, *size, options.merges);
            for durable in [false, true] {
                let folder = tempfile::tempdir().map_err(failed)?;
                let store = open(folder.path(), durable)?;
                let changing = push_all(&*store, &entries)?;
                let merging = push_all(&*store, &merges)?;
                let each_us = |times: &[Duration], count: usize| {
                    milliseconds(times.iter().sum()) * 1e3 / count.max(1) as f64
                };
                let merge_us = each_us(&merging, merges.len());
                let is_met = merge_us <= MERGE_MS_MAX * 1e3 || layout.admin_in == Some(2);
                quick.check(is_met, || {
                    format!("{}, {size}: {merge_us:.0} µs", layout.name)
                });
                let stored = (entries.len() + merges.len()) as u64;
                changes.push(vec![
                    layout.name.into(),
                    grouped((*size).into()),
                    store_name(durable),
                    decimals(each_us(&changing, entries.len()), 1),
                    decimals(merge_us, 1),
                    grouped(file_bytes(folder.path()) / stored),
                ]);
            }
        }
    }
    let headings = &[
        "tips",
        "store",
        "entries MiB",
        "file MiB",
        "ms a push, first tenth",
        "ms a push, last tenth",
        "µs for 20 tips",
        "µs for access",
    ];
    let mut tips = Table::new("trees with many tips, in pushes of 1,000 entries", headings);
    for count in &options.tips {
        for durable in [false, true] {
            tips.push(widen(*count, durable)?);
        }
    }
    Ok(Report {
        tables: vec![changes, tips],
        targets: vec![quick],
    })
}

fn store_name(durable: bool) -> String {
    if durable { "redb" } else { "memory" }.into()
}

/// Opens a store, the durable one in a folder.
fn open(folder: &Path, durable: bool) -> Result<Box<dyn Store>, String> {
    Ok(match durable {
        true => Box::new(RedbStore::open(folder.join("store")).map_err(failed)?),
        false => Box::new(MemoryStore::new()),
    })
}

/// Returns the size of the durable store in a folder; 0 without one.
fn file_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("store")).map_or(0, |found| found.len())
}

/// Begins a tree with two admins beside its author, and a member who may write.
fn root() -> VerifiedEntry {
    let grant = |number, role| AccessChange::grant(Subject::Key(key(number).public()), role);
    let access = vec![
        grant(1, Role::Admin),
        grant(2, Role::Admin),
        grant(3, Role::Write),
    ];
    sign_on_top(None, [], &key(0), 0, genesis("access", access))
}

/// Stores entries push by push, and returns what each push took.
fn push_all(store: &dyn Store, entries: &[VerifiedEntry]) -> Result<Vec<Duration>, String> {
    let tree: Option<TreeId> = entries.first().map(|entry| entry.get().tree());
    let mut times = Vec::new();
    for batch in entries.chunks(PUSH_ENTRIES) {
        let tree = tree.ok_or("a batch has entries")?;
        let (outcome, time) = timed(|| store.append(tree, batch.to_vec()));
        let outcome = outcome.map_err(failed)?;
        if outcome.stored.len() < batch.len() {
            return Err(format!("not all is stored: {outcome:?}"));
        }
        times.push(time);
    }
    Ok(times)
}

/// Signs a tree with changes of access, and entries that merge two old states each.
fn sign(layout: &Layout, size: u32, merges: u32) -> (Vec<VerifiedEntry>, Vec<VerifiedEntry>) {
    let mut entries = vec![root()];
    let tree = Some(entries[0].get().tree());
    let mut branches: Vec<Vec<usize>> = vec![vec![0]; layout.branches as usize];
    for number in 0..size {
        let branch = number % layout.branches;
        let places = &mut branches[branch as usize];
        // On each branch an admin of its own, so that neither needs the other's grant.
        let author = key(1 + branch);
        let body = Body::Access(vec![layout.change(number / layout.branches)]);
        let parent = [&entries[places[places.len() - 1]]];
        let entry = sign_on_top(tree, parent, &author, number.into(), body);
        places.push(entries.len());
        entries.push(entry);
    }
    let mut random = Random::new(size.into());
    let (first, last) = (&branches[0], &branches[branches.len() - 1]);
    let mut writes = Vec::new();
    for number in 0..merges {
        let [one, two] = [first, last].map(|it| it[random.below(it.len() as u32) as usize]);
        if one != two {
            let (parents, body) = ([&entries[one], &entries[two]], Body::Data("merge".into()));
            writes.push(sign_on_top(tree, parents, &key(3), number.into(), body));
        }
    }
    (entries, writes)
}

/// Fills a tree with entries on top of the root alone.
fn widen(count: u32, durable: bool) -> Result<Vec<String>, String> {
    let root = root();
    let tree = root.get().tree();
    let folder = tempfile::tempdir().map_err(failed)?;
    let store = open(folder.path(), durable)?;
    push_all(&*store, std::slice::from_ref(&root))?;
    let tip = |number: u32| {
        sign_on_top(
            Some(tree),
            [&root],
            &key(3),
            number.into(),
            Body::Data("tip".into()),
        )
    };
    let entries: Vec<VerifiedEntry> = (0..count).map(tip).collect();
    let bytes: usize = entries.iter().map(|it| it.get().encoded().len()).sum();
    let times = push_all(&*store, &entries)?;
    // A push in which a checkpoint lies costs more, so several are taken together.
    let tenth = (times.len() / 10).max(1);
    let [first, last] = [&times[..tenth], &times[times.len() - tenth..]]
        .map(|times| decimals(mean(times, |time| milliseconds(*time)), 2));
    let view = store.snapshot(tree).map_err(failed)?;
    let (some, some_time) = timed(|| view.tips_from(Arrival(0), 20));
    let (access, access_time) = timed(|| current_access(&*view));
    let found = (some.map_err(failed)?.len(), view.tip_count());
    if found != (20, count) || access.map_err(failed)?.heads() != [0] {
        return Err(format!("found {found:?} tips"));
    }
    Ok(vec![
        grouped(count.into()),
        store_name(durable),
        mib(bytes as u64),
        mib(file_bytes(folder.path())),
        first,
        last,
        decimals(milliseconds(some_time) * 1e3, 1),
        decimals(milliseconds(access_time) * 1e3, 1),
    ])
}
