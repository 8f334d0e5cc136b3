//! The server under attack, in a process of its own, so that its memory can be told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::Arc;

use eidetica_dag::{AccessChange, Role, Subject, TreeId};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::proto::Address;
use eidetica_sync::store::MemoryStore;
use serde_json::{Value, json};

use crate::cli::{Command, Failure, Options};
use crate::history::Text;
use crate::nodes::{TransportKind, failed, listen, runtime, start};
use crate::report::Report;
use crate::usage::Usage;

/// The entry of the server in the list of benchmarks.
pub const COMMAND: Command = Command {
    name: "hostile-server",
    summary: "The server under attack, which hostile starts by itself.",
    options: "",
    run: serve,
};

/// Entries of the tree, so that a sync finds something to compare.
const ENTRIES: usize = 1_000;

/// A server process. It ends with this value.
pub struct Server {
    pub address: Address,
    /// A tree that everyone may write to.
    pub tree: TreeId,
    /// One that nobody writes to.
    pub still: TreeId,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one and waits until it listens.
    pub fn begin(transport: TransportKind) -> Result<Self, Failure> {
        let mut child = Process::new(std::env::current_exe().map_err(failed)?)
            .args([COMMAND.name, "--transport", transport.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let orders = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let mut answers = BufReader::new(stdout);
        let told = read_line(&mut answers)?;
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        Ok(Self {
            address: text("address").parse().map_err(failed)?,
            tree: text("tree").parse().map_err(failed)?,
            still: text("still").parse().map_err(failed)?,
            child,
            orders,
            answers,
        })
    }

    /// Lets it forget its peak of memory, and returns what it has now.
    pub fn begin_usage(&mut self) -> Result<Option<u64>, Failure> {
        Ok(self.order("begin")?["memory_bytes"].as_u64())
    }

    /// Returns the most memory since, over what it had then.
    pub fn peak_bytes(&mut self) -> Result<Option<u64>, Failure> {
        Ok(self.order("peak")?["peak_bytes"].as_u64())
    }

    fn order(&mut self, order: &str) -> Result<Value, Failure> {
        writeln!(self.orders, "{order}").map_err(failed)?;
        read_line(&mut self.answers)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _has_ended = self.child.kill();
        let _has_ended = self.child.wait();
    }
}

fn read_line(lines: &mut impl BufRead) -> Result<Value, Failure> {
    let mut line = String::new();
    lines.read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(|_| failed("the server under attack has failed"))
}

/// Serves until its input ends, and tells in lines of JSON.
fn serve(mut options: Options) -> Result<Report, Failure> {
    let transport = options.value("--transport")?.unwrap_or(TransportKind::Http);
    options.finish()?;
    runtime()?.block_on(async {
        let store = Arc::new(MemoryStore::new());
        let node = start("answering", store, transport, &MemoryNetwork::new()).await?;
        let everyone = AccessChange::grant(Subject::Anyone, Role::Write);
        let mut trees = Vec::new();
        for name in ["tree", "still"] {
            let tree = node.create_tree(name, vec![everyone]).await;
            let tree = tree.map_err(failed)?;
            let mut text = Text::new();
            let entries = (0..ENTRIES).map(|_| text.line(200)).collect();
            node.append_all(tree, entries).await.map_err(failed)?;
            trees.push(tree.to_string());
        }
        let address = listen(&node).await?;
        println!(
            "{}",
            json!({ "address": address.as_str(), "tree": trees[0], "still": trees[1] })
        );
        tokio::task::spawn_blocking(obey).await.map_err(failed)?;
        node.shutdown().await.map_err(failed)?;
        Ok(Report::default())
    })
}

fn obey() {
    let mut usage = Usage::begin();
    for order in std::io::stdin().lines().map_while(Result::ok) {
        let told = match order.as_str() {
            "begin" => {
                usage = Usage::begin();
                json!({ "memory_bytes": usage.memory_bytes() })
            }
            _ => json!({ "peak_bytes": usage.peak_bytes() }),
        };
        println!("{told}");
    }
}
