//! The client's connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper::http::uri::Authority;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;

use crate::body::OutgoingBody;
use crate::limits::{
    ANSWER_WINDOW_BYTES, EXCHANGES_PER_CONNECTION_MAX, HTTP2_CONNECTIONS_MAX, PING_INTERVAL,
    POOL_IDLE_CONNECTIONS_MAX, POOL_IDLE_TIMEOUT,
};
use crate::options::HttpVersion;
use crate::settings::Settings;
use crate::sync::lock;
use crate::tasks::{Tasks, TasksExecutor};
#[cfg(feature = "tls")]
use crate::tls::Connector;

#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

pub(crate) type Pool = Client<Connector, OutgoingBody>;

/// Several pools. Each has one HTTP/2 connection to a server, or any number over HTTP/1.1.
///
/// An exchange takes the first pool whose connection has room. So long-lived answers do not use up
/// the places of short exchanges.
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// How many exchanges are in progress with a server, for each pool.
    in_progress: Arc<Mutex<BTreeMap<(String, usize), u32>>>,
}

/// The place of one exchange. Dropping it frees the place.
pub(crate) struct Place {
    key: (String, usize),
    in_progress: Arc<Mutex<BTreeMap<(String, usize), u32>>>,
}

impl Pools {
    pub(crate) fn new(settings: &Settings, tasks: &Arc<Tasks>) -> Self {
        let count = match settings.version {
            HttpVersion::Http1 => 1,
            HttpVersion::Http2 => HTTP2_CONNECTIONS_MAX,
        };
        let connector = connector(settings);
        let pool = || pool(settings, tasks, connector.clone());
        Self {
            pools: std::iter::repeat_with(pool).take(count).collect(),
            in_progress: Arc::default(),
        }
    }

    /// Takes a place for an exchange with this server.
    pub(crate) fn take(&self, authority: &Authority) -> (&Pool, Place) {
        let server = authority.as_str();
        let mut in_progress = lock(&self.in_progress);
        let count = |pool: usize| {
            let key = (server.to_owned(), pool);
            in_progress.get(&key).copied().unwrap_or_default()
        };
        let has_room = |pool: &usize| count(*pool) < EXCHANGES_PER_CONNECTION_MAX;
        let free = (0..self.pools.len()).find(has_room);
        // If all are full, the exchange waits on the connection with the fewest.
        let number = free.or_else(|| (0..self.pools.len()).min_by_key(|pool| count(*pool)));
        let number = number.unwrap_or_default();
        let key = (server.to_owned(), number);
        *in_progress.entry(key.clone()).or_default() += 1;
        let place = Place {
            key,
            in_progress: Arc::clone(&self.in_progress),
        };
        (&self.pools[number], place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_progress = lock(&self.in_progress);
        if let Some(count) = in_progress.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                in_progress.remove(&self.key);
            }
        }
    }
}

fn connector(settings: &Settings) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(settings.deadlines.connect));
    tcp.set_nodelay(true);
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(settings.deadlines.idle));
    #[cfg(feature = "tls")]
    let tcp = Connector::new(
        tcp,
        settings.client_tls.clone(),
        settings.version,
        settings.deadlines.connect,
    );
    tcp
}

fn pool(settings: &Settings, tasks: &Arc<Tasks>, connector: Connector) -> Pool {
    Client::builder(TasksExecutor(Arc::downgrade(tasks)))
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT.min(settings.deadlines.idle / 2))
        .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
        .http2_only(settings.version == HttpVersion::Http2)
        // Until the server says how many it takes.
        .http2_initial_max_send_streams(EXCHANGES_PER_CONNECTION_MAX as usize)
        .http2_initial_stream_window_size(ANSWER_WINDOW_BYTES)
        // An exchange that is not read must leave room for all others.
        .http2_initial_connection_window_size(ANSWER_WINDOW_BYTES * EXCHANGES_PER_CONNECTION_MAX)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_INTERVAL)
        .build(connector)
}
