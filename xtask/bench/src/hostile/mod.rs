//! What hostile peers can do to a server: to its memory, and to honest clients.

mod http;
pub mod iroh;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_dag::TreeId;
use eidetica_sync::proto::Address;
use eidetica_sync::proto::message::{Request, RequestHeader, SendEntries};
use eidetica_sync::proto::proof;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use xtask_support::failed;
use xtask_support::figures::quantile_ms;
use xtask_support::process::Supervisor;
use xtask_support::report::{Report, Table, Target, decimals, grouped, mib};

use crate::honest::Honest;
use crate::nodes::{Transport, runtime};
use crate::side::Side;

/// A server under attack by connections that stall
#[derive(clap::Args)]
pub struct Options {
    /// The transports
    #[arg(long, default_values = ["http", "iroh"])]
    via: Vec<Transport>,
    /// Connections that stall
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    connections: usize,
    /// How long the honest clients sync before the attack
    #[arg(long, value_name = "N", default_value_t = 10)]
    quiet_seconds: u64,
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
    fn start(transport: Transport, supervisor: &std::rc::Rc<Supervisor>) -> Result<Self, String> {
        let mut side = Side::start(supervisor, "server", transport, None)?;
        let tree = side.ask("create tree")?.parse().map_err(failed)?;
        let still = side.ask("create still")?.parse().map_err(failed)?;
        let address = side.ask("listen")?.parse().map_err(failed)?;
        Ok(Self {
            side,
            address,
            tree,
            still,
        })
    }
}

/// Most memory that the attack may cost the server.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Longest time until the server has closed every connection that stalls.
const CLOSED_MAX: Duration = Duration::from_secs(10);

/// How much slower honest clients may be.
const SLOWER_MAX: f64 = 2.0;

/// By how much a sync on a fresh connection may be slower in any case: over iroh, a crowded server
/// asks newcomers to show that packets reach them.
const FRESH_SLOWER_MAX_MS: f64 = 50.0;

/// How long the attackers take to open all their connections.
const OPENING: Duration = Duration::from_secs(4);

/// The attackers' priority on processors; in earnest they are on other machines.
const NICENESS: i32 = 19;

/// When the measurement gives up on connections that the server does not close.
const PATIENCE: Duration = Duration::from_secs(45);

/// A frame of the largest size, of which the second half never comes.
const HALF_FRAME_BYTES: usize = 512 << 10;

/// Where a connection stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stall {
    /// In the handshake. Over HTTP there is none, so this is the next.
    Handshake,
    /// After the handshake, before the first byte.
    Nothing,
    /// In the head of a request.
    HalfHead,
    /// In the first frame.
    HalfBody,
    /// After a request, in a frame with entries.
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
}

/// How long a connection was open, from its last word on; `None` if the attacker cannot see the end.
type Stood = Option<Duration>;

/// What all stalled connections have in common.
#[derive(Clone)]
struct Attack {
    tree: TreeId,
    connections: usize,
    began: Instant,
}

impl Attack {
    /// Returns the frames, or parts of them, that are sent before the connection stalls.
    fn bytes(&self, transport: Transport, stall: Stall) -> Bytes {
        let mut bytes = BytesMut::new();
        if transport == Transport::Http && stall == Stall::HalfFrame {
            put_frame(&mut bytes, &proof::anonymous());
        }
        if stall == Stall::HalfFrame {
            let (tree, entries) = (self.tree, 1_000);
            let request = Request::SendEntries(SendEntries { tree, entries });
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
        Stall::of(number)
    }
}

/// Adds a frame, whatever its length.
pub fn put_frame(bytes: &mut BytesMut, frame: &[u8]) {
    bytes.put_u32_le(frame.len() as u32);
    bytes.put_slice(frame);
}

/// Attacks a server over each transport.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "over",
        "connections",
        "memory MiB",
        "all closed after s",
        "p99 quiet ms",
        "attacked",
        "fresh, quiet ms",
        "attacked",
    ];
    let mut attacks = Table::new("stalled connections, and syncs of honest clients", headings);
    let mut targets = [
        "at most 64 MiB of memory for stalled connections",
        "stalled connections are closed within 10 s",
        "the p99 of honest syncs is less than doubled, or 50 ms more on fresh connections",
        "no honest sync fails",
    ]
    .map(Target::new);
    let supervisor = Supervisor::start("hostile", false)?;
    for &transport in &options.via {
        let mut server = Server::start(transport, &supervisor)?;
        let attack = stalled(options, transport, &mut server, &mut targets);
        attacks.push(runtime()?.block_on(attack)?);
    }
    Ok(Report {
        tables: vec![attacks],
        targets: targets.into(),
    })
}

/// Attacks with connections that stall, and measures honest clients meanwhile.
async fn stalled(
    options: &Options,
    transport: Transport,
    server: &mut Server,
    targets: &mut [Target; 4],
) -> Result<Vec<String>, String> {
    let quiet = Duration::from_secs(options.quiet_seconds);
    let (tree, address) = (server.tree, server.address.clone());
    let honest = Honest::begin(transport, [tree, server.still], address.clone()).await?;
    // Once for the caches, once for the figures.
    honest.sync_until(sleep(quiet / 4)).await?;
    let before = honest.sync_until(sleep(quiet)).await?;
    server.side.order("begin")?;

    let (connections, began) = (options.connections, Instant::now());
    let attack = Attack {
        tree,
        connections,
        began,
    };
    // The attackers have threads of their own, as other machines would.
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(step_back)
        .enable_all()
        .build()
        .map_err(failed)?;
    let standing = threads.spawn(async move {
        match transport {
            Transport::Iroh => iroh::begin(attack, &address).await,
            Transport::Http => http::begin(attack, &address).await,
        }
    });
    let ended = async {
        let mut standing = standing.await.map_err(failed)??;
        let mut stood: Vec<Duration> = Vec::new();
        let give_up = Instant::now() + PATIENCE;
        while let Some(ended) = timeout_at(give_up, standing.join_next())
            .await
            .map_err(|_| "the server does not close a stalled connection")?
        {
            stood.extend(ended.map_err(failed)?);
        }
        Ok::<_, String>(stood)
    };
    let mut stood = Ok(Vec::new());
    let during = honest.sync_until(async { stood = ended.await }).await?;
    let peak = server.side.peak_bytes()?;
    threads.shutdown_background();
    honest.end().await?;

    let name = transport.name();
    targets[0].check((1..=MEMORY_BYTES_MAX).contains(&peak), || {
        format!("{name}: {}", mib(peak))
    });
    let longest = stood?.into_iter().max().unwrap_or_default();
    targets[1].check(longest <= CLOSED_MAX, || format!("{name}: {longest:?}"));
    let longest = decimals(longest.as_secs_f64(), 1);
    let mut row = vec![name.into(), grouped(connections as u64), mib(peak), longest];
    for ((which, more_ms), (quiet, attacked)) in [("warm", 0.0), ("fresh", FRESH_SLOWER_MAX_MS)]
        .into_iter()
        .zip(before.iter().zip(&during))
    {
        let [before, after] = [quiet, attacked].map(|syncs| quantile_ms(&syncs.walls, 0.99));
        let is_fast = after < (SLOWER_MAX * before).max(before + more_ms);
        let is_fine = is_fast && !attacked.walls.is_empty();
        targets[2].check(is_fine, || {
            format!("{name}, {which}: {before:.1} to {after:.1} ms")
        });
        let failures = &attacked.failures;
        targets[3].check(failures.is_empty(), || {
            format!(
                "{name}, {which}: {}, the first because of {}",
                failures.len(),
                failures[0]
            )
        });
        row.extend([decimals(before, 1), decimals(after, 1)]);
    }
    Ok(row)
}

/// Gives this thread the lowest priority, where the system can do that to one thread.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    let _as_before_if_it_fails = rustix::process::nice(NICENESS);
}

/// The connections of an attack.
type Connections = JoinSet<Stood>;
