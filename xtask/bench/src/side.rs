//! A node in a process of its own, so that it measures its own memory and processor time.
//!
//! The benchmark starts it from this program and gives it orders, one on each line of its input; it
//! answers each with a line of JSON.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AccessChange, Role, Subject, TreeId};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_replicas::clock::process_cpu;
use eidetica_sync::Node;
use eidetica_sync::proto::Address;
use eidetica_sync::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use xtask_support::process::{Input, Running, Supervisor, memory_kib};
use xtask_support::{failed, now};

use crate::history::{History, Shape, Text};
use crate::nodes::{StoreKind, TransportKind, listen, runtime, start};

/// How long an order may take.
const ORDER_SECONDS_MAX: u64 = 1_800;

/// Entries of a tree that a side creates, so that a sync finds something to compare.
const ENTRIES: usize = 1_000;

/// A node that obeys orders on its input, for other benchmarks.
#[derive(clap::Args)]
pub struct Options {
    name: String,
    store: StoreKind,
    transport: TransportKind,
    file: PathBuf,
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
        (store, transport): (StoreKind, TransportKind),
        file: &Path,
    ) -> Result<Self, String> {
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["side", name, store.name(), transport.name()])
            .arg(file);
        let (what, log) = (format!("the {name} side"), format!("{name}.log"));
        let running = Running::start(supervisor, what, &mut command, &log, Input::Lines)?;
        Ok(Self { running })
    }

    /// Gives an order and returns the answer.
    pub fn order(&mut self, order: &str) -> Result<Value, String> {
        self.running.send(order)?;
        let line = self
            .running
            .line(now() + Duration::from_secs(ORDER_SECONDS_MAX))?;
        let line = line.ok_or_else(|| format!("a side failed at {order:?}"))?;
        serde_json::from_str(&line).map_err(failed)
    }

    /// Resets what the side has used, and returns its memory.
    pub fn begin_usage(&mut self) -> Result<Option<u64>, String> {
        Ok(self.order("begin")?["memory_bytes"].as_u64())
    }

    /// Returns its peak memory since, over what it had then.
    pub fn peak_bytes(&mut self) -> Result<Option<u64>, String> {
        Ok(self.order("used")?["peak_bytes"].as_u64())
    }

    /// Lets it shut down.
    pub fn finish(mut self) -> Result<(), String> {
        self.running.close_input();
        self.running.finish(ORDER_SECONDS_MAX)?.success().map(drop)
    }
}

/// What a process had used at some moment.
struct Usage {
    cpu: Duration,
    memory_bytes: Option<u64>,
}

impl Usage {
    fn begin() -> Self {
        // Makes Linux forget the peak so far. If it does not, the reported peak is too high.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let memory_bytes = memory_kib("self", "VmRSS:").map(|kib| kib << 10);
        Self {
            cpu: process_cpu(),
            memory_bytes,
        }
    }

    fn answer(&self) -> Value {
        let peak = memory_kib("self", "VmHWM:").zip(self.memory_bytes);
        json!({
            "cpu_us": (process_cpu() - self.cpu).as_micros() as u64,
            "peak_bytes": peak.map(|(peak, idle)| (peak << 10).saturating_sub(idle)),
        })
    }
}

/// Obeys orders until the input ends.
pub fn run(options: &Options) -> Result<(), String> {
    runtime()?.block_on(async {
        let store = options.store.open(&options.file)?;
        let network = MemoryNetwork::new();
        let node = start(&options.name, store.clone(), options.transport, &network).await?;
        let mut usage = Usage::begin();
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await.map_err(failed)? {
            println!("{}", obey(&order, &node, &store, &mut usage).await?);
        }
        node.shutdown().await.map_err(failed)
    })
}

async fn obey(
    order: &str,
    node: &Node,
    store: &Arc<dyn Store>,
    usage: &mut Usage,
) -> Result<Value, String> {
    match order.split(' ').collect::<Vec<_>>()[..] {
        ["listen"] => Ok(json!({ "address": listen(node).await?.as_str() })),
        ["begin"] => {
            *usage = Usage::begin();
            Ok(json!({ "memory_bytes": usage.memory_bytes }))
        }
        ["used"] => Ok(usage.answer()),
        // Writes and signs a history, which the shape determines to the byte.
        ["sign", ref shape @ ..] => {
            let history = History::sign(Shape::parse(shape)?).map_err(failed)?;
            store
                .append(history.tree, history.entries)
                .map_err(failed)?;
            Ok(json!({}))
        }
        // Creates a tree that anyone may write to.
        ["create", name] => {
            let anyone = AccessChange::grant(Subject::Anyone, Role::Write);
            let tree = node.create_tree(name, vec![anyone]).await.map_err(failed)?;
            let mut text = Text::new();
            let entries = (0..ENTRIES).map(|_| text.line(200)).collect();
            node.append_all(tree, entries).await.map_err(failed)?;
            Ok(json!({ "tree": tree.to_string() }))
        }
        ["sync", tree, address] => {
            let (tree, address): (TreeId, Address) = (
                tree.parse().map_err(failed)?,
                address.parse().map_err(failed)?,
            );
            let usage = Usage::begin();
            let started = now();
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
