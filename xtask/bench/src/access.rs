//! What it costs to judge access where it was changed very often, and to keep trees with very many
//! tips.

use std::path::Path;
use std::time::Duration;

use eidetica_dag::testing::key;
use eidetica_dag::testing::random::Random;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::{
    AccessChange, Arrival, Body, Genesis, Role, SecretKey, Subject, TreeId, VerifiedEntry,
    current_access,
};
use eidetica_sync::store::Store;

use eidetica_replicas::clock::timed;
use xtask_support::failed;
use xtask_support::report::{Cell, Report, Table, Target, mib};

use crate::nodes::StoreKind;

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
    /// The store
    #[arg(long, default_values = ["memory", "redb"])]
    store: Vec<StoreKind>,
}

/// Most time for one entry that merges two old states.
const MERGE_MS_MAX: f64 = 0.2;

/// Entries of one push: as many small ones as fit into the step in which a receiver stores.
const PUSH_ENTRIES: usize = 1_000;

/// How the changes of a tree lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each on top of the one before.
    Line,
    /// On two branches that do not know of each other; about members.
    Branches,
    /// On two branches; one in a hundred makes or removes an admin.
    SomeAdmins,
    /// On two branches; every one makes or removes an admin, which only hostile admins do.
    AllAdmins,
}

impl Layout {
    const ALL: [Self; 4] = [
        Self::Line,
        Self::Branches,
        Self::SomeAdmins,
        Self::AllAdmins,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Branches => "two branches",
            Self::SomeAdmins => "two branches, 1 % about admins",
            Self::AllAdmins => "two branches, all about admins",
        }
    }

    fn change(self, number: u32) -> AccessChange {
        let about_admin = match self {
            Self::Line | Self::Branches => false,
            Self::SomeAdmins => number % 100 < 2,
            Self::AllAdmins => true,
        };
        let (of, high) = match about_admin {
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

/// Measures every layout and size in every store.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut changes = Table::new(
        "Changes of access, in pushes of 1,000 entries",
        &[
            ("changes", "layout"),
            ("number", "changes"),
            ("store", "store"),
            ("µs a change", "change_us"),
            ("µs a merge", "merge_us"),
            ("file bytes an entry", "file_bytes_each"),
        ],
    );
    let mut quick =
        Target::new("0.2 ms for an entry that merges two old states, unless admins are hostile");
    for layout in Layout::ALL {
        for size in &options.changes {
            for kind in &options.store {
                let row = judge(layout, *size, options.merges, *kind, &mut quick)?;
                changes.push(row);
            }
        }
    }
    let mut tips = Table::new(
        "Trees with many tips, filled by pushes of 1,000 entries",
        &[
            ("tips", "tips"),
            ("store", "store"),
            ("entries MiB", "entries_mib"),
            ("file MiB", "file_mib"),
            ("ms a push, first tenth", "first_push_ms"),
            ("ms a push, last tenth", "last_push_ms"),
            ("µs for 20 tips", "some_tips_us"),
            ("µs for access", "access_us"),
        ],
    );
    for count in &options.tips {
        for kind in &options.store {
            tips.push(widen(*count, *kind)?);
        }
    }
    Ok(Report {
        tables: vec![changes, tips],
        targets: vec![quick],
    })
}

/// Begins a tree with two admins beside its author, and a member who may write.
fn root() -> VerifiedEntry {
    let grant = |number, role| AccessChange::grant(Subject::Key(key(number).public()), role);
    let genesis = Genesis {
        access: vec![
            grant(1, Role::Admin),
            grant(2, Role::Admin),
            grant(3, Role::Write),
        ],
        ..match eidetica_dag::testing::genesis("access", vec![]) {
            Body::Genesis(genesis) => genesis,
            _ => unreachable!("it is the body of a root"),
        }
    };
    sign_on_top(None, [], &key(0), 0, Body::Genesis(genesis))
}

fn push(store: &dyn Store, tree: TreeId, batch: &[VerifiedEntry]) -> Result<Duration, String> {
    let (outcome, time) = timed(|| store.append(tree, batch.to_vec()));
    let outcome = outcome.map_err(failed)?;
    if outcome.stored.len() < batch.len() {
        return Err(format!("not all is stored: {outcome:?}"));
    }
    Ok(time)
}

fn judge(
    layout: Layout,
    size: u32,
    merges: u32,
    kind: StoreKind,
    quick: &mut Target,
) -> Result<Vec<Cell>, String> {
    let root = root();
    let tree = root.get().tree();
    let mut entries = vec![root.clone()];
    // On each branch an admin of its own, so that neither needs the other's grant.
    let mut branches: [Vec<usize>; 2] = [vec![0], vec![0]];
    for number in 0..size {
        let branch = match layout {
            Layout::Line => 0,
            _ => (number % 2) as usize,
        };
        let below = *branches[branch].last().expect("it begins with the root");
        let author = key(1 + branch as u32);
        let change = match layout {
            Layout::Line => layout.change(number),
            _ => layout.change(number / 2),
        };
        let body = Body::Access(vec![change]);
        let parents = [&entries[below]];
        let entry = sign_on_top(Some(tree), parents, &author, number.into(), body);
        branches[branch].push(entries.len());
        entries.push(entry);
    }
    let mut random = Random::new(size.into());
    let mut writes = Vec::new();
    let member: SecretKey = key(3);
    for number in 0..merges {
        let mut old = |branch: usize| {
            let branch = &branches[branch];
            branch[random.below(branch.len() as u32) as usize]
        };
        let (one, two) = match layout {
            Layout::Line => (old(0), old(0)),
            _ => (old(0), old(1)),
        };
        if one == two {
            continue;
        }
        let parents = [&entries[one], &entries[two]];
        let body = Body::Data("merge".into());
        writes.push(sign_on_top(
            Some(tree),
            parents,
            &member,
            number.into(),
            body,
        ));
    }

    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("store");
    let store = kind.open(&file)?;
    let mut changing = Duration::ZERO;
    for batch in entries.chunks(PUSH_ENTRIES) {
        changing += push(&*store, tree, batch)?;
    }
    let mut merging = Duration::ZERO;
    for batch in writes.chunks(PUSH_ENTRIES) {
        merging += push(&*store, tree, batch)?;
    }
    let each = |time: Duration, count: usize| time.as_secs_f64() * 1e6 / count.max(1) as f64;
    let merge_us = each(merging, writes.len());
    let met = merge_us <= MERGE_MS_MAX * 1e3 || layout == Layout::AllAdmins;
    quick.check(met, || {
        format!("{}, {size} changes: {merge_us:.0} µs", layout.name())
    });
    let stored = (entries.len() + writes.len()) as f64;
    let bytes_each = file_bytes(&file).map(|bytes| bytes as f64 / stored);
    Ok(vec![
        layout.name().into(),
        Cell::Count(size.into()),
        kind.name().into(),
        Cell::Number(each(changing, entries.len()), 1),
        Cell::Number(merge_us, 1),
        bytes_each.map_or(Cell::Absent, |bytes| Cell::Number(bytes, 0)),
    ])
}

fn file_bytes(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|found| found.len())
}

/// Fills a tree with entries on top of the root alone.
fn widen(count: u32, kind: StoreKind) -> Result<Vec<Cell>, String> {
    let root = root();
    let tree = root.get().tree();
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("store");
    let store = kind.open(&file)?;
    push(&*store, tree, std::slice::from_ref(&root))?;
    let member = key(3);
    let mut bytes = 0;
    let mut times = Vec::new();
    for first in (0..count).step_by(PUSH_ENTRIES) {
        let numbers = first..count.min(first + PUSH_ENTRIES as u32);
        let batch: Vec<VerifiedEntry> = numbers
            .map(|number| {
                let body = Body::Data("tip".into());
                sign_on_top(Some(tree), [&root], &member, number.into(), body)
            })
            .collect();
        bytes += batch
            .iter()
            .map(|it| it.get().encoded().len())
            .sum::<usize>();
        times.push(push(&*store, tree, &batch)?);
    }
    // A push in which a checkpoint lies costs more, so several are taken together.
    let tenth = (times.len() / 10).max(1);
    let mean_ms = |times: &[Duration]| {
        let sum: Duration = times.iter().sum();
        sum.as_secs_f64() * 1e3 / times.len() as f64
    };
    let view = store.snapshot(tree).map_err(failed)?;
    let (some, some_time) = timed(|| view.tips_from(Arrival(0), 20));
    let (access, access_time) = timed(|| current_access(&*view));
    let found = (some.map_err(failed)?.len(), view.tip_count());
    if found != (20, count) || access.map_err(failed)?.heads() != [0] {
        return Err(format!("found {found:?} tips"));
    }
    Ok(vec![
        Cell::Count(count.into()),
        kind.name().into(),
        mib(Some(bytes as u64)),
        mib(file_bytes(&file)),
        Cell::Number(mean_ms(&times[..tenth]), 2),
        Cell::Number(mean_ms(&times[times.len() - tenth..]), 2),
        Cell::Number(some_time.as_secs_f64() * 1e6, 1),
        Cell::Number(access_time.as_secs_f64() * 1e6, 1),
    ])
}
