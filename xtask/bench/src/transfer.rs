//! How fast a whole tree is transferred, what it costs on the wire and in memory, and how near that
//! is to what each step can do alone.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::store::{MemoryStore, Store};
use xtask_support::process::Supervisor;
use xtask_support::report::{Report, Table, Target, decimals, mib};
use xtask_support::{failed, now};

use crate::clock::process_cpu;
use crate::history::{History, Shape};
use crate::limits::Limits;
use crate::nodes::{Transport, key, listen, runtime, start_with};
use crate::side::{Side, number};

/// Bootstraps of a whole tree: speed, bytes and memory, and each step alone
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    shape: Shape,
    /// The transports between durable stores
    #[arg(long, default_values = ["http", "iroh"])]
    via: Vec<Transport>,
}

/// Most bytes that a side may need over what it had before, whatever the history.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Most bytes on the wire for each byte of an entry with [`TEXT_BYTES`] of text.
const WIRE_RATIO_MAX: f64 = 0.6;
const TEXT_BYTES: usize = 200;

/// Least shares of the rates alone that bootstraps reach.
const MEMORY_SHARE_MIN: f64 = 0.5;
const REDB_SHARE_MIN: f64 = 0.6;

/// What a bootstrap took.
struct Bootstrap {
    /// From the first request until everything is stored.
    wall: Duration,
    /// Bytes of frames that carried entries.
    wire_bytes: u64,
    /// Processor time of both sides.
    cpu: Duration,
    /// Peak memory of the client and of the server over what they had before the transfer.
    peak_bytes: Option<[u64; 2]>,
}

/// Measures each step alone, and then bootstraps between stores in memory and on disk.
pub fn run(options: &Options) -> Result<Report, String> {
    let history = History::sign(options.shape);
    let supervisor = Supervisor::start("transfer", false)?;
    let full = supervisor.folder().join("full");
    let limits = Limits::measure(&history, &full)?;
    let headings = &[
        "stores",
        "over",
        "entries/s",
        "compared with",
        "alone",
        "share",
        "wire bytes/raw bytes",
        "µs of one core, both sides",
        "client MiB",
        "server MiB",
    ];
    let mut table = Table::new("bootstraps; µs are for each entry", headings);
    let [mut fast, mut small, mut modest] = [
        "0.6 of the rate of insertion alone between durable stores, 0.5 of the rate of unpacking \
         alone between stores in memory",
        "0.6 bytes on the wire for each byte of an entry with 200 bytes of text",
        "64 MiB of memory over idle for each side with a durable store",
    ]
    .map(Target::new);
    let kinds = [None]
        .into_iter()
        .chain(options.via.iter().copied().map(Some));
    for kind in kinds {
        let (took, [stores, over, step], alone, share_min) = match kind {
            None => {
                let names = ["memory", "memory", "decoding and hashing"];
                (
                    in_process(&history)?,
                    names,
                    limits.unpacking(),
                    MEMORY_SHARE_MIN,
                )
            }
            Some(transport) => {
                let took = between_processes(&supervisor, &history, transport, &full)?;
                let names = ["redb", transport.name(), "durable insertion"];
                (took, names, limits.insertion(), REDB_SHARE_MIN)
            }
        };
        let entries = history.entries.len() as f64;
        let rate = entries / took.wall.as_secs_f64();
        let (share, ratio) = (
            rate / alone,
            took.wire_bytes as f64 / history.raw_bytes as f64,
        );
        let peaks = took.peak_bytes;
        fast.check(share >= share_min, || {
            format!("{stores} over {over}: {share:.2}")
        });
        let is_small = options.shape.payload_bytes != TEXT_BYTES || ratio <= WIRE_RATIO_MAX;
        small.check(is_small, || format!("{stores} over {over}: {ratio:.2}"));
        let is_modest = peaks.is_none_or(|peaks| peaks.iter().all(|it| *it <= MEMORY_BYTES_MAX));
        modest.check(is_modest, || {
            format!("{stores} over {over}: {peaks:?} bytes")
        });
        let [client, server] = peaks.map_or([String::new(), String::new()], |it| it.map(mib));
        table.push(vec![
            stores.into(),
            over.into(),
            decimals(rate, 0),
            step.into(),
            decimals(alone, 0),
            decimals(share, 2),
            decimals(ratio, 2),
            decimals(took.cpu.as_secs_f64() * 1e6 / entries, 2),
            client,
            server,
        ]);
    }
    Ok(Report {
        tables: vec![limits.table(), table],
        targets: vec![fast, small, modest],
    })
}

/// Bootstraps within this process, over a network in memory.
fn in_process(history: &History) -> Result<Bootstrap, String> {
    runtime()?.block_on(async {
        let network = MemoryNetwork::new();
        let full: Arc<dyn Store> = Arc::new(MemoryStore::new());
        full.append(history.tree, history.entries.clone())
            .map_err(failed)?;
        let node = |name, store| {
            let key = key(name);
            let transport = network.transport(name).key(key.public()).build();
            start_with(store, key, transport)
        };
        let server = node("server", full)?;
        let client = node("client", Arc::new(MemoryStore::new()))?;
        let address = listen(&server).await?;
        let (cpu, started) = (process_cpu(), now());
        let report = client.sync(history.tree, address).await.map_err(failed)?;
        let (wall, cpu) = (started.elapsed(), process_cpu() - cpu);
        client.shutdown().await.map_err(failed)?;
        server.shutdown().await.map_err(failed)?;
        let wire_bytes = report.stats.received_bytes;
        Ok(Bootstrap {
            wall,
            wire_bytes,
            cpu,
            peak_bytes: None,
        })
    })
}

/// Bootstraps between two processes with durable stores.
fn between_processes(
    supervisor: &Rc<Supervisor>,
    history: &History,
    transport: Transport,
    full: &Path,
) -> Result<Bootstrap, String> {
    let empty = supervisor.folder().join("empty");
    let mut server = Side::start(supervisor, "server", transport, Some(full))?;
    let address = server.ask("listen")?;
    server.order("begin")?;
    let mut client = Side::start(supervisor, "client", transport, Some(&empty))?;
    let synced = client.order(&format!("sync {} {address}", history.tree))?;
    let served = server.order("used")?;
    client.finish()?;
    server.finish()?;
    std::fs::remove_file(&empty).map_err(failed)?;
    Ok(Bootstrap {
        wall: Duration::from_micros(number(&synced, "wall_us")),
        wire_bytes: number(&synced, "wire_bytes"),
        cpu: Duration::from_micros(number(&synced, "cpu_us") + number(&served, "cpu_us")),
        peak_bytes: Some([&synced, &served].map(|side| number(side, "peak_bytes"))),
    })
}
