//! What hostile peers can do to a server: to its memory, and to honest clients.

mod bombs;
mod honest;
mod http;
mod iroh;
mod results;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use eidetica_dag::TreeId;
use eidetica_sync::proto::Address;
use eidetica_sync::proto::message::{Request, RequestHeader, SendEntries};
use eidetica_sync::proto::proof;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use xtask_support::failed;
use xtask_support::process::Supervisor;
use xtask_support::report::Report;

use crate::nodes::{StoreKind, TransportKind, runtime};
use crate::side::Side;
use honest::Honest;
use results::Results;

/// A server under attack: stalled connections and requests that are too large
#[derive(clap::Args)]
pub struct Options {
    /// The transport
    #[arg(long, default_values = ["http", "iroh"], value_parser = network)]
    transport: Vec<TransportKind>,
    /// Connections that stall
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    connections: usize,
    /// Where all of them stall [default: mixed]
    #[arg(long, value_name = "WHERE")]
    stall: Option<Stall>,
    /// How long the honest clients sync before the attack
    #[arg(long, value_name = "N", default_value_t = 10)]
    quiet_seconds: u64,
}

fn network(text: &str) -> Result<TransportKind, String> {
    let found = TransportKind::NETWORK
        .into_iter()
        .find(|kind| kind.name() == text);
    found.ok_or_else(|| "http or iroh".into())
}

/// The server, in a process of its own, so that its memory can be measured.
struct Server {
    side: Side,
    address: Address,
    /// A tree that everyone may write to.
    tree: TreeId,
    /// One that does not change.
    still: TreeId,
}

impl Server {
    fn start(
        transport: TransportKind,
        supervisor: &std::rc::Rc<Supervisor>,
    ) -> Result<Self, String> {
        let kinds = (StoreKind::Memory, transport);
        let mut side = Side::start(supervisor, "answering", kinds, supervisor.folder())?;
        let mut ask = |order: &str, key: &str| -> Result<String, String> {
            Ok(side.order(order)?[key]
                .as_str()
                .unwrap_or_default()
                .to_owned())
        };
        let tree = ask("create tree", "tree")?.parse().map_err(failed)?;
        let still = ask("create still", "tree")?.parse().map_err(failed)?;
        let address = ask("listen", "address")?.parse().map_err(failed)?;
        Ok(Self {
            side,
            address,
            tree,
            still,
        })
    }
}

/// How long the attackers take to open all their connections.
const OPENING: Duration = Duration::from_secs(4);

/// The attackers' priority on processors; in earnest they are on other machines.
const NICENESS: i32 = 19;

/// When the measurement gives up on connections that the server does not close.
const PATIENCE: Duration = Duration::from_secs(45);

/// A frame of the largest size, of which the second half never comes.
const HALF_FRAME_BYTES: usize = 512 << 10;

/// Where a connection stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Stall {
    /// The handshake is not over. Over HTTP there is none, so this is the next.
    Handshake,
    /// The connection is there, and nothing is said.
    Nothing,
    /// The beginning of a request is said, not enough to know what it is.
    #[value(name = "head")]
    HalfHead,
    /// The first frame is half there.
    #[value(name = "body")]
    HalfBody,
    /// A request is there, and half of a frame with entries after it.
    #[value(name = "frame")]
    HalfFrame,
}

impl Stall {
    /// Returns where the connection with this number stalls: thirds, the first of them in parts.
    fn of(number: usize) -> Self {
        match number % 12 {
            0 => Self::Handshake,
            1 => Self::Nothing,
            2 | 3 => Self::HalfHead,
            4..8 => Self::HalfBody,
            _ => Self::HalfFrame,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Handshake => "half a handshake",
            Self::Nothing => "nothing said",
            Self::HalfHead => "half a head",
            Self::HalfBody => "half a first frame",
            Self::HalfFrame => "a request, half a frame",
        }
    }
}

/// How long one connection was open.
struct Stood {
    stall: Stall,
    /// From its last word on; `None` if the attacker cannot see the end.
    time: Option<Duration>,
}

/// What all stalled connections have in common.
#[derive(Clone)]
struct Attack {
    tree: TreeId,
    connections: usize,
    only: Option<Stall>,
    began: Instant,
    /// Becomes true at the end of the attack.
    over: watch::Receiver<bool>,
}

impl Attack {
    /// Returns the frames, or parts of them, that are sent before the connection stalls.
    fn bytes(&self, transport: TransportKind, stall: Stall) -> Bytes {
        let mut bytes = BytesMut::new();
        if stall == Stall::HalfFrame {
            if transport == TransportKind::Http {
                put_frame(&mut bytes, &proof::anonymous());
            }
            let entries = 1_000;
            let request = Request::SendEntries(SendEntries {
                tree: self.tree,
                entries,
            });
            put_frame(&mut bytes, &RequestHeader::new(request).encode());
        }
        bytes.put_u32_le(2 * HALF_FRAME_BYTES as u32);
        bytes.put_bytes(7, HALF_FRAME_BYTES);
        bytes.freeze()
    }

    /// Waits until it is this connection's turn to begin, and returns where it stalls.
    async fn pace(&self, number: usize) -> Stall {
        let share = number as f64 / self.connections as f64;
        sleep_until(self.began + OPENING.mul_f64(share)).await;
        self.only.unwrap_or(Stall::of(number))
    }

    /// Waits until `closed`, which tells how long the connection stood; not longer than the attack
    /// lasts.
    async fn stand(
        mut self,
        stall: Stall,
        closed: impl Future<Output = Option<Duration>>,
    ) -> Stood {
        let began = Instant::now();
        let time = tokio::select! {
            time = closed => time,
            _ = self.over.wait_for(|over| *over) => Some(began.elapsed()),
        };
        Stood { stall, time }
    }
}

/// Adds a frame, whatever its length.
fn put_frame(bytes: &mut BytesMut, frame: &[u8]) {
    bytes.put_u32_le(frame.len() as u32);
    bytes.put_slice(frame);
}

/// Attacks a server over each transport.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut results = Results::new();
    let supervisor = Supervisor::start("hostile", false)?;
    for &transport in &options.transport {
        let mut server = Server::start(transport, &supervisor)?;
        runtime()?.block_on(async {
            stalled(options, transport, &mut server, &mut results).await?;
            bombs::measure(transport, &mut server, &mut results).await
        })?;
    }
    Ok(results.report)
}

/// Attacks with connections that stall, and measures honest clients meanwhile.
async fn stalled(
    options: &Options,
    transport: TransportKind,
    server: &mut Server,
    results: &mut Results,
) -> Result<(), String> {
    let quiet = Duration::from_secs(options.quiet_seconds);
    let (tree, address) = (server.tree, server.address.clone());
    let honest = Honest::begin(transport, [tree, server.still], address.clone()).await?;
    // Once for the caches, once for the figures.
    honest.sync_until(sleep(quiet / 4)).await?;
    let before = honest.sync_until(sleep(quiet)).await?;
    let idle_bytes = server.side.begin_usage()?;

    let (over, is_over) = watch::channel(false);
    let attack = Attack {
        tree,
        connections: options.connections,
        only: options.stall,
        began: Instant::now(),
        over: is_over,
    };
    // The attackers have threads of their own, as other machines would.
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(step_back)
        .enable_all()
        .build()
        .map_err(failed)?;
    let begin = async move {
        match transport {
            TransportKind::Iroh => iroh::begin(attack, &address).await,
            _ => http::begin(attack, &address).await,
        }
    };
    let standing = threads.spawn(begin);
    let ended = async {
        let mut standing = standing.await.map_err(failed)??;
        let mut stood = Vec::new();
        let give_up = sleep(PATIENCE);
        tokio::pin!(give_up);
        loop {
            tokio::select! {
                ended = standing.join_next() => match ended {
                    None => return Ok::<_, String>(stood),
                    Some(ended) => stood.push(ended.map_err(failed)?),
                },
                () = &mut give_up, if !*over.borrow() => {
                    over.send_replace(true);
                }
            }
        }
    };
    let mut stood = Ok(Vec::new());
    let during = honest.sync_until(async { stood = ended.await }).await?;
    let peak_bytes = server.side.peak_bytes()?;
    threads.shutdown_background();
    honest.end().await?;
    results.memory(transport, options.connections, idle_bytes, peak_bytes);
    results.stood(transport, &stood?);
    let [warm_before, fresh_before] = &before;
    let [warm, fresh] = &during;
    results.honest(transport, false, warm_before, warm);
    results.honest(transport, true, fresh_before, fresh);
    Ok(())
}

/// Gives this thread the lowest priority, where the system can do that to one thread.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _as_before_if_it_fails = rustix::process::nice(NICENESS);
}

/// The connections of an attack.
type Connections = JoinSet<Stood>;
