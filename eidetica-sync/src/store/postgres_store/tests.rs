//! The store on a real server, alone and with others.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use eidetica_dag::MemoryDag;

use super::*;
use crate::store::Taken;
use crate::store::conformance::postgres::Server;
use crate::store::conformance::{Authors, Subject, assert_same_view};

/// Returns the server of this process, which runs while a test uses it.
fn server() -> Arc<Server> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    })
}

/// Names a schema that no other test uses.
fn new_schema() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn open(url: &str, schema: &str) -> PostgresStore {
    let builder = PostgresStore::builder(url).unwrap().schema(schema);
    builder.pool_size(6).open().unwrap()
}

/// Opens a store on a server that is down now and then.
fn open_patiently(url: &str, schema: &str) -> PostgresStore {
    loop {
        let builder = PostgresStore::builder(url).unwrap().schema(schema);
        match builder.pool_size(6).open() {
            Ok(store) => return store,
            Err(error) => assert!(error.is_temporary(), "{error:?}"),
        }
    }
}

/// A store with a schema of its own.
struct InPostgres {
    store: PostgresStore,
    schema: String,
    server: Arc<Server>,
}

impl Subject for InPostgres {
    fn create() -> Self {
        let (server, schema) = (server(), new_schema());
        Self {
            store: open(&server.url(), &schema),
            schema,
            server,
        }
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn reopen(self) -> Option<Self> {
        let Self {
            schema,
            server,
            store,
        } = self;
        drop(store);
        Some(Self {
            store: open(&server.url(), &schema),
            schema,
            server,
        })
    }
}

mod conformance {
    use super::InPostgres;

    crate::store_conformance!(InPostgres, #[ignore = "needs PostgreSQL"]);
}

fn ids(authors: &Authors) -> Vec<EntryId> {
    authors.entries().iter().map(|e| e.get().id()).collect()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn servers_that_start_together_make_one_schema() {
    let (server, schema) = (server(), new_schema());
    let logs: Vec<LogId> = thread::scope(|scope| {
        let open = || open(&server.url(), &schema).log_id();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(logs.iter().all(|log| *log == logs[0]));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_later_schema_is_refused() {
    let subject = InPostgres::create();
    let InPostgres { schema, server, .. } = &subject;
    server.sql(&format!("UPDATE {schema}.store SET version = version + 1"));
    let builder = PostgresStore::builder(&server.url())
        .unwrap()
        .schema(schema);
    let error = builder.open().unwrap_err();
    let found = SCHEMA_VERSION + 1;
    assert!(
        matches!(error, StoreError::TooNew { found: it, .. } if it == found),
        "{error}"
    );
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_that_refuses_is_no_matter_of_patience() {
    let server = server();
    let absent = server.url().replace("5432/eidetica", "5432/absent");
    let error = PostgresStore::builder(&absent).unwrap().open().unwrap_err();
    assert!(!error.is_temporary(), "{error:?}");
    assert!(error.to_string().contains("absent"), "{error}");
}

/// What one server appends, another one has in its next snapshot, and goes on from there.
#[test]
#[ignore = "needs PostgreSQL"]
fn servers_see_each_other() {
    let (server, schema) = (server(), new_schema());
    let servers = [open(&server.url(), &schema), open(&server.url(), &schema)];
    let authors = Authors::grown(1, 600);
    let mut reference = MemoryDag::new(authors.tree());
    for (turn, batch) in authors.entries().chunks(60).enumerate() {
        let outcome = servers[turn % 2]
            .append(authors.tree(), batch.to_vec())
            .unwrap();
        assert_eq!(outcome.stored, reference.append(batch.to_vec()).stored);
        for server in &servers {
            let view = server.snapshot(authors.tree()).unwrap();
            assert_same_view(&*view, &reference, &ids(&authors));
        }
    }
    let later = open(&server.url(), &schema);
    let view = later.snapshot(authors.tree()).unwrap();
    assert_same_view(&*view, &reference, &ids(&authors));
}

/// A view is dropped when there is no room, and read again when it is needed.
#[test]
#[ignore = "needs PostgreSQL"]
fn views_are_disposable() {
    let (server, schema) = (server(), new_schema());
    let builder = PostgresStore::builder(&server.url()).unwrap();
    let store = builder.schema(&schema).view_bytes(1).open().unwrap();
    let all: Vec<Authors> = (1..4).map(|seed| Authors::grown(seed, 200)).collect();
    for part in 0..4 {
        for authors in &all {
            let batch = &authors.entries()[part * 50..(part + 1) * 50];
            let outcome = store.append(authors.tree(), batch.to_vec()).unwrap();
            assert_eq!(outcome.stored.len(), 50);
        }
    }
    assert_eq!(store.views.count(), 1);
    for authors in &all {
        let mut reference = MemoryDag::new(authors.tree());
        reference.append(authors.entries().to_vec());
        let view = store.snapshot(authors.tree()).unwrap();
        assert_same_view(&*view, &reference, &ids(authors));
    }
}

/// Where the database was restored from a backup, its log goes on another way than the view.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_view_of_another_log_begins_anew() {
    let subject = InPostgres::create();
    let (store, schema) = (&subject.store, &subject.schema);
    let mut authors = Authors::new(1);
    for _ in 0..20 {
        authors.write_data(0, &[0]);
    }
    let tree = authors.tree();
    store
        .append(tree, authors.entries()[..11].to_vec())
        .unwrap();
    let server = &subject.server;
    let cut_to = |count: u32| {
        server.sql(&format!("DELETE FROM {schema}.entry WHERE n >= {count}"));
        server.sql(&format!(
            "UPDATE {schema}.tree SET next = {count}, last = \
             (SELECT id FROM {schema}.entry WHERE n = {count} - 1)"
        ));
    };
    // Shorter than the view; then longer and other than the view.
    cut_to(6);
    assert_eq!(store.snapshot(tree).unwrap().entry_count(), 6);
    let other = open(&server.url(), schema);
    store
        .append(tree, authors.entries()[6..9].to_vec())
        .unwrap();
    cut_to(6);
    other
        .append(tree, authors.entries()[12..20].to_vec())
        .unwrap();
    let mut reference = MemoryDag::new(tree);
    reference.append(authors.entries()[..6].to_vec());
    reference.append(authors.entries()[12..20].to_vec());
    let view = store.snapshot(tree).unwrap();
    assert_same_view(&*view, &reference, &ids(&authors));
    let outcome = store
        .append(tree, authors.entries()[9..10].to_vec())
        .unwrap();
    assert_eq!(outcome.stored, 14..15);
}

/// The view of a large tree becomes a file, with which a server begins after a restart, unless the log has
/// become another one.
#[cfg(feature = "redb")]
#[test]
#[ignore = "needs PostgreSQL"]
fn a_large_view_is_a_file_that_survives_restarts() {
    let (server, schema) = (server(), new_schema());
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let builder = PostgresStore::builder(&server.url()).unwrap();
        let builder = builder.schema(&schema).cache(folder.path(), 1 << 30);
        builder.open().unwrap()
    };
    let mut authors = Authors::new(1);
    let data = bytes::Bytes::from(vec![0xa5; 1_000_000]);
    let mut last = 0;
    for _ in 0..24 {
        last = authors.write(0, &[last], eidetica_dag::Body::Data(data.clone()));
    }
    let tree = authors.tree();
    let mut reference = MemoryDag::new(tree);
    reference.append(authors.entries()[..20].to_vec());
    let store = open();
    for batch in authors.entries()[..20].chunks(5) {
        store.append(tree, batch.to_vec()).unwrap();
    }
    let files = || {
        let logs = std::fs::read_dir(folder.path()).unwrap();
        logs.map(|log| std::fs::read_dir(log.unwrap().path()).unwrap().count())
            .sum::<usize>()
    };
    assert_eq!(files(), 1);
    assert_same_view(&*store.snapshot(tree).unwrap(), &reference, &ids(&authors));
    drop(store);

    let store = open();
    assert_same_view(&*store.snapshot(tree).unwrap(), &reference, &ids(&authors));
    store
        .append(tree, authors.entries()[20..22].to_vec())
        .unwrap();
    drop(store);

    // A backup is restored that has less, and goes on otherwise.
    server.sql(&format!("DELETE FROM {schema}.entry WHERE n >= 20"));
    server.sql(&format!(
        "UPDATE {schema}.tree SET next = 20, last = (SELECT id FROM {schema}.entry WHERE n = 19)"
    ));
    let store = open();
    assert_same_view(&*store.snapshot(tree).unwrap(), &reference, &ids(&authors));
    drop(store);
    for log in std::fs::read_dir(folder.path()).unwrap() {
        for file in std::fs::read_dir(log.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), b"damaged").unwrap();
        }
    }
    let store = open();
    assert_same_view(&*store.snapshot(tree).unwrap(), &reference, &ids(&authors));
}

/// Appends that come together share commits, and each gets its own outcome.
#[test]
#[ignore = "needs PostgreSQL"]
fn appends_share_commits() {
    let subject = InPostgres::create();
    let mut authors = Authors::new(1);
    for _ in 0..200 {
        authors.write_data(0, &[0]);
    }
    let (store, tree) = (&subject.store, authors.tree());
    store.append(tree, authors.entries()[..1].to_vec()).unwrap();
    let stored = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for part in authors.entries()[1..].chunks(20) {
            let stored = &stored;
            scope.spawn(move || {
                for entry in part {
                    // The root is a duplicate in each batch.
                    let batch = vec![authors_root(part, store, tree), entry.clone()];
                    let outcome = store.append(tree, batch).unwrap();
                    assert_eq!((outcome.stored.len(), outcome.duplicates), (1, 1));
                    stored
                        .lock()
                        .unwrap()
                        .push((outcome.stored.start, entry.get().id()));
                }
            });
        }
    });
    let mut stored = stored.into_inner().unwrap();
    stored.sort_unstable();
    let view = store.snapshot(tree).unwrap();
    assert_eq!(view.entry_count(), 201);
    for (at, id) in stored {
        assert_eq!(view.node(eidetica_dag::Arrival(at)).unwrap().id, id);
    }
}

fn authors_root(_: &[VerifiedEntry], store: &PostgresStore, tree: TreeId) -> VerifiedEntry {
    let root = store
        .snapshot(tree)
        .unwrap()
        .entry(eidetica_dag::Arrival(0));
    VerifiedEntry::stored(root.unwrap())
}

/// Several servers append overlapping parts of several trees in random order while connections are cut
/// and the database restarts. Afterwards every server has every entry once, in one order, and that order
/// leads the reference to the same views.
#[test]
#[ignore = "needs PostgreSQL"]
fn nothing_is_lost_or_doubled_whatever_is_cut() {
    let server = Arc::new(Server::start());
    let schema = new_schema();
    for round in 0..2_u64 {
        let trees: Vec<Authors> = (0..3)
            .map(|it| Authors::grown(10 * round + it + 1, 300))
            .collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let appending: Vec<_> = (0..6)
                .map(|number: u64| {
                    let (server, schema, trees) = (&server, &schema, &trees);
                    scope.spawn(move || {
                        let store = open_patiently(&server.url(), schema);
                        append_all(&store, trees, 100 * round + number + 1);
                    })
                })
                .collect();
            let cutting = scope.spawn(|| {
                let mut random = Authors::new(round + 77);
                while !is_over.load(Ordering::Relaxed) {
                    server.cut_connections();
                    if random.below(8) == 0 {
                        server.stop();
                        server.run();
                    }
                }
            });
            let appended: Vec<_> = appending.into_iter().map(|it| it.join()).collect();
            is_over.store(true, Ordering::Relaxed);
            cutting.join().unwrap();
            assert!(appended.iter().all(Result::is_ok));
        });
        let servers = [open(&server.url(), &schema), open(&server.url(), &schema)];
        for authors in &trees {
            let view = servers[0].snapshot(authors.tree()).unwrap();
            assert_eq!(view.entry_count(), 300);
            let mut reference = MemoryDag::new(authors.tree());
            let log = (0..300).map(|at| view.entry(eidetica_dag::Arrival(at)).unwrap());
            let outcome = reference.append(log.map(VerifiedEntry::stored).collect());
            assert_eq!(outcome.stored, 0..300);
            for server in &servers {
                let view = server.snapshot(authors.tree()).unwrap();
                assert_same_view(&*view, &reference, &ids(authors));
            }
        }
    }
}

/// Appends every entry of every tree, in batches of random size from random trees, and again where the
/// database could not be reached. What is acknowledged as stored is visible at once.
fn append_all(store: &PostgresStore, trees: &[Authors], seed: u64) {
    let mut random = Authors::new(seed);
    let mut done = vec![0; trees.len()];
    while done
        .iter()
        .zip(trees)
        .any(|(at, it)| *at < it.entries().len())
    {
        let tree = random.below(trees.len());
        let (authors, from) = (&trees[tree], done[tree]);
        let to = (from + 1 + random.below(25)).min(authors.entries().len());
        let batch = authors.entries()[from..to].to_vec();
        match store.append(authors.tree(), batch) {
            Ok(outcome) => {
                assert!(outcome.waiting.is_empty() && outcome.refused.is_none());
                assert_eq!(outcome.stored.len() + outcome.duplicates, to - from);
                done[tree] = to;
            }
            Err(error) => assert!(error.is_temporary(), "{error:?}"),
        }
        if let Ok(view) = store.snapshot(authors.tree()) {
            for entry in &authors.entries()[..done[tree]] {
                assert!(view.arrival(&entry.get().id()).unwrap().is_some());
            }
        }
    }
}

/// Everything works through a pooler that lends connections for one transaction.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_transaction_pooler_is_enough() {
    let (server, schema) = (server(), new_schema());
    let pooler = server.pooler();
    let servers = [open(&pooler.url(), &schema), open(&pooler.url(), &schema)];
    let trees: Vec<Authors> = (1..4).map(|seed| Authors::grown(seed, 200)).collect();
    thread::scope(|scope| {
        for (number, store) in servers.iter().enumerate() {
            let trees = &trees;
            scope.spawn(move || append_all(store, trees, number as u64 + 1));
            scope.spawn(move || {
                for count in 0..20_u8 {
                    let add = |value: Option<&[u8]>| {
                        let mut value = value.map_or(Vec::new(), <[u8]>::to_vec);
                        value.push(count);
                        Some(value)
                    };
                    store.update("counts", &mut { add }).unwrap();
                }
            });
        }
    });
    assert_eq!(servers[0].get("counts").unwrap().unwrap().len(), 40);
    // Large batches from both servers, over the same few connections.
    let large: Vec<Authors> = (11..15).map(|seed| Authors::grown(seed, 1_200)).collect();
    thread::scope(|scope| {
        for (number, authors) in large.iter().enumerate() {
            let store = &servers[number % 2];
            scope.spawn(move || {
                for batch in authors.entries().chunks(400) {
                    let outcome = store.append(authors.tree(), batch.to_vec()).unwrap();
                    assert_eq!(outcome.stored.len(), 400);
                }
            });
        }
    });
    for authors in &trees {
        let view = servers[1].snapshot(authors.tree()).unwrap();
        assert_eq!(view.entry_count(), 200);
    }
}

/// A store can be used from asynchronous code, though it blocks.
#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_task_may_call_it() {
    let subject = tokio::task::spawn_blocking(InPostgres::create)
        .await
        .unwrap();
    for number in 0..500_u32 {
        subject
            .store
            .put("number", Some(&number.to_le_bytes()))
            .unwrap();
    }
    let found = subject.store.get("number").unwrap();
    assert_eq!(found.unwrap(), 499_u32.to_le_bytes());
    drop(subject);
}

/// Proofs of requests are used up for all servers, and a crash of the database, which forgets them, ends
/// their epoch.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_proof_is_good_once_on_one_of_the_servers() {
    let (server, schema) = (Server::start(), new_schema());
    let servers = [open(&server.url(), &schema), open(&server.url(), &schema)];
    let epoch = servers[0].epoch().unwrap();
    assert_eq!(servers[1].epoch().unwrap(), epoch);
    let take = |number: usize, epoch, proof: &[u8]| servers[number].take_proof(epoch, proof, 1_000);
    assert_eq!(take(0, epoch, b"one").unwrap(), Taken::First);
    assert_eq!(take(0, epoch, b"one").unwrap(), Taken::Replay);
    assert_eq!(take(1, epoch, b"one").unwrap(), Taken::Replay);
    assert_eq!(take(1, epoch, b"two").unwrap(), Taken::First);

    server.stop();
    assert!(servers[0].check().is_err());
    server.run();
    servers[0].check().unwrap();
    // Connections from before the crash are noticed by their first use.
    let after = loop {
        match take(0, epoch, b"one") {
            Ok(taken) => break taken,
            Err(error) => assert!(error.is_temporary(), "{error:?}"),
        }
    };
    let Taken::Stale(next) = after else {
        panic!("a forgotten proof is taken again: {after:?}");
    };
    assert_ne!(next, epoch);
    assert_eq!(servers[1].epoch().unwrap(), next);
    assert_eq!(take(1, next, b"one").unwrap(), Taken::First);
}

/// What one server appends, another one hears, also after every connection was cut, and not its own.
#[test]
#[ignore = "needs PostgreSQL"]
fn servers_hear_of_each_other() {
    let (server, schema) = (Server::start(), new_schema());
    let servers = [open(&server.url(), &schema), open(&server.url(), &schema)];
    let (heard, news) = std::sync::mpsc::sync_channel(1_000);
    for (number, store) in servers.iter().enumerate() {
        let heard = heard.clone();
        store.listen(Arc::new(move |tree, arrivals| {
            heard.send((number, tree, arrivals)).unwrap();
            true
        }));
    }
    let authors = Authors::grown(1, 60);
    let tree = authors.tree();
    let wait = std::time::Duration::from_secs(30);
    let mut know = [0, 0];
    for (turn, batch) in authors.entries().chunks(10).enumerate() {
        if turn == 3 {
            server.cut_connections();
        }
        let (by, end) = (turn % 2, (turn as u32 + 1) * 10);
        loop {
            match servers[by].append(tree, batch.to_vec()) {
                Ok(_) => break,
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
        know[by] = end;
        while know[1 - by] < end {
            let (number, of, arrivals) = news.recv_timeout(wait).unwrap();
            assert_eq!((of, number), (tree, 1 - by), "{arrivals:?}");
            know[number] = arrivals.end;
        }
    }
}
