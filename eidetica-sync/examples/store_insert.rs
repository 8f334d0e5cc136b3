//! Measures the durable store: `store_insert [entries] [batch] [cache MiB] [file]`.
//!
//! Signing is not measured: entries are made in chunks beforehand, and the clock runs only while
//! the store works.
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_dag::{
    AccessChange, AccessRule, Arrival, Body, Entry, Genesis, Role, SecretKey, Subject,
    VerifiedEntry, walk,
};
use eidetica_sync::store::{RedbStore, Store};

const PAYLOAD_BYTES: usize = 200;
const READS: u32 = 200_000;
const REPORT_EVERY: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |a| a.parse());
    let (entries, batch, cache_mib) = (number(1_000_000)?, number(8_192)?, number(32)?);
    let file = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("store_insert-{}.redb", std::process::id())),
        PathBuf::from,
    );
    let open = || {
        RedbStore::builder()
            .cache_bytes(cache_mib << 20)
            .open(&file)
    };

    let keys = [1, 2, 3].map(|author| SecretKey::from_bytes(&[author; 32]));
    let grant = |key: &SecretKey| AccessChange::grant(Subject::Key(key.public()), Role::Write);
    let root = Entry {
        tree: None,
        parents: Vec::new(),
        height: 0,
        timestamp_ms: 0,
        author: keys[0].public(),
        body: Body::Genesis(Genesis {
            access_rule: AccessRule::SENIORITY,
            nonce: [0; 16],
            name: "store_insert".to_owned(),
            access: keys[1..].iter().map(grant).collect(),
        }),
    };
    let root = VerifiedEntry::sign(root, &keys[0])?;
    let tree = root.get().tree();
    let mut last = root.get().id();
    let mut next = vec![root];

    let store = open()?;
    let (mut stored, mut appending, mut worst) = (0, Duration::ZERO, Duration::ZERO);
    let (mut reported, mut reported_at) = (0, Duration::ZERO);
    println!("entries   of the last part   of all");
    while stored < entries {
        while next.len() < batch {
            let height = (stored + next.len()) as u32;
            let key = &keys[height as usize % keys.len()];
            let entry = Entry {
                tree: Some(tree),
                parents: vec![last],
                height,
                timestamp_ms: u64::from(height),
                author: key.public(),
                body: Body::Data(Bytes::from(vec![height as u8; PAYLOAD_BYTES])),
            };
            let entry = VerifiedEntry::sign(entry, key)?;
            last = entry.get().id();
            next.push(entry);
        }
        stored += next.len();
        let began = Instant::now();
        store.append(tree, std::mem::take(&mut next))?;
        let took = began.elapsed();
        appending += took;
        worst = worst.max(took);
        if stored - reported >= REPORT_EVERY || stored >= entries {
            let part = (stored - reported) as f64 / (appending - reported_at).as_secs_f64();
            let all = stored as f64 / appending.as_secs_f64();
            println!("{stored:>8}  {part:>8.0}/s  {all:>8.0}/s");
            (reported, reported_at) = (stored, appending);
        }
    }
    let file_bytes = std::fs::metadata(&file)?.len();
    println!("slowest batch {worst:.1?}, file {} MiB", file_bytes >> 20);

    drop(store);
    let began = Instant::now();
    let store = open()?;
    println!("open {:.1?}", began.elapsed());
    let began = Instant::now();
    let view = store.snapshot(tree)?;
    println!("first snapshot {:.1?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..1_000 {
        store.snapshot(tree)?;
    }
    println!("snapshot {:.1?}", began.elapsed() / 1_000);

    let count = view.entry_count();
    let reads = READS.min(count);
    let per_second = |began: Instant| f64::from(reads) / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut bytes = 0;
    for at in (0..reads).map(Arrival) {
        bytes += view.encoded(at)?.len();
    }
    println!(
        "encoded, ascending {:.0}/s ({bytes} bytes)",
        per_second(began)
    );
    let began = Instant::now();
    for at in (count - reads..count).rev().map(Arrival) {
        view.node(at)?;
    }
    println!("nodes, descending {:.0}/s", per_second(began));
    // Steps of a large prime visit entries in no order that a cache could like.
    let scattered =
        (0..reads).map(|n| Arrival((u64::from(n) * 2_654_435_761 % u64::from(count)) as u32));
    let began = Instant::now();
    let mut ids = Vec::new();
    for at in scattered {
        ids.push(view.node(at)?.id);
    }
    println!("nodes, scattered {:.0}/s", per_second(began));
    let began = Instant::now();
    for id in &ids {
        view.arrival(id)?;
    }
    println!("numbers of ids that are here {:.0}/s", per_second(began));
    let began = Instant::now();
    for id in &ids {
        let mut other = *id.as_bytes();
        other.reverse();
        view.arrival(&eidetica_dag::EntryId::from_bytes(other))?;
    }
    println!("numbers of ids that are not {:.0}/s", per_second(began));
    let near = view.node(Arrival(count - count.min(100)))?.id;
    let began = Instant::now();
    let missing = walk::difference(&*view, &[near])?.len();
    println!("difference of {missing} {:.1?}", began.elapsed());
    let began = Instant::now();
    let all = walk::difference(&*view, &[])?.len();
    println!("difference of {all} {:.1?}", began.elapsed());

    drop(view);
    let mut appending = Duration::ZERO;
    let singles = 200;
    for n in 0..singles {
        let height = stored as u32 + n;
        let entry = Entry {
            tree: Some(tree),
            parents: vec![last],
            height,
            timestamp_ms: 0,
            author: keys[0].public(),
            body: Body::Data(Bytes::from(vec![0; PAYLOAD_BYTES])),
        };
        let entry = VerifiedEntry::sign(entry, &keys[0])?;
        last = entry.get().id();
        let began = Instant::now();
        store.append(tree, vec![entry])?;
        appending += began.elapsed();
    }
    println!("one entry {:.1?}", appending / singles);
    drop(store);
    std::fs::remove_file(&file)?;
    Ok(())
}
