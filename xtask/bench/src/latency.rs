//! How long a sync takes over a warm connection.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::proto::Stats;
use eidetica_sync::proto::receiver::APPEND_BYTES_TARGET;
use eidetica_sync::proto::{Address, SyncOptions, SyncOutcome};
use eidetica_sync::store::Store;

use crate::cli::{Command, Failure, Options};
use crate::clock;
use crate::history::{History, Shape, Text};
use crate::nodes::{StoreKind, TransportKind, failed, listen, runtime, start};
use crate::report::{Cell, Report, Table, Target, column};

/// The benchmark's entry in the list.
pub const COMMAND: Command = Command {
    name: "latency",
    summary: "Syncs over a warm connection: nothing new, one entry, both wrote ten.",
    options: "\
  --entries LIST    Entries of the tree [default: 1000,100000]
  --store KIND      memory or redb, on both sides [default: redb]
  --transport KIND  http or iroh [default: both]
  --rounds N        Syncs of each kind [default: 200]
",
    run,
};

/// Syncs that are not counted, so that connections stand and caches are filled.
const WARM_UP_ROUNDS: usize = 5;

/// Most bytes that a sync of equal trees takes in either direction.
const NO_OP_BYTES_MAX: u64 = 120;

/// What both sides write before a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    One,
    TenEach,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing new",
            Self::One => "1 new entry",
            Self::TenEach => "both wrote 10",
        }
    }

    /// How many entries the asking and the answering side write.
    fn written(self) -> [usize; 2] {
        match self {
            Self::Nothing => [0, 0],
            Self::One => [0, 1],
            Self::TenEach => [10, 10],
        }
    }
}

fn run(mut options: Options) -> Result<Report, Failure> {
    let sizes: String = options.value("--entries")?.unwrap_or("1000,100000".into());
    let store = options.value("--store")?.unwrap_or(StoreKind::Redb);
    let transport: Option<TransportKind> = options.value("--transport")?;
    let rounds: usize = options.value("--rounds")?.unwrap_or(200);
    options.finish()?;
    let transports = match transport {
        Some(one) => vec![one],
        None => vec![TransportKind::Http, TransportKind::Iroh],
    };
    let columns = const {
        &[
            column("transport", "transport"),
            column("entries", "entries"),
            column("sync", "sync"),
            column("median ms", "median_ms"),
            column("p99 ms", "p99_ms"),
            column("CPU ms, both sides", "cpu_both_sides_ms"),
            column("round trips", "round_trips"),
            column("sent bytes", "sent_bytes"),
            column("received bytes", "received_bytes"),
        ]
    };
    let mut table = Table::new(
        "Syncs over a warm connection, means but where it says otherwise",
        columns,
    );
    let mut large = Vec::new();
    for size in sizes.split(',') {
        let wrong = |_| Failure::Usage(format!("--entries cannot be {size:?}"));
        let entries = size.parse().map_err(wrong)?;
        for &transport in &transports {
            for (kind, measured) in measure(entries, store, transport, rounds)? {
                let row = measured.row(transport, entries, kind);
                if kind == Kind::Nothing
                    && measured.bytes().into_iter().max() > Some(NO_OP_BYTES_MAX)
                {
                    let [sent, received] = measured.bytes();
                    large.push(format!(
                        "{} of {size}: {sent}, {received}",
                        transport.name()
                    ));
                }
                table.push(row);
            }
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: vec![Target {
            wanted: "120 bytes in either direction where there is nothing new",
            missed: large,
        }],
    })
}

fn measure(
    entries: usize,
    store: StoreKind,
    transport: TransportKind,
    rounds: usize,
) -> Result<Vec<(Kind, Measured)>, Failure> {
    let history = History::sign(Shape {
        entries,
        payload_bytes: 200,
        authors: 3,
        run: 100,
    });
    let history = history.map_err(failed)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let open = |name| -> Result<Arc<dyn Store>, Failure> {
        let store = store.open(&folder.path().join(name))?;
        for step in history.steps(APPEND_BYTES_TARGET) {
            store.append(history.tree, step.to_vec()).map_err(failed)?;
        }
        Ok(store)
    };
    let (asking, answering) = (open("asking")?, open("answering")?);
    runtime()?.block_on(async {
        let network = MemoryNetwork::new();
        let asking = start("asking", asking, transport, &network).await?;
        let answering = start("answering", answering, transport, &network).await?;
        let pair = Pair {
            tree: history.tree,
            address: listen(&answering).await?,
            asking: asking.clone(),
            answering: answering.clone(),
        };
        let mut text = Text::new();
        let mut all = Vec::new();
        for kind in [Kind::Nothing, Kind::One, Kind::TenEach] {
            let mut measured = Measured::default();
            for round in 0..WARM_UP_ROUNDS + rounds {
                let sample = pair.round(kind, &mut text).await?;
                if round >= WARM_UP_ROUNDS {
                    measured.add(sample);
                }
            }
            all.push((kind, measured));
        }
        asking.shutdown().await.map_err(failed)?;
        answering.shutdown().await.map_err(failed)?;
        Ok(all)
    })
}

struct Pair {
    asking: Node,
    answering: Node,
    tree: TreeId,
    address: Address,
}

struct Sample {
    wall: Duration,
    cpu: Duration,
    stats: Stats,
}

impl Pair {
    async fn round(&self, kind: Kind, text: &mut Text) -> Result<Sample, Failure> {
        for (node, count) in [&self.asking, &self.answering]
            .into_iter()
            .zip(kind.written())
        {
            let lines = (0..count).map(|_| text.line(200)).collect();
            node.append_all(self.tree, lines).await.map_err(failed)?;
        }
        // Where nothing is new, it is a node that only looks whether there is: it asks by its tips.
        let options = SyncOptions {
            filter_at_once: kind != Kind::Nothing,
            ..SyncOptions::default()
        };
        let (before, cpu) = (clock::now(), clock::process_cpu());
        let begun = self
            .asking
            .begin_sync(self.tree, self.address.clone(), options);
        let report = begun.await.map_err(failed)?.finish().await;
        let (wall, cpu) = (before.elapsed(), clock::process_cpu() - cpu);
        let report = report.map_err(failed)?;
        if report.outcome != SyncOutcome::Equal {
            return Err(failed(format!("a sync ended with {:?}", report.outcome)));
        }
        let stats = report.stats;
        Ok(Sample { wall, cpu, stats })
    }
}

/// What the syncs of one kind took.
#[derive(Default)]
struct Measured {
    walls: Vec<Duration>,
    cpu: Duration,
    round_trips: u64,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Measured {
    fn add(&mut self, sample: Sample) {
        let stats = sample.stats;
        self.walls.push(sample.wall);
        self.cpu += sample.cpu;
        self.round_trips += u64::from(stats.round_trips);
        self.sent_bytes += stats.request_bytes + stats.sent_bytes;
        self.received_bytes += stats.response_bytes + stats.received_bytes;
    }

    fn count(&self) -> u64 {
        self.walls.len().max(1) as u64
    }

    /// Returns the bytes of frames each way, the mean.
    fn bytes(&self) -> [u64; 2] {
        [self.sent_bytes, self.received_bytes].map(|bytes| bytes / self.count())
    }

    fn row(&self, transport: TransportKind, entries: usize, kind: Kind) -> Vec<Cell> {
        let mut walls = self.walls.clone();
        walls.sort_unstable();
        let at = |percent: usize| {
            let index = (walls.len() * percent / 100).min(walls.len().saturating_sub(1));
            let wall = walls.get(index).copied().unwrap_or_default();
            Cell::Number(wall.as_secs_f64() * 1e3, 2)
        };
        let count = self.count() as f64;
        let [sent, received] = self.bytes();
        vec![
            transport.name().into(),
            Cell::Count(entries as u64),
            kind.name().into(),
            at(50),
            at(99),
            Cell::Number(self.cpu.as_secs_f64() * 1e3 / count, 2),
            Cell::Number(self.round_trips as f64 / count, 2),
            Cell::Count(sent),
            Cell::Count(received),
        ]
    }
}
