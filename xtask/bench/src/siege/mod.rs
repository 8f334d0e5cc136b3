//! What callers without any right can cost a server that has little memory, and the honest callers
//! beside them.

mod confine;
mod http;
mod iroh;
mod pinned;
mod strangers;

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use eidetica_dag::TreeId;
use eidetica_sync::proto::Address;
use eidetica_sync::proto::message::{Request, Sample, SendEntries, SyncTree};
use eidetica_sync::proto::tips::TipSet;
use tokio::time::sleep;
use xtask_support::failed;
use xtask_support::figures::quantile_ms;
use xtask_support::process::Supervisor;
use xtask_support::report::{Report, Table, Target as Wanted, decimals, mib};

use self::confine::Confined;
use crate::honest::{Honest, Syncs};
use crate::hostile::step_back;
use crate::nodes::{Transport, runtime};
use crate::side::Side;

/// A server that anonymous callers try to exhaust, in 512 MiB of memory
#[derive(clap::Args)]
pub struct Options {
    /// The transports
    #[arg(long, default_values = ["http", "iroh"])]
    via: Vec<Transport>,
    /// The attacks
    #[arg(long, default_values = ["unread", "resets", "pushes", "strangers", "pinned"])]
    by: Vec<Attack>,
    /// Streams that ask for a large tree and read nothing
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    streams: usize,
    /// Windows of the streams that are not read, in bytes: none, a header's, less than a batch's
    #[arg(long, value_name = "BYTES", default_values_t = [0, 500, 70_000])]
    windows: Vec<u32>,
    /// How long each attack lasts
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
}

/// How the server is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// Streams ask for a large tree and read nothing or little.
    Unread,
    /// Streams ask for the list of trees and are reset at once.
    Resets,
    /// Streams push one entry that is known already, again and again.
    Pushes,
    /// Fresh keys ask to join.
    Strangers,
    /// A reader takes nothing while others write.
    Pinned,
}

/// The memory of the server's process and everything that the system keeps for it.
const SERVER_BYTES_MAX: u64 = 512 << 20;

/// The tree that is asked for, in bytes of text.
const LARGE_TREE_BYTES: usize = 20 << 20;

/// Trees that strangers may not read.
const PRIVATE_TREES: usize = 1_000;

/// As many as a connection may carry.
const STREAMS_PER_CONNECTION: usize = 16;

/// Pushes that repeat an entry.
const PUSHES: usize = 64;

/// How long an attacker rests after its connection was closed, and between two entries.
const RESTING: Duration = Duration::from_millis(500);

/// How long the honest clients sync before the attack, and after it.
const QUIET: Duration = Duration::from_secs(5);

/// How long the server has to recover.
const RECOVERING: Duration = Duration::from_secs(1);

/// Most memory that unread answers may cost the server, over what it had before.
const UNREAD_BYTES_MAX: u64 = 64 << 20;

/// How much slower honest syncs may be: the median while answers are not read, the slowest in a hundred
/// under every other attack, and the median afterwards.
const MEDIAN_SLOWER_MAX: f64 = 2.0;
const P99_SLOWER_MAX: f64 = 3.0;
const AFTERWARDS_SLOWER_MAX: f64 = 1.5;

/// What attackers know of the server.
#[derive(Clone)]
struct Target {
    address: Address,
    /// A large tree that anyone may read and write to.
    large: TreeId,
    /// A tree that only the server may read.
    private: TreeId,
    /// A frame with an entry that the server has.
    known: Bytes,
}

impl Target {
    fn whole_tree(&self) -> Request {
        Request::SyncTree(SyncTree {
            tree: self.large,
            tips: TipSet::Listed(Vec::new()),
            sample: Sample::None,
            wants: Vec::new(),
        })
    }

    fn endless_push(&self) -> Request {
        Request::SendEntries(SendEntries {
            tree: self.large,
            entries: 1_000_000,
        })
    }
}

/// The server in its group, and its trees.
struct Server {
    side: Side,
    confined: Result<Confined, String>,
    target: Target,
    /// A tree that honest callers write to, and one that they read.
    trees: [TreeId; 2],
}

impl Server {
    fn start(
        transport: Transport,
        attack: Attack,
        supervisor: &std::rc::Rc<Supervisor>,
    ) -> Result<Self, String> {
        let name = format!("siege-{}-{attack:?}", transport.name());
        let file = supervisor.folder().join(format!("{name}.redb"));
        let mut side = Side::start(supervisor, "server", transport, Some(&file))?;
        let confined = Confined::new(side.pid(), SERVER_BYTES_MAX);
        let mut create = |order: &str| side.ask(order)?.parse().map_err(failed);
        let large = create(&format!("create-large large {LARGE_TREE_BYTES}"))?;
        let trees = [create("create tree")?, create("create still")?];
        let private = create("create-private")?;
        side.order(&format!("crowd {PRIVATE_TREES}"))?;
        let known = side.ask(&format!("root-frame {large}"))?;
        let known = Bytes::from(unhex(&known)?);
        let address = side.ask("listen")?.parse().map_err(failed)?;
        Ok(Self {
            side,
            confined,
            target: Target {
                address,
                large,
                private,
                known,
            },
            trees,
        })
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(failed)?;
            u8::from_str_radix(pair, 16).map_err(failed)
        })
        .collect()
}

/// What the report says of every server.
struct Targets {
    alive: Wanted,
    memory: Wanted,
    fast: Wanted,
    recovers: Wanted,
    served: Wanted,
    others: Vec<Wanted>,
}

/// Attacks a server in each way over each transport.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "over",
        "attack",
        "memory MiB",
        "median quiet ms",
        "attacked",
        "after",
        "p99 quiet ms",
        "attacked",
        "fresh p99 quiet ms",
        "attacked",
    ];
    let mut table = Table::new(
        "a server in 512 MiB under attack, and syncs of honest clients",
        headings,
    );
    let mut targets = Targets {
        alive: Wanted::new(
            "the server stays within 512 MiB, counting what the system keeps for it",
        ),
        memory: Wanted::new("at most 64 MiB for answers that are not read"),
        fast: Wanted::new(
            "honest syncs: median at most 2 × while answers are not read, p99 at most 3 × otherwise",
        ),
        recovers: Wanted::new("the median is back within 1.5 × a second after the attack"),
        served: Wanted::new("no honest sync fails"),
        others: Vec::new(),
    };
    let supervisor = Supervisor::start("siege", false)?;
    for &transport in &options.via {
        for &attack in &options.by {
            eprintln!("{}: {attack:?}", transport.name());
            let mut server = Server::start(transport, attack, &supervisor)?;
            let runtime = runtime()?;
            match attack {
                Attack::Pinned => {
                    let pinned = pinned::measure(&mut server, transport, &supervisor);
                    targets.others.push(runtime.block_on(pinned)?);
                }
                Attack::Strangers => {
                    let strangers = strangers::measure(&mut server, transport);
                    targets.others.push(runtime.block_on(strangers)?);
                }
                _ => {
                    let attacked = besiege(options, transport, attack, &mut server, &mut targets);
                    table.push(runtime.block_on(attacked)?);
                }
            }
            targets.alive.check(server.confined.is_ok(), || {
                let why = server.confined.as_ref().err().cloned();
                format!("not confined: {}", why.unwrap_or_default())
            });
            let kills = server.confined.as_ref().map_or(0, Confined::kills);
            targets.alive.check(kills == 0, || {
                format!("{}, {attack:?}: it was killed", transport.name())
            });
        }
    }
    let Targets {
        alive,
        memory,
        fast,
        recovers,
        served,
        others,
    } = targets;
    let mut targets = vec![alive, memory, fast, recovers, served];
    targets.extend(others);
    Ok(Report {
        tables: vec![table],
        targets,
    })
}

/// Measures honest clients before, during and after an attack.
async fn besiege(
    options: &Options,
    transport: Transport,
    attack: Attack,
    server: &mut Server,
    targets: &mut Targets,
) -> Result<Vec<String>, String> {
    let honest = Honest::begin(transport, server.trees, server.target.address.clone()).await?;
    honest.sync_until(sleep(QUIET / 4)).await?;
    let before = honest.sync_until(sleep(QUIET)).await?;
    server.side.order("begin")?;

    // The attackers have a thread of their own and step back, as other machines would.
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(step_back)
        .enable_all()
        .build()
        .map_err(failed)?;
    let (target, streams) = (server.target.clone(), options.streams);
    let windows = options.windows.clone();
    threads.spawn(async move {
        match (transport, attack) {
            (Transport::Http, Attack::Unread) => http::unread(target, streams, windows).await,
            (Transport::Iroh, Attack::Unread) => iroh::unread(target, streams, windows).await,
            (Transport::Http, Attack::Resets) => http::resets(target).await,
            (Transport::Iroh, Attack::Resets) => iroh::resets(target).await,
            (Transport::Http, _) => http::pushes(target).await,
            (Transport::Iroh, _) => iroh::pushes(target).await,
        }
    });
    let lasting = Duration::from_secs(options.seconds);
    let during = honest.sync_until(sleep(lasting)).await?;
    threads.shutdown_background();
    let peak = server.side.peak_bytes()?;
    honest.sync_until(sleep(RECOVERING)).await?;
    let after = honest.sync_until(sleep(QUIET)).await?;
    honest.end().await?;

    let place = |text: String| format!("{}, {attack:?}: {text}", transport.name());
    if attack == Attack::Unread {
        targets
            .memory
            .check((1..=UNREAD_BYTES_MAX).contains(&peak), || place(mib(peak)));
    }
    let at = |syncs: &Syncs, share| quantile_ms(&syncs.walls, share);
    let [quiet, attacked, later] = [&before, &during, &after].map(|syncs| at(&syncs[0], 0.5));
    let [quiet_p99, attacked_p99] = [&before, &during].map(|syncs| at(&syncs[0], 0.99));
    let [fresh, fresh_attacked] = [&before, &during].map(|syncs| at(&syncs[1], 0.99));
    let is_fast = match attack {
        Attack::Unread => attacked <= MEDIAN_SLOWER_MAX * quiet,
        _ => attacked_p99 <= P99_SLOWER_MAX * quiet_p99,
    };
    targets
        .fast
        .check(is_fast && !during[0].walls.is_empty(), || {
            place(format!(
                "median {quiet:.1} to {attacked:.1} ms, p99 {quiet_p99:.1} to {attacked_p99:.1} ms"
            ))
        });
    targets
        .recovers
        .check(later <= AFTERWARDS_SLOWER_MAX * quiet, || {
            place(format!("{quiet:.1} to {later:.1} ms"))
        });
    for syncs in &during {
        targets.served.check(syncs.failures.is_empty(), || {
            let failures = &syncs.failures;
            place(format!(
                "{}, the first because of {}",
                failures.len(),
                failures[0]
            ))
        });
    }
    let mut row = vec![
        transport.name().into(),
        format!("{attack:?}").to_lowercase(),
        mib(peak),
    ];
    row.extend(
        [
            quiet,
            attacked,
            later,
            quiet_p99,
            attacked_p99,
            fresh,
            fresh_attacked,
        ]
        .map(|ms| decimals(ms, 1)),
    );
    Ok(row)
}
