//! What hostile peers can do to a server: to its memory, and to those who only want to sync.

mod bombs;
mod honest;
mod http;
mod iroh;
mod server;

use std::str::FromStr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_dag::TreeId;
use eidetica_sync::proto::message::{Request, RequestHeader, SendEntries};
use eidetica_sync::proto::proof;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::{Command, Failure, Options};
use crate::nodes::{TransportKind, failed, runtime};
use crate::report::{Cell, Report, Table, Target, column};
use honest::{Honest, Syncs};
use server::Server;

pub use server::COMMAND as SERVER_COMMAND;

/// The benchmark's entry in the list.
pub const COMMAND: Command = Command {
    name: "hostile",
    summary: "A server under attack: stalled connections, oversize frames, bombs.",
    options: "\
  --transport KIND  http or iroh [default: both]
  --connections N   Connections that stall [default: 1000]
  --stall WHERE     All of them stall there: handshake, nothing, head, body or frame [default: mixed]
  --quiet-seconds N How long the honest clients sync before the attack [default: 10]
",
    run,
};

/// Most memory that the attack may cost the server.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Longest time until the server has closed every connection that stalls.
const CLOSED_MAX: Duration = Duration::from_secs(10);

/// By this factor may honest clients be slowed down.
const SLOWER_MAX: f64 = 2.0;

/// How long the attackers take to open all their connections.
const OPENING: Duration = Duration::from_secs(4);

/// How far behind everybody else the attackers are when it comes to processors, which are other
/// machines' in earnest.
const NICENESS: i32 = 19;

/// By so much may a sync on a fresh connection be slower in any case: over iroh, a crowded server
/// asks newcomers to show that packets reach them.
const FRESH_SLOWER_MAX_MS: f64 = 50.0;

/// When the measurement gives up on connections that the server does not close.
const PATIENCE: Duration = Duration::from_secs(45);

/// A frame of the largest size, of which the second half never comes.
const HALF_FRAME_BYTES: usize = 512 << 10;

/// Where a connection stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stall {
    /// The handshake is not over. Over HTTP there is none, so this is the next.
    Handshake,
    /// The connection is there, and nothing is said.
    Nothing,
    /// The beginning of a request is said, not enough to know what it is.
    HalfHead,
    /// The first frame is half there.
    HalfBody,
    /// A request is there, and half of a frame with entries behind it.
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

    const ALL: [Self; 5] = [
        Self::Handshake,
        Self::Nothing,
        Self::HalfHead,
        Self::HalfBody,
        Self::HalfFrame,
    ];
}

impl FromStr for Stall {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let names = ["handshake", "nothing", "head", "body", "frame"];
        let at = names.iter().position(|name| *name == text).ok_or(())?;
        Ok(Self::ALL[at])
    }
}

/// How long one connection stood.
struct Stood {
    stall: Stall,
    /// From its last word on; `None` if the attacker cannot see the end.
    time: Option<Duration>,
}

/// What stalled connections do all alike.
#[derive(Clone)]
struct Attack {
    tree: TreeId,
    connections: usize,
    only: Option<Stall>,
    began: Instant,
    /// The server is done with when this says so.
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

fn run(mut options: Options) -> Result<Report, Failure> {
    let transport: Option<TransportKind> = options.value("--transport")?;
    let connections: usize = options.value("--connections")?.unwrap_or(1_000);
    let only: Option<Stall> = options.value("--stall")?;
    let quiet = options.value("--quiet-seconds")?.unwrap_or(10);
    options.finish()?;
    let transports = match transport {
        Some(TransportKind::Memory) => {
            return Err(Failure::Usage("--transport is http or iroh".into()));
        }
        Some(one) => vec![one],
        None => vec![TransportKind::Http, TransportKind::Iroh],
    };
    let mut results = Results::new();
    for transport in transports {
        let mut server = Server::begin(transport)?;
        runtime()?.block_on(async {
            let quiet = Duration::from_secs(quiet);
            stalled(
                transport,
                (connections, only),
                quiet,
                &mut server,
                &mut results,
            )
            .await?;
            bombs::measure(transport, &mut server, &mut results).await
        })?;
    }
    Ok(results.into_report())
}

/// Attacks with connections that stall, and looks at how others fare.
async fn stalled(
    transport: TransportKind,
    (connections, only): (usize, Option<Stall>),
    quiet: Duration,
    server: &mut Server,
    results: &mut Results,
) -> Result<(), Failure> {
    let (tree, address) = (server.tree, server.address.clone());
    let honest = Honest::begin(transport, [tree, server.still], address.clone()).await?;
    // Once for the caches, once for the figures.
    honest.sync_until(sleep(quiet / 4)).await?;
    let before = honest.sync_until(sleep(quiet)).await?;
    let idle_bytes = server.begin_usage()?;

    let (over, is_over) = watch::channel(false);
    let attack = Attack {
        tree,
        connections,
        only,
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
        let mut standing = match standing.await.map_err(failed)? {
            Ok(standing) => standing,
            Err(failure) => return Err(failure),
        };
        let mut stood = Vec::new();
        let give_up = sleep(PATIENCE);
        tokio::pin!(give_up);
        loop {
            tokio::select! {
                ended = standing.join_next() => match ended {
                    None => return Ok(stood),
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
    let peak_bytes = server.peak_bytes()?;
    threads.shutdown_background();
    honest.end().await?;
    results.memory(transport, connections, idle_bytes, peak_bytes);
    results.stood(transport, &stood?);
    let [warm_before, fresh_before] = &before;
    let [warm, fresh] = &during;
    results.honest(transport, false, warm_before, warm);
    results.honest(transport, true, fresh_before, fresh);
    Ok(())
}

/// Lets this thread work when nobody else wants to, where the system can do that to one thread.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _as_before_if_it_fails = rustix::process::nice(NICENESS);
}

/// All figures.
struct Results {
    memory: Table,
    stood: Table,
    honest: Table,
    bombs: Table,
    memory_target: Target,
    stood_target: Target,
    slower_target: Target,
    refused_target: Target,
    bombs_target: Target,
}

impl Results {
    fn new() -> Self {
        let target = |wanted| Target {
            wanted,
            missed: vec![],
        };
        Self {
            memory: Table::new(
                "Memory of the server under stalled connections",
                const {
                    &[
                        column("transport", "transport"),
                        column("connections", "connections"),
                        column("idle MiB", "idle_mib"),
                        column("peak over idle, MiB", "peak_over_idle_mib"),
                    ]
                },
            ),
            stood: Table::new(
                "How long stalled connections stood",
                const {
                    &[
                        column("transport", "transport"),
                        column("stalled after", "stalled_after"),
                        column("connections", "connections"),
                        column("median s", "median_s"),
                        column("longest s", "longest_s"),
                    ]
                },
            ),
            honest: Table::new(
                "Syncs of others, without and with the attack",
                const {
                    &[
                        column("transport", "transport"),
                        column("syncs", "syncs"),
                        column("quiet", "quiet_count"),
                        column("median ms", "quiet_median_ms"),
                        column("p99 ms", "quiet_p99_ms"),
                        column("attacked", "attacked_count"),
                        column("median ms", "attacked_median_ms"),
                        column("p99 ms", "attacked_p99_ms"),
                        column("failed", "attacked_failed"),
                    ]
                },
            ),
            bombs: Table::new(
                "Requests that are too large",
                const {
                    &[
                        column("transport", "transport"),
                        column("request", "request"),
                        column("what came back", "answer"),
                        column("peak over idle, MiB", "peak_over_idle_mib"),
                    ]
                },
            ),
            memory_target: target("at most 64 MiB of memory for stalled connections"),
            stood_target: target("stalled connections are closed within 10 s"),
            slower_target: target(
                "the p99 of honest syncs is less than doubled, or 50 ms more on fresh connections",
            ),
            refused_target: target("no honest sync fails"),
            bombs_target: target("what is too large is refused, for at most 64 MiB"),
        }
    }

    fn memory(
        &mut self,
        transport: TransportKind,
        connections: usize,
        idle: Option<u64>,
        peak: Option<u64>,
    ) {
        if peak.is_none_or(|peak| peak > MEMORY_BYTES_MAX) {
            let figure = mib(peak).to_string();
            self.memory_target
                .missed
                .push(format!("{}: {figure} MiB", transport.name()));
        }
        self.memory.push(vec![
            transport.name().into(),
            Cell::Count(connections as u64),
            mib(idle),
            mib(peak),
        ]);
    }

    fn stood(&mut self, transport: TransportKind, all: &[Stood]) {
        for stall in Stall::ALL {
            let these = all.iter().filter(|stood| stood.stall == stall);
            let count = these.clone().count();
            if count == 0 {
                continue;
            }
            let mut times: Vec<Duration> = these.filter_map(|stood| stood.time).collect();
            times.sort_unstable();
            let longest = times.last().copied();
            let median = times.get(times.len() / 2).copied();
            if let Some(longest) = longest
                && longest > CLOSED_MAX
            {
                self.stood_target.missed.push(format!(
                    "{}, {}: {:.1} s",
                    transport.name(),
                    stall.name(),
                    longest.as_secs_f64()
                ));
            }
            let seconds = |time: Option<Duration>| {
                time.map_or(Cell::Absent, |time| Cell::Number(time.as_secs_f64(), 1))
            };
            self.stood.push(vec![
                transport.name().into(),
                stall.name().into(),
                Cell::Count(count as u64),
                seconds(median),
                seconds(longest),
            ]);
        }
    }

    fn honest(&mut self, transport: TransportKind, fresh: bool, quiet: &Syncs, attacked: &Syncs) {
        let which = match fresh {
            true => "each on a fresh one",
            false => "on one connection",
        };
        let place = format!("{}, {which}", transport.name());
        let (before, after) = (quiet.quantile_ms(0.99), attacked.quantile_ms(0.99));
        let slower_max = match fresh {
            true => (SLOWER_MAX * before).max(before + FRESH_SLOWER_MAX_MS),
            false => SLOWER_MAX * before,
        };
        if after >= slower_max || attacked.count() == 0 {
            self.slower_target
                .missed
                .push(format!("{place}: {before:.1} to {after:.1} ms"));
        }
        if let Some(first) = attacked.failures.first() {
            let count = attacked.failures.len();
            self.refused_target
                .missed
                .push(format!("{place}: {count}, the first because of: {first}"));
        }
        self.honest.push(vec![
            transport.name().into(),
            which.into(),
            Cell::Count(quiet.count() as u64),
            Cell::Number(quiet.quantile_ms(0.5), 2),
            Cell::Number(before, 2),
            Cell::Count(attacked.count() as u64),
            Cell::Number(attacked.quantile_ms(0.5), 2),
            Cell::Number(after, 2),
            Cell::Count(attacked.failures.len() as u64),
        ]);
    }

    fn bomb(
        &mut self,
        transport: TransportKind,
        request: &'static str,
        answer: &bombs::Answer,
        peak: Option<u64>,
    ) {
        let text = answer.to_string();
        if !answer.is_refusal() || peak.is_none_or(|peak| peak > MEMORY_BYTES_MAX) {
            let figure = mib(peak).to_string();
            self.bombs_target.missed.push(format!(
                "{}, {request}: {text}, {figure} MiB",
                transport.name()
            ));
        }
        self.bombs.push(vec![
            transport.name().into(),
            request.into(),
            Cell::Text(text),
            mib(peak),
        ]);
    }

    fn into_report(self) -> Report {
        Report {
            tables: vec![self.memory, self.stood, self.honest, self.bombs],
            targets: vec![
                self.memory_target,
                self.stood_target,
                self.slower_target,
                self.refused_target,
                self.bombs_target,
            ],
        }
    }
}

fn mib(bytes: Option<u64>) -> Cell {
    bytes.map_or(Cell::Absent, |bytes| {
        Cell::Number(bytes as f64 / f64::from(1 << 20), 1)
    })
}

/// The connections of an attack.
type Standing = JoinSet<Stood>;
