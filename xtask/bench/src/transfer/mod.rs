//! How fast a whole tree comes over, what it costs on the wire and in memory, and how near that is
//! to what each step can do alone.

mod limits;
mod sides;

use crate::cli::{Command, Failure, Options};
use crate::history::{History, Shape};
use crate::nodes::{StoreKind, TransportKind, failed};
use crate::report::{Cell, Report, Table, Target, column};

use self::limits::Limits;
use self::sides::{Bootstrap, Side};

pub use self::sides::COMMAND as SIDE_COMMAND;

/// The benchmark's entry in the list.
pub const COMMAND: Command = Command {
    name: "transfer",
    summary: "Bootstraps of a whole tree: entries per second, bytes, memory, beside their limits.",
    options: "\
  --entries N        Entries of the tree [default: 100000]
  --payload-bytes N  Bytes of text in each [default: 200]
  --authors N        Authors who write side by side [default: 3]
  --run N            Entries of each author until one merges them all [default: 100]
  --store KIND       memory or redb, on both sides [default: redb]
  --transport KIND   memory, http or iroh [default: http]
  --all              Every store with every transport
  --repeat N         Bootstraps of each kind; each must reach its share [default: 1]
",
    run,
};

/// Most bytes that a side may need over what it had before, whatever the history.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Most bytes on the wire for each byte of an entry with [`TEXT_BYTES`] of text.
const WIRE_RATIO_MAX: f64 = 0.6;
const TEXT_BYTES: usize = 200;

/// Returns the least share of its limit that a bootstrap reaches.
fn share_min(store: StoreKind) -> f64 {
    match store {
        StoreKind::Memory => 0.5,
        StoreKind::Redb => 0.6,
    }
}

fn run(mut options: Options) -> Result<Report, Failure> {
    let shape = Shape::from_options(&mut options)?;
    let store = options.value("--store")?;
    let transport = options.value("--transport")?;
    let all = options.flag("--all");
    let repeat: usize = options.value("--repeat")?.unwrap_or(1);
    options.finish()?;
    let rows: Vec<_> = if all {
        let with_all = |store| TransportKind::ALL.map(|transport| (store, transport));
        StoreKind::ALL.into_iter().flat_map(with_all).collect()
    } else {
        let store = store.unwrap_or(StoreKind::Redb);
        vec![(store, transport.unwrap_or(TransportKind::Http))]
    };

    let history = History::sign(shape).map_err(failed)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let full = folder.path().join("full");
    let limits = Limits::measure(&history, &full)?;
    let mut report = Reporter::new(&history, shape, limits);
    let rows = rows
        .into_iter()
        .flat_map(|row| std::iter::repeat_n(row, repeat));
    for (number, (store, transport)) in rows.enumerate() {
        let empty = folder.path().join(format!("empty-{number}"));
        let files = [full.as_path(), empty.as_path()];
        let bootstrap = match transport {
            TransportKind::Memory => sides::in_process(&history, store, files),
            TransportKind::Http | TransportKind::Iroh => {
                sides::between_processes((history.tree, shape), (store, transport), files)
            }
        };
        report.push(store, transport, &bootstrap?);
        if store == StoreKind::Redb {
            std::fs::remove_file(&empty).map_err(failed)?;
        }
    }
    Ok(report.finish())
}

struct Reporter {
    entries: f64,
    raw_bytes: f64,
    shape: Shape,
    limits: Limits,
    table: Table,
    slow: Vec<String>,
    large: Vec<String>,
    hungry: Vec<String>,
}

impl Reporter {
    fn new(history: &History, shape: Shape, limits: Limits) -> Self {
        let columns = const {
            &[
                column("stores", "store"),
                column("transport", "transport"),
                column("entries/s", "entries_per_second"),
                column("of its limit", "share_of_limit"),
                column("wire bytes/entry", "wire_bytes_per_entry"),
                column("raw bytes/entry", "raw_bytes_per_entry"),
                column("wire/raw", "wire_per_raw"),
                column("asking: CPU µs/entry", "asking_cpu_us_per_entry"),
                column("memory MiB", "asking_memory_over_idle_mib"),
                column("answering: CPU µs/entry", "answering_cpu_us_per_entry"),
                column("memory MiB", "answering_memory_over_idle_mib"),
            ]
        };
        Self {
            entries: history.entries.len() as f64,
            raw_bytes: history.raw_bytes as f64,
            shape,
            limits,
            table: Table::new(
                "Bootstraps; the CPU time of both sides where they share a process",
                columns,
            ),
            slow: Vec::new(),
            large: Vec::new(),
            hungry: Vec::new(),
        }
    }

    fn push(&mut self, store: StoreKind, transport: TransportKind, took: &Bootstrap) {
        let row = format!("{} over {}", store.name(), transport.name());
        let rate = self.entries / took.wall.as_secs_f64();
        let share = rate / self.limits.of(store);
        if share < share_min(store) {
            self.slow.push(format!("{row}: {share:.2}"));
        }
        let wire_ratio = took.wire_bytes as f64 / self.raw_bytes;
        if self.shape.payload_bytes == TEXT_BYTES && wire_ratio > WIRE_RATIO_MAX {
            self.large.push(format!("{row}: {wire_ratio:.2}"));
        }
        let cpu = |side: Side| Cell::Number(side.cpu.as_secs_f64() * 1e6 / self.entries, 2);
        let memory = |side: Side| match side.peak_bytes {
            Some(bytes) => Cell::Number(bytes as f64 / f64::from(1 << 20), 1),
            None => Cell::Absent,
        };
        let answering = took.answering;
        // A store in memory needs what the history needs.
        let sides = [Some(took.asking), answering].into_iter().flatten();
        let peak = sides.filter_map(|side| side.peak_bytes).max();
        if let Some(peak) = peak.filter(|peak| store == StoreKind::Redb && *peak > MEMORY_BYTES_MAX)
        {
            self.hungry.push(format!("{row}: {} MiB", peak >> 20));
        }
        self.table.push(vec![
            store.name().into(),
            transport.name().into(),
            Cell::Number(rate, 0),
            Cell::Number(share, 2),
            Cell::Number(took.wire_bytes as f64 / self.entries, 1),
            Cell::Number(self.raw_bytes / self.entries, 1),
            Cell::Number(wire_ratio, 2),
            cpu(took.asking),
            memory(took.asking),
            answering.map_or(Cell::Absent, cpu),
            answering.map_or(Cell::Absent, memory),
        ]);
    }

    fn finish(self) -> Report {
        Report {
            tables: vec![self.limits.table(), self.table],
            targets: vec![
                Target {
                    wanted: "0.6 of the rate of insertion alone between durable stores, \
                             0.5 of the rate of unpacking alone between stores in memory",
                    missed: self.slow,
                },
                Target {
                    wanted: "0.6 bytes on the wire for each byte of an entry with 200 bytes of text",
                    missed: self.large,
                },
                Target {
                    wanted: "64 MiB of memory over idle for each side with a durable store",
                    missed: self.hungry,
                },
            ],
        }
    }
}
