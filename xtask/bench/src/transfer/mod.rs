//! How fast a whole tree is transferred, what it costs on the wire and in memory, and how near that
//! is to what each step can do alone.

mod limits;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_replicas::clock::process_cpu;
use serde_json::Value;
use xtask_support::process::Supervisor;
use xtask_support::report::{Cell, Report, Table, Target, mib};
use xtask_support::{failed, now};

use self::limits::Limits;
use crate::history::{History, Shape};
use crate::nodes::{StoreKind, TransportKind, listen, runtime, start};
use crate::side;

/// Bootstraps of a whole tree: speed, bytes and memory, and each step alone
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    shape: Shape,
    /// The store of both sides
    #[arg(long, default_value = "redb")]
    store: StoreKind,
    /// The transport
    #[arg(long, default_value = "http")]
    transport: TransportKind,
    /// Every store with every transport
    #[arg(long)]
    all: bool,
    /// Bootstraps of each kind; each must reach its share
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

/// Most bytes that a side may need over what it had before, whatever the history.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Most bytes on the wire for each byte of an entry with [`TEXT_BYTES`] of text.
const WIRE_RATIO_MAX: f64 = 0.6;
const TEXT_BYTES: usize = 200;

/// Least shares of their limits that bootstraps reach.
const MEMORY_SHARE_MIN: f64 = 0.5;
const REDB_SHARE_MIN: f64 = 0.6;

/// What a bootstrap took.
struct Bootstrap {
    /// From the first request until everything is stored.
    wall: Duration,
    /// Bytes of frames that carried entries.
    wire_bytes: u64,
    /// What each side took; both together where they share a process.
    asking: Used,
    answering: Option<Used>,
}

/// What one side took.
struct Used {
    cpu: Duration,
    /// Peak memory over what it had before the transfer, if the system reports it.
    peak_bytes: Option<u64>,
}

/// Measures each step alone, and then the bootstraps that the options name.
pub fn run(options: &Options) -> Result<Report, String> {
    let transports = TransportKind::value_variants();
    let with_all = |store: &StoreKind| {
        transports
            .iter()
            .map(|it| (*store, *it))
            .collect::<Vec<_>>()
    };
    let rows = match options.all {
        true => StoreKind::value_variants()
            .iter()
            .flat_map(with_all)
            .collect(),
        false => vec![(options.store, options.transport)],
    };
    let history = History::sign(options.shape).map_err(failed)?;
    let supervisor = Supervisor::start("transfer", false)?;
    let full = supervisor.folder().join("full");
    let limits = Limits::measure(&history, &full)?;
    let mut report = Report {
        tables: vec![limits.table(), table()],
        targets: vec![
            Target::new(
                "0.6 of the rate of insertion alone between durable stores, \
                 0.5 of the rate of unpacking alone between stores in memory",
            ),
            Target::new("0.6 bytes on the wire for each byte of an entry with 200 bytes of text"),
            Target::new("64 MiB of memory over idle for each side with a durable store"),
        ],
    };
    for (store, transport) in rows.into_iter().flat_map(|row| vec![row; options.repeat]) {
        let empty = supervisor.folder().join("empty");
        let files = [full.as_path(), empty.as_path()];
        let took = match transport {
            TransportKind::Memory => in_process(&history, store, files)?,
            TransportKind::Http | TransportKind::Iroh => between_processes(
                &supervisor,
                &history,
                options.shape,
                (store, transport),
                files,
            )?,
        };
        push(
            &mut report,
            &history,
            options.shape,
            &limits,
            (store, transport),
            &took,
        );
        if store == StoreKind::Redb {
            std::fs::remove_file(&empty).map_err(failed)?;
        }
    }
    Ok(report)
}

/// Bootstraps within this process, over a network in memory.
fn in_process(
    history: &History,
    store: StoreKind,
    [full, empty]: [&Path; 2],
) -> Result<Bootstrap, String> {
    runtime()?.block_on(async {
        let network = MemoryNetwork::new();
        let answering = store.open(full)?;
        if store == StoreKind::Memory {
            answering
                .append(history.tree, history.entries.clone())
                .map_err(failed)?;
        }
        let kind = TransportKind::Memory;
        let answering = start("answering", answering, kind, &network).await?;
        let asking = start("asking", store.open(empty)?, kind, &network).await?;
        let address = listen(&answering).await?;
        let (cpu, started) = (process_cpu(), now());
        let report = asking.sync(history.tree, address).await.map_err(failed)?;
        let (wall, cpu) = (started.elapsed(), process_cpu() - cpu);
        asking.shutdown().await.map_err(failed)?;
        answering.shutdown().await.map_err(failed)?;
        let asking = Used {
            cpu,
            peak_bytes: None,
        };
        let wire_bytes = report.stats.received_bytes;
        Ok(Bootstrap {
            wall,
            wire_bytes,
            asking,
            answering: None,
        })
    })
}

/// Bootstraps between two processes.
fn between_processes(
    supervisor: &Rc<Supervisor>,
    history: &History,
    shape: Shape,
    kinds: (StoreKind, TransportKind),
    [full, empty]: [&Path; 2],
) -> Result<Bootstrap, String> {
    let mut answering = side::Side::start(supervisor, "answering", kinds, full)?;
    if kinds.0 == StoreKind::Memory {
        answering.order(&format!("sign {}", shape.words()))?;
    }
    let address = answering.order("listen")?;
    let address = address["address"]
        .as_str()
        .ok_or("the answering side has no address")?;
    answering.begin_usage()?;
    let mut asking = side::Side::start(supervisor, "asking", kinds, empty)?;
    let asked = asking.order(&format!("sync {} {address}", history.tree))?;
    let answered = answering.order("used")?;
    asking.finish()?;
    answering.finish()?;
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
    let used = |value: &Value| Used {
        cpu: Duration::from_micros(number(value, "cpu_us")),
        peak_bytes: value["peak_bytes"].as_u64(),
    };
    Ok(Bootstrap {
        wall: Duration::from_micros(number(&asked, "wall_us")),
        wire_bytes: number(&asked, "wire_bytes"),
        asking: used(&asked),
        answering: Some(used(&answered)),
    })
}

fn table() -> Table {
    Table::new(
        "Bootstraps; the CPU time of both sides where they share a process",
        &[
            ("stores", "store"),
            ("transport", "transport"),
            ("entries/s", "entries_per_second"),
            ("of its limit", "share_of_limit"),
            ("wire bytes/entry", "wire_bytes_per_entry"),
            ("raw bytes/entry", "raw_bytes_per_entry"),
            ("wire/raw", "wire_per_raw"),
            ("asking: CPU µs/entry", "asking_cpu_us_per_entry"),
            ("memory MiB", "asking_memory_over_idle_mib"),
            ("answering: CPU µs/entry", "answering_cpu_us_per_entry"),
            ("memory MiB", "answering_memory_over_idle_mib"),
        ],
    )
}

fn push(
    report: &mut Report,
    history: &History,
    shape: Shape,
    limits: &Limits,
    (store, transport): (StoreKind, TransportKind),
    took: &Bootstrap,
) {
    let row = format!("{} over {}", store.name(), transport.name());
    let (entries, raw_bytes) = (history.entries.len() as f64, history.raw_bytes as f64);
    let (rate, wire_bytes) = (entries / took.wall.as_secs_f64(), took.wire_bytes as f64);
    let (share, ratio) = (rate / limits.of(store), wire_bytes / raw_bytes);
    // A store in memory needs as much memory as the history.
    let (share_min, peak_max) = match store {
        StoreKind::Memory => (MEMORY_SHARE_MIN, u64::MAX),
        StoreKind::Redb => (REDB_SHARE_MIN, MEMORY_BYTES_MAX),
    };
    let sides = [Some(&took.asking), took.answering.as_ref()];
    let peak = sides
        .into_iter()
        .flatten()
        .filter_map(|side| side.peak_bytes)
        .max()
        .unwrap_or(0);
    let [fast, small, modest] = &mut report.targets[..] else {
        unreachable!("three targets")
    };
    fast.check(share >= share_min, || format!("{row}: {share:.2}"));
    let is_text = shape.payload_bytes == TEXT_BYTES;
    small.check(!is_text || ratio <= WIRE_RATIO_MAX, || {
        format!("{row}: {ratio:.2}")
    });
    modest.check(peak <= peak_max, || format!("{row}: {} MiB", peak >> 20));
    let cpu = |side: &Used| Cell::Number(side.cpu.as_secs_f64() * 1e6 / entries, 2);
    report.tables[1].push(vec![
        store.name().into(),
        transport.name().into(),
        Cell::Number(rate, 0),
        Cell::Number(share, 2),
        Cell::Number(wire_bytes / entries, 1),
        Cell::Number(raw_bytes / entries, 1),
        Cell::Number(ratio, 2),
        cpu(&took.asking),
        mib(took.asking.peak_bytes),
        took.answering.as_ref().map(cpu).into(),
        mib(took.answering.as_ref().and_then(|side| side.peak_bytes)),
    ]);
}
