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

use eidetica_replicas::clock::process_cpu;
use xtask_support::figures::{mean, milliseconds, quantile};
use xtask_support::report::{Cell, Report, Table, Target};
use xtask_support::{failed, now};

use crate::history::{History, Shape, Text};
use crate::nodes::{StoreKind, TransportKind, listen, runtime, start};

/// Syncs over a warm connection: nothing new, one entry, both wrote ten
#[derive(clap::Args)]
pub struct Options {
    /// Entries of the tree
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    entries: Vec<usize>,
    /// The store of both sides
    #[arg(long, default_value = "redb")]
    store: StoreKind,
    /// The transport
    #[arg(long, default_values = ["http", "iroh"])]
    transport: Vec<TransportKind>,
    /// Syncs of each kind
    #[arg(long, default_value_t = 200)]
    rounds: usize,
}

/// Syncs that are not counted, so that connections are open and caches are filled.
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

/// Measures every size over every transport.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut table = Table::new(
        "Syncs over a warm connection, means unless a heading says otherwise",
        &[
            ("transport", "transport"),
            ("entries", "entries"),
            ("sync", "sync"),
            ("median ms", "median_ms"),
            ("p99 ms", "p99_ms"),
            ("CPU ms, both sides", "cpu_both_sides_ms"),
            ("round trips", "round_trips"),
            ("sent bytes", "sent_bytes"),
            ("received bytes", "received_bytes"),
        ],
    );
    let mut small = Target::new("120 bytes in either direction where there is nothing new");
    for &entries in &options.entries {
        for &transport in &options.transport {
            for (kind, samples) in measure(entries, options.store, transport, options.rounds)? {
                let walls: Vec<Duration> = samples.iter().map(|sample| sample.wall).collect();
                let number = |figure: &dyn Fn(&Sample) -> f64, decimals| {
                    Cell::Number(mean(&samples, figure), decimals)
                };
                let [sent, received] = [Sample::sent, Sample::received]
                    .map(|bytes| mean(&samples, |sample| bytes(sample) as f64) as u64);
                small.check(
                    kind != Kind::Nothing || sent.max(received) <= NO_OP_BYTES_MAX,
                    || format!("{} of {entries}: {sent}, {received}", transport.name()),
                );
                table.push(vec![
                    transport.name().into(),
                    entries.into(),
                    kind.name().into(),
                    Cell::Number(milliseconds(quantile(&walls, 0.5)), 2),
                    Cell::Number(milliseconds(quantile(&walls, 0.99)), 2),
                    number(&|sample| milliseconds(sample.cpu), 2),
                    number(&|sample| sample.stats.round_trips.into(), 2),
                    sent.into(),
                    received.into(),
                ]);
            }
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: vec![small],
    })
}

fn measure(
    entries: usize,
    store: StoreKind,
    transport: TransportKind,
    rounds: usize,
) -> Result<Vec<(Kind, Vec<Sample>)>, String> {
    let history = History::sign(Shape {
        entries,
        payload_bytes: 200,
        authors: 3,
        run: 100,
    });
    let history = history.map_err(failed)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let open = |name| -> Result<Arc<dyn Store>, String> {
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
            let mut samples = Vec::new();
            for round in 0..WARM_UP_ROUNDS + rounds {
                let sample = pair.round(kind, &mut text).await?;
                if round >= WARM_UP_ROUNDS {
                    samples.push(sample);
                }
            }
            all.push((kind, samples));
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

impl Sample {
    /// Returns the bytes of the frames that were sent.
    fn sent(&self) -> u64 {
        self.stats.request_bytes + self.stats.sent_bytes
    }

    /// Returns the bytes of the frames that were received.
    fn received(&self) -> u64 {
        self.stats.response_bytes + self.stats.received_bytes
    }
}

impl Pair {
    async fn round(&self, kind: Kind, text: &mut Text) -> Result<Sample, String> {
        for (node, count) in [&self.asking, &self.answering]
            .into_iter()
            .zip(kind.written())
        {
            let lines = (0..count).map(|_| text.line(200)).collect();
            node.append_all(self.tree, lines).await.map_err(failed)?;
        }
        // Where nothing is new, the node only asks whether there is: with its tips.
        let options = SyncOptions {
            filter_at_once: kind != Kind::Nothing,
            ..SyncOptions::default()
        };
        let (before, cpu) = (now(), process_cpu());
        let begun = self
            .asking
            .begin_sync(self.tree, self.address.clone(), options);
        let report = begun.await.map_err(failed)?.finish().await;
        let (wall, cpu) = (before.elapsed(), process_cpu() - cpu);
        let report = report.map_err(failed)?;
        if report.outcome != SyncOutcome::Equal {
            return Err(failed(format!("a sync ended with {:?}", report.outcome)));
        }
        let stats = report.stats;
        Ok(Sample { wall, cpu, stats })
    }
}
