//! Servers that share a PostgreSQL database, compared with the database alone and with a store in a file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{key, open_genesis};
use eidetica_dag::{Body, TreeId, VerifiedEntry};
use eidetica_sync::proto::receiver::APPEND_BYTES_TARGET;
use eidetica_sync::store::conformance::postgres::{Server, programs};
use eidetica_sync::store::{MemoryStore, POOL_SIZE_DEFAULT, PostgresStore, RedbStore, Store};
use xtask_support::figures::quantile_ms;
use xtask_support::report::{Report, Table, Target, decimals, grouped};
use xtask_support::{failed, now};

use crate::clock::process_cpu;
use crate::history::{History, Shape};
use crate::nodes::{Transport, listen, runtime, start};

/// Servers that share a PostgreSQL database, which it starts itself
#[derive(clap::Args)]
pub struct Options {
    /// Entries of the tree that is bootstrapped
    #[arg(long, default_value_t = 200_000)]
    entries: usize,
    /// Trees that are written at the same time, by one client each
    #[arg(long, default_value_t = 200)]
    trees: usize,
    /// Writers of one tree
    #[arg(long, default_value_t = 50)]
    writers: usize,
    /// For how long each measurement of writers goes on, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Least shares of what the database, and a store in a file, do alone.
const COPY_SHARE_MIN: f64 = 0.5;
const WARM_SHARE_MIN: f64 = 0.8;
const COLD_SHARE_MIN: f64 = 0.4;

/// Longest median of the time until another server hears of an append.
const NEWS_MS_MAX: f64 = 100.0;

/// Appends of which it is measured when others hear of them.
const NEWS_ROUNDS: usize = 100;

pub fn run(options: &Options) -> Result<Report, String> {
    if programs().is_none() {
        return Err("PostgreSQL is not installed: its server programs are needed".into());
    }
    let mut report = Report::default();
    bootstraps(options, &mut report)?;
    writers(options, &mut report)?;
    news(&mut report)?;
    Ok(report)
}

fn open(server: &Server) -> Result<Arc<dyn Store>, String> {
    // Room for the tree that is bootstrapped.
    let builder = PostgresStore::builder(&server.url()).map_err(failed)?;
    let store = builder.view_bytes(1 << 30).open().map_err(failed)?;
    Ok(Arc::new(store))
}

/// Bootstraps a tree from one store into another over HTTP, and returns how long it takes.
fn bootstrap(
    tree: TreeId,
    entries: usize,
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
) -> Result<Duration, String> {
    runtime()?.block_on(async {
        let server = start("server", from, Transport::Http).await?;
        let client = start("client", to, Transport::Http).await?;
        let address = listen(&server).await?;
        let started = now();
        let report = client.sync(tree, address).await.map_err(failed)?;
        let wall = started.elapsed();
        client.shutdown().await.map_err(failed)?;
        server.shutdown().await.map_err(failed)?;
        match report.stats.stored == entries as u64 {
            true => Ok(wall),
            false => Err(format!("{} entries arrived", report.stats.stored)),
        }
    })
}

fn bootstraps(options: &Options, report: &mut Report) -> Result<(), String> {
    let history = History::sign(Shape {
        entries: options.entries,
        payload_bytes: 200,
    });
    let (tree, entries) = (history.tree, options.entries);
    let memory = || -> Result<Arc<dyn Store>, String> {
        let store = MemoryStore::new();
        for step in history.steps(APPEND_BYTES_TARGET) {
            store.append(tree, step.to_vec()).map_err(failed)?;
        }
        Ok(Arc::new(store))
    };
    let server = Server::durable();
    let hub = open(&server)?;
    let into = bootstrap(tree, entries, memory()?, hub.clone())?;

    // The same rows into a table like that one, in the database's own format.
    let file = server.folder().join("rows");
    let file = file.display();
    server.sql(&format!("COPY eidetica.entry TO '{file}' (FORMAT binary)"));
    server.sql("SELECT 1; CREATE TABLE rows (LIKE eidetica.entry INCLUDING ALL)");
    let started = now();
    server.sql(&format!("COPY rows FROM '{file}' (FORMAT binary)"));
    let copy = started.elapsed();

    let warm = bootstrap(tree, entries, hub, Arc::new(MemoryStore::new()))?;
    let cold = bootstrap(tree, entries, open(&server)?, Arc::new(MemoryStore::new()))?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = RedbStore::open(folder.path().join("store")).map_err(failed)?;
    for step in history.steps(APPEND_BYTES_TARGET) {
        file.append(tree, step.to_vec()).map_err(failed)?;
    }
    let redb = bootstrap(tree, entries, Arc::new(file), Arc::new(MemoryStore::new()))?;

    let rate = |wall: Duration| entries as f64 / wall.as_secs_f64();
    let headings = &[
        "what",
        "entries/s",
        "compared with",
        "entries/s there",
        "share",
    ];
    let mut table = Table::new("bootstraps over HTTP, in one process", headings);
    for (what, wall, with, alone, least) in [
        (
            "into the hub",
            into,
            "binary COPY of its rows",
            copy,
            COPY_SHARE_MIN,
        ),
        (
            "out of the hub, warm view",
            warm,
            "out of a file",
            redb,
            WARM_SHARE_MIN,
        ),
        (
            "out of the hub, cold view",
            cold,
            "out of a file",
            redb,
            COLD_SHARE_MIN,
        ),
    ] {
        let share = rate(wall) / rate(alone);
        let mut target = Target::new(match least {
            COPY_SHARE_MIN => "into the hub: 0.5 of a binary COPY",
            WARM_SHARE_MIN => "out of the hub: 0.8 of a file with a warm view",
            _ => "out of the hub: 0.4 of a file with a cold view",
        });
        target.check(share >= least, || format!("{share:.2}"));
        report.targets.push(target);
        table.push(vec![
            what.into(),
            decimals(rate(wall), 0),
            with.into(),
            decimals(rate(alone), 0),
            decimals(share, 2),
        ]);
    }
    report.tables.push(table);
    Ok(())
}

/// Signs one entry on top of another.
fn on_top(tree: TreeId, parent: &VerifiedEntry, author: u32, number: usize) -> VerifiedEntry {
    let body = Body::Data(number.to_le_bytes().to_vec().into());
    sign_on_top(Some(tree), [parent], &key(author), number as u64, body)
}

fn root(number: usize) -> VerifiedEntry {
    // The name makes it another tree.
    let body = open_genesis(&format!("tree {number}"));
    sign_on_top(None, [], &key(0), number as u64, body)
}

/// What writers did in a while.
struct Written {
    entries: usize,
    commits: u64,
    wall: Duration,
    cpu: Duration,
    /// How many connections were at work in the database, on average.
    active: f64,
    /// What most of these waited for.
    waits_for: String,
}

/// Has threads append entry after entry, each on top of the root of its tree or of its own last entry.
fn write(
    server: &Server,
    stores: &[Arc<dyn Store>],
    trees: &[VerifiedEntry],
    writers: usize,
    seconds: u64,
) -> Result<Written, String> {
    let commits = || -> Result<u64, String> {
        let count = server.sql(
            "SELECT pg_stat_force_next_flush(); \
             SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'tree'",
        );
        count.trim().parse().map_err(failed)
    };
    let before = commits()?;
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut samples = Samples::default();
    let (started, cpu) = (now(), process_cpu());
    std::thread::scope(|scope| -> Result<(), String> {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let (written, is_over) = (&written, &is_over);
                scope.spawn(move || -> Result<(), String> {
                    let store = &stores[writer % stores.len()];
                    let mut last = trees[writer % trees.len()].clone();
                    let tree = last.get().tree();
                    for number in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let next = on_top(tree, &last, writer as u32 + 1, number);
                        let outcome = store.append(tree, vec![next.clone()]).map_err(failed)?;
                        if outcome.stored.len() != 1 {
                            return Err(format!("an entry was not stored: {outcome:?}"));
                        }
                        written.fetch_add(1, Ordering::Relaxed);
                        last = next;
                    }
                    Ok(())
                })
            })
            .collect();
        let until = now() + Duration::from_secs(seconds);
        while now() < until {
            sample(server, &mut samples)?;
        }
        is_over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .try_for_each(|it| it.join().map_err(|_| "a writer panicked".to_owned())?)
    })?;
    // The statistics of a connection arrive after at most a second.
    let (wall, cpu) = (started.elapsed(), process_cpu() - cpu);
    let (_never, pause) = mpsc::sync_channel::<()>(0);
    let _ = pause.recv_timeout(Duration::from_secs(2));
    Ok(Written {
        entries: written.into_inner(),
        commits: commits()?.saturating_sub(before),
        wall,
        cpu,
        active: samples.active as f64 / samples.count.max(1) as f64,
        waits_for: samples.most(),
    })
}

/// What connections do in the database.
#[derive(Default)]
struct Samples {
    count: usize,
    active: usize,
    waits: BTreeMap<String, usize>,
}

impl Samples {
    fn most(&self) -> String {
        let most = self.waits.iter().max_by_key(|(_, count)| **count);
        most.map(|(wait, _)| wait.clone()).unwrap_or_default()
    }
}

/// Looks once at what connections do, and pauses for a moment.
fn sample(server: &Server, samples: &mut Samples) -> Result<(), String> {
    let found = server.sql(
        "SELECT pg_sleep(0.2); SELECT coalesce(wait_event, 'nothing'), count(*) \
         FROM pg_stat_activity WHERE usename = 'eidetica' \
         AND (state = 'active' OR state = 'idle in transaction') GROUP BY 1",
    );
    samples.count += 1;
    for line in found.lines().filter(|line| !line.is_empty()) {
        let (wait, count) = line.split_once('|').ok_or("psql prints no columns")?;
        let count: usize = count.parse().map_err(failed)?;
        samples.active += count;
        *samples.waits.entry(wait.to_owned()).or_default() += count;
    }
    Ok(())
}

fn writers(options: &Options, report: &mut Report) -> Result<(), String> {
    let headings = &[
        "what",
        "servers",
        "entries/s",
        "commits/s",
        "entries a commit",
        "cores of this process",
        "connections at work",
        "most wait for",
    ];
    let mut table = Table::new(
        "appends of one entry each; all servers in one process",
        headings,
    );
    let mut grows = Target::new(
        "no server adds less than 0.6 of the first, unless the database is the limit: half of the first \
         server's connections are at work there",
    );
    let mut complete = Target::new("one tree: every entry is there once");
    let mut rates = Vec::new();
    for servers in 1..=3 {
        let server = Server::durable();
        let stores = (0..servers).map(|_| open(&server));
        let stores: Vec<_> = stores.collect::<Result<_, _>>()?;
        let trees: Vec<_> = (0..options.trees).map(root).collect();
        for root in &trees {
            let made = stores[0].append(root.get().tree(), vec![root.clone()]);
            made.map_err(failed)?;
        }
        let done = write(&server, &stores, &trees, options.trees, options.seconds)?;
        let rate = done.entries as f64 / done.wall.as_secs_f64();
        rates.push((rate, done.active));
        let what = format!("{} writers of {0} trees", options.trees);
        table.push(row(what, servers, &done));
    }
    for added in 1..rates.len() {
        let is_limit = rates[added - 1].1 >= POOL_SIZE_DEFAULT as f64 / 2.0;
        let share = (rates[added].0 - rates[added - 1].0) / rates[0].0;
        grows.check(is_limit || share >= 0.6, || {
            format!("server {}: {share:.2}", added + 1)
        });
    }
    let server = Server::durable();
    let stores = (0..3)
        .map(|_| open(&server))
        .collect::<Result<Vec<_>, _>>()?;
    let tree = root(0);
    let made = stores[0].append(tree.get().tree(), vec![tree.clone()]);
    made.map_err(failed)?;
    let trees = [tree.clone()];
    let done = write(&server, &stores, &trees, options.writers, options.seconds)?;
    table.push(row(
        format!("{} writers of one tree", options.writers),
        3,
        &done,
    ));
    for store in &stores {
        let view = store.snapshot(tree.get().tree()).map_err(failed)?;
        let count = view.entry_count() as usize;
        complete.check(count == done.entries + 1, || {
            format!("{count} of {}", done.entries + 1)
        });
    }
    report.tables.push(table);
    report.targets.extend([grows, complete]);
    Ok(())
}

fn row(what: String, servers: usize, done: &Written) -> Vec<String> {
    let seconds = done.wall.as_secs_f64();
    vec![
        what,
        servers.to_string(),
        decimals(done.entries as f64 / seconds, 0),
        decimals(done.commits as f64 / seconds, 0),
        decimals(done.entries as f64 / done.commits.max(1) as f64, 1),
        decimals(done.cpu.as_secs_f64() / seconds, 2),
        decimals(done.active, 1),
        done.waits_for.clone(),
    ]
}

/// Measures how soon another server hears of an append.
fn news(report: &mut Report) -> Result<(), String> {
    let server = Server::durable();
    let (writer, reader) = (open(&server)?, open(&server)?);
    let (heard, arrivals) = mpsc::sync_channel(NEWS_ROUNDS * 2);
    for store in [&writer, &reader] {
        let is_reader = Arc::ptr_eq(store, &reader);
        let heard = heard.clone();
        let shared = store.shared().ok_or("the store is not shared")?;
        shared.listen(Arc::new(move |_, arrivals| {
            let _ = heard.send((is_reader, arrivals.end));
            true
        }));
    }
    let mut last = root(0);
    let tree = last.get().tree();
    writer.append(tree, vec![last.clone()]).map_err(failed)?;
    let mut walls = Vec::new();
    for number in 0..NEWS_ROUNDS {
        last = on_top(tree, &last, 1, number);
        let outcome = writer.append(tree, vec![last.clone()]).map_err(failed)?;
        let started = now();
        loop {
            let wait = Duration::from_secs(30);
            let (is_reader, end) = arrivals.recv_timeout(wait).map_err(failed)?;
            if is_reader && end >= outcome.stored.end {
                break;
            }
        }
        walls.push(started.elapsed());
    }
    let headings = &["appends", "median ms", "p99 ms"];
    let mut table = Table::new("from a commit until another server hears of it", headings);
    let median = quantile_ms(&walls, 0.5);
    table.push(vec![
        grouped(NEWS_ROUNDS as u64),
        decimals(median, 1),
        decimals(quantile_ms(&walls, 0.99), 1),
    ]);
    let mut soon = Target::new("another server hears of an append within 100 ms (median)");
    soon.check(median <= NEWS_MS_MAX, || format!("{median:.1} ms"));
    report.tables.push(table);
    report.targets.push(soon);
    Ok(())
}
