//! The answering side: accepts connections, and hands their exchanges to the service.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_proto::{Caller, Service, TransportError, TransportErrorKind};
use iroh::EndpointId;
use iroh::endpoint::{Accepting, Connection, VarInt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use crate::address::{KIND, key_of};
use crate::error::{CLOSE_BUSY, CLOSE_CUT, CLOSE_LEAVING};
use crate::limits::{
    CONNECTION_IDLE_TIMEOUT, CONNECTIONS_PER_PEER_MAX, CUT_TIMEOUT, Capacity, Deadlines,
    NOTICE_TIMEOUT, STREAMS_PER_CONNECTION_MAX,
};
use crate::quota::{Quota, Share};
use crate::stopping::{Phase, cut_when_quiet};
use crate::stream::{FrameReader, FrameWriter, Outgoing, SendStopped, Watch};

/// The answering side of a transport: stopped or serving, again and again.
pub(crate) struct Server {
    run: Mutex<Option<Running>>,
    /// Held while the server is started or stopped, so that each waits for the other.
    lifecycle: tokio::sync::Mutex<()>,
    limits: Limits,
    deadlines: Deadlines,
}

/// What outlives a stop: the connections and what they hold.
#[derive(Clone)]
struct Limits {
    newcomers: Arc<Quota>,
    /// Places of connections that have completed an exchange.
    established: Arc<Semaphore>,
    /// Memory for frames that are not whole.
    memory: Arc<Quota>,
    /// Memory for answers that are not taken.
    untaken: Arc<Quota>,
    connections: Arc<Mutex<BTreeMap<EndpointId, usize>>>,
}

struct Running {
    service: Arc<dyn Service>,
    phase: watch::Sender<Phase>,
}

/// What a connection needs of its server. While it lives, a stop of the server waits.
#[derive(Clone)]
pub(crate) struct Run {
    service: Arc<dyn Service>,
    phase: watch::Receiver<Phase>,
    limits: Limits,
    deadlines: Deadlines,
}

impl Server {
    pub(crate) fn new(deadlines: Deadlines, capacity: Capacity) -> Self {
        Self {
            run: Mutex::default(),
            lifecycle: tokio::sync::Mutex::default(),
            limits: Limits {
                newcomers: Quota::new(capacity.newcomers),
                established: Arc::new(Semaphore::new(capacity.connections)),
                memory: Quota::new(capacity.unfinished_bytes),
                untaken: Quota::new(capacity.untaken_bytes),
                connections: Arc::default(),
            },
            deadlines,
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Starts to serve. Connections that arrive from now on find the service.
    pub(crate) async fn start(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        let _lifecycle = self.lifecycle.lock().await;
        let mut running = self.running();
        if running.is_some() {
            let text = "the iroh server is already running";
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                text,
            ));
        }
        let phase = watch::Sender::new(Phase::Serving);
        *running = Some(Running { service, phase });
        Ok(())
    }

    /// Accepts nothing more, lets exchanges in progress end within the grace time, cuts the rest,
    /// and waits until nothing is left.
    pub(crate) async fn stop(&self) -> Result<(), TransportError> {
        let _lifecycle = self.lifecycle.lock().await;
        let Some(Running { phase, .. }) = self.running().take() else {
            return Ok(());
        };
        // The channel is closed when the last connection has dropped its end.
        phase.send_replace(Phase::Draining);
        if timeout(self.deadlines.stop_grace, phase.closed())
            .await
            .is_ok()
        {
            return Ok(());
        }
        phase.send_replace(Phase::Cut);
        timeout(CUT_TIMEOUT, phase.closed()).await.map_err(|_| {
            let text = "an exchange blocks its thread and could not be cut";
            TransportError::new(TransportErrorKind::Local, text)
        })
    }

    /// Returns what a connection that arrives needs, unless the server is stopped.
    pub(crate) fn run(&self) -> Option<Run> {
        let running = self.running();
        let Running { service, phase } = running.as_ref()?;
        Some(Run {
            service: service.clone(),
            phase: phase.subscribe(),
            limits: self.limits.clone(),
            deadlines: self.deadlines,
        })
    }
}

/// The place of a connection that has not completed an exchange.
pub(crate) struct Newcomer {
    _share: Share,
    /// Notified when others need what the connection holds.
    given_up: Arc<Notify>,
}

/// Why a connection is kept.
enum PeerStatus {
    /// It may begin an exchange soon. Held until one is complete.
    Newcomer(#[expect(dead_code, reason = "it is held")] Newcomer),
    /// It has completed one. Held to the end.
    Established(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit),
}

impl Run {
    /// Returns whether there are so many newcomers that one more may cost another its place.
    pub(crate) fn is_crowded(&self) -> bool {
        self.limits.newcomers.is_scarce()
    }

    /// Admits a newcomer. If there are too many, the oldest of the group that has most must leave.
    pub(crate) fn admit(&self, group: &str) -> Newcomer {
        let given_up = Arc::<Notify>::default();
        let mut share = self.limits.newcomers.share(group, given_up.clone());
        share.set(1);
        Newcomer {
            _share: share,
            given_up,
        }
    }

    /// Completes the handshake and serves the connection to its end.
    pub(crate) async fn handshake(mut self, accepting: Accepting, newcomer: Newcomer) {
        let handshake = timeout(self.deadlines.connect, accepting);
        let connection = tokio::select! {
            _ = self.phase.wait_for(|phase| *phase != Phase::Serving) => return,
            () = newcomer.given_up.notified() => {
                debug!("a handshake was cut to make room");
                return;
            }
            connection = handshake => connection,
        };
        match connection {
            Ok(Ok(connection)) => self.serve(connection, newcomer).await,
            Ok(Err(error)) => debug!(%error, "handshake failed"),
            Err(_) => debug!("handshake timed out"),
        }
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve(mut self, connection: Connection, newcomer: Newcomer) {
        let Some(_seat) = Seat::take(&self.limits.connections, connection.remote_id()) else {
            connection.close(CLOSE_BUSY, b"too many connections of this peer");
            return;
        };
        let given_up = newcomer.given_up.clone();
        connection.set_max_concurrent_bi_streams(STREAMS_PER_CONNECTION_MAX.into());
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
        let mut exchanges = JoinSet::new();
        let served = async {
            self.accept_exchanges(&connection, newcomer, &mut exchanges)
                .await;
            self.drain(&connection, &mut exchanges).await
        };
        let code = tokio::select! {
            code = served => code,
            () = given_up.notified() => CLOSE_BUSY,
        };
        // In this order: a closed connection keeps what it has not read for a while.
        exchanges.shutdown().await;
        connection.close(code, b"");
    }

    /// Accepts exchanges until the server stops, the peer leaves, or the connection is idle.
    async fn accept_exchanges(
        &mut self,
        connection: &Connection,
        newcomer: Newcomer,
        exchanges: &mut JoinSet<Outcome>,
    ) {
        let caller = Caller {
            transport: KIND,
            key: Some(key_of(connection.remote_id())),
            remote: remote_of(connection),
        };
        let stalled = Arc::<AtomicBool>::default();
        let given_up = newcomer.given_up.clone();
        let group: Arc<str> = connection.remote_id().to_string().into();
        let mut status = PeerStatus::Newcomer(newcomer);
        loop {
            if exchanges.is_empty() && stalled.load(Ordering::Acquire) {
                debug!(caller = %caller.remote, "the caller stalled");
                return;
            }
            // A newcomer connected because it has something to ask, so it has less time to begin
            // than an established connection.
            let patience = match status {
                PeerStatus::Newcomer(_) => self.deadlines.connect,
                PeerStatus::Established(_) => CONNECTION_IDLE_TIMEOUT.max(self.deadlines.idle),
            };
            let phase = self.phase.clone();
            // A peer may open more streams than it is allowed. The excess waits here, within the
            // receive window of the connection.
            let has_room = exchanges.len() < STREAMS_PER_CONNECTION_MAX as usize;
            tokio::select! {
                _ = self.phase.wait_for(|phase| *phase != Phase::Serving) => return,
                stream = connection.accept_bi(), if has_room => match stream {
                    Ok((send, recv)) => {
                        let service = self.service.clone();
                        let caller = caller.clone();
                        let recv = FrameReader::new(recv).watched(Watch {
                            connection: connection.clone(),
                            timeout: self.deadlines.stall,
                            stalled: stalled.clone(),
                            memory: self.limits.memory.share(group.clone(), given_up.clone()),
                        });
                        let untaken = self.limits.untaken.share(group.clone(), given_up.clone());
                        let writer = FrameWriter::new(send).counted(untaken);
                        exchanges.spawn(answer(
                            service,
                            caller,
                            writer,
                            recv,
                            phase,
                            self.deadlines,
                        ));
                    }
                    Err(reason) => {
                        debug!(%reason, caller = %caller.remote, "connection ended");
                        return;
                    }
                },
                Some(ended) = exchanges.join_next() => match ended {
                    Ok(Outcome::Complete) => {
                        if let PeerStatus::Newcomer(_) = status
                            && let Ok(permit) = self.limits.established.clone().try_acquire_owned()
                        {
                            status = PeerStatus::Established(permit);
                        }
                    }
                    Ok(Outcome::Incomplete) => {}
                    Err(panic) => error!(%panic, "the service panicked"),
                },
                () = sleep(patience), if exchanges.is_empty() => return,
            }
        }
    }

    /// Waits until the exchanges in progress have ended, or must end. Returns the code to close with.
    async fn drain(&mut self, connection: &Connection, exchanges: &mut JoinSet<Outcome>) -> VarInt {
        loop {
            tokio::select! {
                ended = exchanges.join_next() => match ended {
                    None => return CLOSE_LEAVING,
                    Some(Ok(Outcome::Complete | Outcome::Incomplete)) => {}
                    Some(Err(panic)) => error!(%panic, "the service panicked"),
                },
                _ = self.phase.wait_for(|phase| *phase == Phase::Cut) => break,
                _ = connection.closed() => break,
            }
        }
        exchanges.shutdown().await;
        CLOSE_CUT
    }
}

/// Returns the source of the connection's packets, for logs.
fn remote_of(connection: &Connection) -> String {
    let paths = connection.paths();
    let selected = paths.iter().find(|path| path.is_selected());
    match selected.or_else(|| paths.iter().next()) {
        Some(path) => path.remote_addr().to_string(),
        None => connection.remote_id().fmt_short().to_string(),
    }
}

/// How an exchange ended.
enum Outcome {
    /// The caller received the whole answer.
    Complete,
    /// One side stopped it, or the connection was lost.
    Incomplete,
}

/// Answers one exchange.
async fn answer(
    service: Arc<dyn Service>,
    caller: Caller,
    writer: FrameWriter,
    recv: FrameReader,
    phase: watch::Receiver<Phase>,
    deadlines: Deadlines,
) -> Outcome {
    let remote = caller.remote.clone();
    let mut stopped = Box::pin(writer.stopped());
    let request = recv.into_stream(deadlines.idle);
    let mut exchanging = service.exchange(caller, request);
    let frames = tokio::select! {
        biased;
        frames = &mut exchanging => frames,
        _ = &mut stopped => {
            // The service may be reading a request that was cut: let it notice.
            debug!(caller = %remote, "the caller left before it was answered");
            let _ = timeout(NOTICE_TIMEOUT, exchanging).await;
            return Outcome::Incomplete;
        }
    };
    let mut outgoing = Outgoing::new(writer, cut_when_quiet(frames, phase));
    outgoing.forget_sent();
    let sent = tokio::select! {
        biased;
        // The service has no deadline: it may wait for news. A caller that does not want to wait
        // stops the stream.
        sent = outgoing.run(deadlines.idle, None) => sent,
        _ = &mut stopped => Err(SendStopped::ByPeer),
    };
    match sent {
        // The connection may be closed right after this exchange, and closing drops what the
        // caller has not received yet.
        Ok(()) => match timeout(deadlines.idle, stopped).await {
            Ok(Ok(None)) => Outcome::Complete,
            Ok(Ok(Some(_)) | Err(_)) | Err(_) => Outcome::Incomplete,
        },
        Err(SendStopped::ByPeer) => {
            debug!(caller = %remote, "the caller stopped the answer");
            Outcome::Incomplete
        }
        Err(SendStopped::ByError(error)) => {
            debug!(caller = %remote, %error, "the answer was cut");
            Outcome::Incomplete
        }
    }
}

/// One of a peer's connections.
struct Seat {
    connections: Arc<Mutex<BTreeMap<EndpointId, usize>>>,
    peer: EndpointId,
}

impl Seat {
    fn take(
        connections: &Arc<Mutex<BTreeMap<EndpointId, usize>>>,
        peer: EndpointId,
    ) -> Option<Self> {
        let mut counts = connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count == CONNECTIONS_PER_PEER_MAX {
            return None;
        }
        *count += 1;
        Some(Self {
            connections: connections.clone(),
            peer,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let counts = self.connections.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}
