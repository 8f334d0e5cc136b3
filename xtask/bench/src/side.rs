//! A node in a process of its own, so that it measures its own memory and processor time.
//!
//! The benchmark starts it from this program and gives it orders, one on each line of its input; it
//! answers each with a line of JSON.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AccessChange, EntryId, Role, Subject, TreeId};
use eidetica_proto::batch::Packer;
use eidetica_proto::message::Part;
use eidetica_sync::Node;
use eidetica_sync::proto::Address;
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use xtask_support::process::{Running, Supervisor, memory_kib};
use xtask_support::{failed, now};

use crate::clock::process_cpu;
use crate::history::Text;
use crate::nodes::{Transport, listen, runtime, start};

/// How long an order may take.
const ORDER_SECONDS_MAX: u64 = 1_800;

/// The length of an entry's text in a large tree.
const LARGE_LINE_BYTES: usize = 400;

/// Entries of a tree that a side creates, so that a sync finds something to compare.
const ENTRIES: usize = 1_000;

/// A node that obeys orders on its input, for other benchmarks.
#[derive(clap::Args)]
pub struct Options {
    name: String,
    transport: Transport,
    /// The durable store; a store in memory without one
    file: Option<PathBuf>,
}

/// The process, as the benchmark sees it. It ends with this value.
pub struct Side {
    running: Running,
}

impl Side {
    /// Starts it.
    pub fn start(
        supervisor: &Rc<Supervisor>,
        name: &str,
        transport: Transport,
        file: Option<&Path>,
    ) -> Result<Self, String> {
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["side", name, transport.name()]).args(file);
        let (what, log) = (format!("the {name} side"), format!("{name}.log"));
        let running = Running::start(supervisor, what, &mut command, &log, None)?;
        Ok(Self { running })
    }

    /// Gives an order and returns the answer.
    pub fn order(&mut self, order: &str) -> Result<Value, String> {
        self.running.send(order)?;
        let line = self
            .running
            .line(now() + Duration::from_secs(ORDER_SECONDS_MAX))?;
        serde_json::from_str(&line.ok_or_else(|| format!("a side failed at {order:?}"))?)
            .map_err(failed)
    }

    /// Gives an order that is answered with one text.
    pub fn ask(&mut self, order: &str) -> Result<String, String> {
        let answer = self.order(order)?;
        let text = answer
            .as_str()
            .ok_or_else(|| format!("no text answers {order:?}: {answer}"))?;
        Ok(text.to_owned())
    }

    /// Returns its peak memory since the order `begin`, over what it had then.
    pub fn peak_bytes(&mut self) -> Result<u64, String> {
        Ok(number(&self.order("used")?, "peak_bytes"))
    }

    /// Returns its process number.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Lets it shut down.
    pub fn finish(mut self) -> Result<(), String> {
        self.running.close_input();
        self.running.finish(ORDER_SECONDS_MAX)?.success().map(drop)
    }
}

/// Returns a number in an answer; 0 where the system does not report it.
pub fn number(answer: &Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or_default()
}

/// What a process had used at some moment.
struct Usage {
    cpu: Duration,
    memory_kib: Option<u64>,
}

impl Usage {
    fn begin() -> Self {
        // Makes Linux forget the peak so far. If it does not, the reported peak is too high.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            cpu: process_cpu(),
            memory_kib: memory_kib("self", "VmRSS:"),
        }
    }

    fn answer(&self) -> Value {
        let peak = memory_kib("self", "VmHWM:").zip(self.memory_kib);
        json!({
            "cpu_us": (process_cpu() - self.cpu).as_micros() as u64,
            "peak_bytes": peak.map(|(peak, idle)| peak.saturating_sub(idle) << 10),
        })
    }
}

/// Obeys orders until the input ends.
pub fn run(options: &Options) -> Result<(), String> {
    let store: Arc<dyn Store> = match &options.file {
        Some(file) => Arc::new(RedbStore::open(file).map_err(failed)?),
        None => Arc::new(MemoryStore::new()),
    };
    runtime()?.block_on(async {
        let node = start(&options.name, store, options.transport).await?;
        let mut usage = Usage::begin();
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await.map_err(failed)? {
            println!("{}", obey(&order, &node, &mut usage).await?);
        }
        node.shutdown().await.map_err(failed)
    })
}

async fn obey(order: &str, node: &Node, usage: &mut Usage) -> Result<Value, String> {
    match order.split(' ').collect::<Vec<_>>()[..] {
        ["listen"] => Ok(json!(listen(node).await?.as_str())),
        ["begin"] => {
            *usage = Usage::begin();
            Ok(json!({}))
        }
        ["used"] => Ok(usage.answer()),
        // Creates a tree that anyone may write to.
        ["create", name] => {
            let anyone = AccessChange::grant(Subject::Anyone, Role::Write);
            let tree = node.create_tree(name, vec![anyone]).await.map_err(failed)?;
            let mut text = Text::new();
            let entries = (0..ENTRIES).map(|_| text.line(200)).collect();
            node.append_all(tree, entries).await.map_err(failed)?;
            Ok(json!(tree.to_string()))
        }
        // Creates trees that only this node may read.
        ["crowd", count] => {
            for number in 0..count.parse::<u32>().map_err(failed)? {
                let name = format!("private {number}");
                node.create_tree(name, vec![]).await.map_err(failed)?;
            }
            Ok(json!({}))
        }
        ["create-private"] => {
            let tree = node.create_tree("private", vec![]).await.map_err(failed)?;
            Ok(json!(tree.to_string()))
        }
        // The frame that carries a tree's root alone, in hexadecimal digits.
        ["root-frame", tree] => {
            let tree: TreeId = tree.parse().map_err(failed)?;
            let root = EntryId::from_bytes(*tree.as_bytes());
            let root = node.entry(tree, root).await.map_err(failed)?;
            let mut packer = Packer::new();
            packer.push(&root.ok_or("the tree has no root")?);
            let frame = Part::Batch(&packer.finish()).encode();
            let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(json!(digits))
        }
        // Creates a tree of so many bytes that anyone may write to.
        ["create-large", name, bytes] => {
            let anyone = AccessChange::grant(Subject::Anyone, Role::Write);
            let tree = node.create_tree(name, vec![anyone]).await.map_err(failed)?;
            let mut text = Text::new();
            let mut left = bytes.parse::<usize>().map_err(failed)?;
            while left > 0 {
                let entries = (0..left.min(1 << 20).div_ceil(LARGE_LINE_BYTES))
                    .map(|_| text.line(LARGE_LINE_BYTES))
                    .collect();
                node.append_all(tree, entries).await.map_err(failed)?;
                left = left.saturating_sub(1 << 20);
            }
            Ok(json!(tree.to_string()))
        }
        // Appends so many entries, each durable by itself.
        ["append", tree, count] => {
            let tree: TreeId = tree.parse().map_err(failed)?;
            let mut text = Text::new();
            for _ in 0..count.parse::<u32>().map_err(failed)? {
                node.append(tree, text.line(200)).await.map_err(failed)?;
            }
            Ok(json!({}))
        }
        ["requests", tree] => {
            let tree: TreeId = tree.parse().map_err(failed)?;
            let requests = node.join_requests(Some(tree)).await.map_err(failed)?;
            let keys = requests.iter().map(|request| request.key.to_string());
            Ok(json!(keys.collect::<Vec<_>>()))
        }
        ["sync", tree, address] => {
            let tree: TreeId = tree.parse().map_err(failed)?;
            let address: Address = address.parse().map_err(failed)?;
            let (usage, started) = (Usage::begin(), now());
            let report = node.sync(tree, address).await.map_err(failed)?;
            let wall = started.elapsed();
            let mut answer = usage.answer();
            answer["wall_us"] = json!(wall.as_micros() as u64);
            answer["wire_bytes"] = json!(report.stats.received_bytes);
            Ok(answer)
        }
        _ => Err(format!("there is no order {order:?}")),
    }
}
