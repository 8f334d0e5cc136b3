//! What hostile peers can do to a server: to its memory, and to those who only want to sync.

mod bombs;
mod honest;
mod http;
mod iroh;
mod results;
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
use crate::report::Report;
use honest::Honest;
use results::Results;
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

/// How long the attackers take to open all their connections.
const OPENING: Duration = Duration::from_secs(4);

/// How far behind everybody else the attackers are when it comes to processors, which are other
/// machines' in earnest.
const NICENESS: i32 = 19;

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

/// The connections of an attack.
type PeerStatus = JoinSet<Stood>;
