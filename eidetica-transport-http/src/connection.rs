//! One connection at the server, and the deadlines that hyper does not have.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};

use eidetica_proto::Service;
use eidetica_proto::quota::{Quota, Share};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::body::Sending;
use crate::builder::Deadlines;
use crate::clock::lock;
use crate::limits::{EXCHANGES_PER_CONNECTION_MAX, READ_BYTES_MAX, REQUEST_WINDOW_BYTES};
use crate::routes;
use crate::tasks::{Tasks, TasksExecutor};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

/// One connection that a caller opened.
pub(crate) struct Connection {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) remote: String,
    pub(crate) deadlines: Deadlines,
    pub(crate) tasks: Weak<Tasks>,
    this: Weak<Self>,
    ip: IpAddr,
    shared: Shared,
    /// Its place among those without an answer, until it has one among the others.
    place: Mutex<Place>,
    /// Told when others need what this connection holds.
    given_up: Notify,
    activity: Mutex<Activity>,
}

/// What all connections of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Places of those without an answer.
    pub(crate) newcomers: Arc<Quota>,
    /// Places of those with one.
    pub(crate) answered: Arc<Semaphore>,
    /// Memory for frames that are not whole.
    pub(crate) memory: Arc<Quota>,
}

/// Where a connection is counted.
enum Place {
    Newcomer(Share),
    Answered(#[expect(dead_code, reason = "held until the end")] OwnedSemaphorePermit),
}

/// What goes on over a connection.
struct Activity {
    under_way: BTreeMap<u64, Arc<Sending>>,
    begun: u64,
    /// Since when nothing has been under way.
    idle_since: Instant,
}

/// One request under way. The connection is not idle while this lives.
pub(crate) struct UnderWay {
    connection: Arc<Connection>,
    number: u64,
    pub(crate) sending: Arc<Sending>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut activity = lock(&self.connection.activity);
        activity.under_way.remove(&self.number);
        activity.idle_since = Instant::now();
    }
}

impl Connection {
    pub(crate) fn new(
        service: Arc<dyn Service>,
        remote: SocketAddr,
        deadlines: Deadlines,
        tasks: Weak<Tasks>,
        shared: Shared,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            service,
            remote: remote.to_string(),
            deadlines,
            tasks,
            place: Mutex::new(Place::Newcomer(share_of(
                this,
                &shared.newcomers,
                remote.ip(),
            ))),
            this: this.clone(),
            ip: remote.ip(),
            shared,
            given_up: Notify::new(),
            activity: Mutex::new(Activity {
                under_way: BTreeMap::new(),
                begun: 0,
                idle_since: Instant::now(),
            }),
        })
    }

    /// Takes a place among the newcomers. Another may lose its own.
    pub(crate) fn arrive(&self) {
        if let Place::Newcomer(share) = &mut *lock(&self.place) {
            share.set(1);
        }
    }

    /// Notes that a request got an answer: if there is room, the connection is a newcomer no more.
    pub(crate) fn answered(&self) {
        let mut place = lock(&self.place);
        if let Place::Newcomer(_) = &*place
            && let Ok(permit) = Arc::clone(&self.shared.answered).try_acquire_owned()
        {
            *place = Place::Answered(permit);
        }
    }

    /// Returns what counts the memory for one request's frames.
    pub(crate) fn memory(&self) -> Share {
        share_of(&self.this, &self.shared.memory, self.ip)
    }

    /// Notes that a request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        let sending = Arc::<Sending>::default();
        let mut activity = lock(&self.activity);
        let number = activity.begun;
        activity.begun += 1;
        activity.under_way.insert(number, Arc::clone(&sending));
        UnderWay {
            connection: Arc::clone(self),
            number,
            sending,
        }
    }

    /// Does the handshake and serves the connection to its end. The handshake takes its time from
    /// what the head of the first request has.
    #[cfg(feature = "tls")]
    pub(crate) async fn serve_tls(
        self: Arc<Self>,
        tls: ServerTls,
        stream: TcpStream,
        mut stopping: watch::Receiver<bool>,
    ) {
        let accepted = tokio::select! {
            // An error says that the server is gone.
            _ = stopping.wait_for(|stopping| *stopping) => return,
            why = self.late() => {
                tracing::debug!(remote = self.remote, why, "a handshake is given up");
                return;
            }
            () = self.given_up.notified() => {
                tracing::debug!(remote = self.remote, "a handshake makes room for others");
                return;
            }
            accepted = tls.accept(stream) => accepted,
        };
        match accepted {
            Ok(Some(stream)) => self.serve(stream, stopping).await,
            Ok(None) => tracing::debug!(remote = self.remote, "no TLS is spoken here"),
            // Most of them are nobody's fault but the caller's, and reach this connection alone.
            Err(error) => tracing::debug!(remote = self.remote, %error, "a handshake failed"),
        }
    }

    /// Serves the connection to its end, over TCP or TLS.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TasksExecutor(self.tasks.clone()));
        // This connection's own watch covers heads too, also before HTTP's version is known.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(READ_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(EXCHANGES_PER_CONNECTION_MAX)
            .initial_stream_window_size(REQUEST_WINDOW_BYTES)
            // One exchange that is not read must leave room for all others.
            .initial_connection_window_size(REQUEST_WINDOW_BYTES * EXCHANGES_PER_CONNECTION_MAX)
            .keep_alive_interval(self.deadlines.idle)
            .keep_alive_timeout(self.deadlines.connect);
        let connection = Arc::clone(&self);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(routes::answer(&connection, request).await) }
        });
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut late = pin!(self.late());
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(remote = self.remote, error, "a connection broke");
                    }
                    return;
                }
                _ = stopping.wait_for(|stopping| *stopping), if !leaving => {
                    leaving = true;
                    served.as_mut().graceful_shutdown();
                }
                why = late.as_mut() => {
                    tracing::debug!(remote = self.remote, why, "a connection is closed");
                    return;
                }
                () = self.given_up.notified() => {
                    tracing::debug!(remote = self.remote, "a connection makes room for others");
                    return;
                }
            }
        }
    }

    /// Returns when the caller has been late for something, and says for what.
    async fn late(&self) -> &'static str {
        loop {
            let now = Instant::now();
            let (deadline, why) = self.next_deadline();
            if deadline <= now {
                return why;
            }
            // What begins meanwhile is noticed a quarter of the deadline later at most.
            sleep_until(deadline.min(now + self.deadlines.idle / 4)).await;
        }
    }

    fn next_deadline(&self) -> (Instant, &'static str) {
        let activity = lock(&self.activity);
        if activity.begun == 0 {
            let deadline = activity.idle_since + self.deadlines.connect;
            return (deadline, "no request came in time");
        }
        if activity.under_way.is_empty() {
            let deadline = activity.idle_since + self.deadlines.idle;
            return (deadline, "it was idle");
        }
        let sent = activity.under_way.values();
        let oldest = sent
            .filter_map(|sending| sending.clock.waiting_since())
            .min();
        let since = oldest.unwrap_or_else(Instant::now);
        (since + self.deadlines.idle, "an answer was not taken")
    }
}

/// Makes a share of nothing, which costs the connection when it is lost.
fn share_of(connection: &Weak<Connection>, quota: &Arc<Quota>, ip: IpAddr) -> Share {
    let connection = connection.clone();
    quota.share(ip.to_string(), move || {
        if let Some(connection) = connection.upgrade() {
            connection.given_up.notify_one();
        }
    })
}
