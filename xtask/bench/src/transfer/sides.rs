//! One bootstrap: a side that has the tree and a side that has nothing.
//!
//! Over a network each side is a process of its own, which this program starts from itself, so that
//! each tells its own memory and time. They talk to the one that started them in lines of JSON.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::proto::{Address, Report as SyncReport};
use serde_json::{Value, json};

use crate::cli::{Command, Failure, Options};
use crate::clock;
use crate::history::{History, Shape};
use crate::nodes::{StoreKind, TransportKind, failed, listen, runtime, start};
use crate::report::Report;
use crate::usage::Usage;

/// The entry of a side in the list of benchmarks.
pub const COMMAND: Command = Command {
    name: "transfer-side",
    summary: "One side of a transfer, which transfer starts by itself.",
    options: "",
    run: run_side,
};

/// What a bootstrap took.
#[derive(Debug)]
pub struct Bootstrap {
    /// From the first request until everything is stored.
    pub wall: Duration,
    /// Bytes of frames that carried entries.
    pub wire_bytes: u64,
    /// What the asking and the answering side took; of both together if they share a process.
    pub asking: Side,
    pub answering: Option<Side>,
}

/// What one side took.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    pub cpu: Duration,
    /// Most memory at any moment, over what it had before the transfer; if it can be told.
    pub peak_bytes: Option<u64>,
}

/// Bootstraps within this process, over a network in memory.
pub fn in_process(
    history: &History,
    store: StoreKind,
    [full, empty]: [&Path; 2],
) -> Result<Bootstrap, Failure> {
    runtime()?.block_on(async {
        let network = MemoryNetwork::new();
        let kind = TransportKind::Memory;
        let answering = store.open(full)?;
        if store == StoreKind::Memory {
            let batch = history.entries.clone();
            answering.append(history.tree, batch).map_err(failed)?;
        }
        let answering = start("answering", answering, kind, &network).await?;
        let asking = start("asking", store.open(empty)?, kind, &network).await?;
        let address = listen(&answering).await?;
        let cpu = clock::process_cpu();
        let (report, wall) = bootstrap(&asking, history.tree, address).await?;
        let side = Side {
            cpu: clock::process_cpu() - cpu,
            peak_bytes: None,
        };
        asking.shutdown().await.map_err(failed)?;
        answering.shutdown().await.map_err(failed)?;
        Ok(Bootstrap {
            wall,
            wire_bytes: report.stats.received_bytes,
            asking: side,
            answering: None,
        })
    })
}

async fn bootstrap(
    node: &Node,
    tree: TreeId,
    from: Address,
) -> Result<(SyncReport, Duration), Failure> {
    let began = clock::now();
    let report = node.sync(tree, from).await.map_err(failed)?;
    Ok((report, began.elapsed()))
}

/// Bootstraps between two processes.
pub fn between_processes(
    (tree, shape): (TreeId, Shape),
    (store, transport): (StoreKind, TransportKind),
    [full, empty]: [&Path; 2],
) -> Result<Bootstrap, Failure> {
    let begin = |role: &str, file: &Path, more: &[String]| -> Result<Child, Failure> {
        Process::new(std::env::current_exe().map_err(failed)?)
            .args([COMMAND.name, "--role", role])
            .args(["--store", store.name(), "--transport", transport.name()])
            .arg("--file")
            .arg(file)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)
    };
    let tree = ["--tree".to_owned(), tree.to_string()];
    let mut answering = begin(
        "answering",
        full,
        &[&tree[..], &shape.to_options()].concat(),
    )?;
    let stdout = answering.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout);
    let place = read_line(&mut lines)?;
    let address = place["address"].as_str().unwrap_or_default();
    let at = ["--at".to_owned(), address.to_owned()];
    let mut asking = begin("asking", empty, &[at, tree].concat())?;
    let stdout = asking.stdout.take().expect("it is piped");
    let mut asking_lines = BufReader::new(stdout);
    let asked = read_line(&mut asking_lines)?;
    asking.wait().map_err(failed)?;
    // The end of its input is what it waits for.
    drop(answering.stdin.take());
    let answered = read_line(&mut lines)?;
    answering.wait().map_err(failed)?;
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
    let side = |value: &Value| Side {
        cpu: Duration::from_micros(number(value, "cpu_us")),
        peak_bytes: value["peak_bytes"].as_u64(),
    };
    Ok(Bootstrap {
        wall: Duration::from_micros(number(&asked, "wall_us")),
        wire_bytes: number(&asked, "wire_bytes"),
        asking: side(&asked),
        answering: Some(side(&answered)),
    })
}

fn read_line(lines: &mut impl BufRead) -> Result<Value, Failure> {
    let mut line = String::new();
    lines.read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(|_| failed("a side of the transfer failed"))
}

/// Runs one side until it is done, and tells in lines of JSON.
fn run_side(mut options: Options) -> Result<Report, Failure> {
    let missing = |name| Failure::Usage(format!("{name} is needed"));
    let role: String = options.value("--role")?.ok_or_else(|| missing("--role"))?;
    let file: String = options.value("--file")?.ok_or_else(|| missing("--file"))?;
    let store = options.value("--store")?.unwrap_or(StoreKind::Memory);
    let transport = options.value("--transport")?.unwrap_or(TransportKind::Http);
    let at: Option<Address> = options.value("--at")?;
    let tree: TreeId = options.value("--tree")?.ok_or_else(|| missing("--tree"))?;
    let shape = Shape::from_options(&mut options)?;
    options.finish()?;
    let file = Path::new(&file);
    runtime()?.block_on(async {
        let network = MemoryNetwork::new();
        if role == "asking" {
            let at = at.ok_or_else(|| missing("--at"))?;
            let node = start("asking", store.open(file)?, transport, &network).await?;
            let usage = Usage::begin();
            let (report, wall) = bootstrap(&node, tree, at).await?;
            let mut told = told(&usage);
            told["wall_us"] = json!(wall.as_micros() as u64);
            told["wire_bytes"] = json!(report.stats.received_bytes);
            println!("{told}");
            node.shutdown().await.map_err(failed)?;
        } else {
            let opened = store.open(file)?;
            if store == StoreKind::Memory {
                let history = History::sign(shape).map_err(failed)?;
                opened.append(tree, history.entries).map_err(failed)?;
            }
            let node = start("answering", opened, transport, &network).await?;
            let address = listen(&node).await?;
            let usage = Usage::begin();
            println!("{}", json!({ "address": address.as_str() }));
            tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]))
                .await
                .map_err(failed)?
                .map_err(failed)?;
            println!("{}", told(&usage));
            node.shutdown().await.map_err(failed)?;
        }
        Ok(Report::default())
    })
}

/// Tells what was used since.
fn told(usage: &Usage) -> Value {
    json!({
        "cpu_us": usage.cpu().as_micros() as u64,
        "peak_bytes": usage.peak_bytes(),
    })
}
