//! News between the servers that share a database.
//!
//! A server tells what it has committed by `NOTIFY`, in batches and apart from the commits, because each
//! takes a lock of the whole database server. It hears of others on a connection of its own. Since that
//! works neither through poolers nor on every engine, and a lost connection misses news, each server also
//! asks once in a second which trees have changed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use deadpool_postgres::Pool;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::proof::REQUEST_AGE_MAX_MS;
use futures::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Config};

use super::database::Database;
use super::fault::Fault;
use super::tls::Tls;
use crate::platform::clock::WallClock;
use crate::platform::random::Random;
use crate::store::shared::Listener;

/// How long a proof is kept, in milliseconds: for as long as its request is accepted, and for as long as
/// the clocks of two servers may differ.
pub(super) const PROOF_KEPT_MS: u64 = REQUEST_AGE_MAX_MS + 60_000;

/// How often a server asks which trees have changed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a change may take to become visible after it was dated. One that takes longer is noticed
/// with the next change of its tree.
const COMMIT_DELAY_MAX: Duration = Duration::from_secs(15);

/// How long a server collects news before it tells them.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(10);

/// The pause after news could not be told or heard.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long a statement about news may take.
const NEWS_TIMEOUT: Duration = Duration::from_secs(10);

/// How many polls there are between two removals of old proofs.
const POLLS_PER_SWEEP: u32 = 15;

/// Longest text of one notification in bytes; PostgreSQL takes less than 8,000.
const NOTICE_BYTES_MAX: usize = 7_000;

/// What this server knows of the heads of trees, and whom it tells.
pub(super) struct News {
    /// Names this server in notifications, so that it passes over its own.
    name: String,
    listeners: Mutex<Vec<Listener>>,
    /// How far the arrivals of each tree were told, or are this server's own.
    told: Mutex<BTreeMap<TreeId, u32>>,
    /// What other servers are to be told.
    pending: Mutex<BTreeMap<TreeId, Range<u32>>>,
    has_pending: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl News {
    pub(super) fn new() -> Self {
        Self {
            name: HEXLOWER.encode(&Random::from_os().bytes::<6>()),
            listeners: Mutex::default(),
            told: Mutex::default(),
            pending: Mutex::default(),
            has_pending: Notify::new(),
        }
    }

    pub(super) fn listen(&self, listener: Listener) {
        lock(&self.listeners).push(listener);
    }

    fn tell(&self, tree: TreeId, arrivals: &Range<u32>) {
        // Not under the lock: a listener may wait for others.
        let listeners = lock(&self.listeners).clone();
        for listener in listeners {
            if !listener(tree, arrivals.clone()) {
                lock(&self.listeners).retain(|other| !Arc::ptr_eq(other, &listener));
            }
        }
    }

    /// Takes that this server has appended. What came before it, and was not told, is another server's.
    pub(super) fn appended(&self, tree: TreeId, arrivals: Range<u32>) {
        if arrivals.is_empty() || lock(&self.listeners).is_empty() {
            return;
        }
        let before = lock(&self.told).insert(tree, arrivals.end);
        if let Some(before) = before.filter(|before| *before < arrivals.start) {
            self.tell(tree, &(before..arrivals.start));
        }
        let mut pending = lock(&self.pending);
        let range = pending.entry(tree).or_insert(arrivals.clone());
        *range = range.start.min(arrivals.start)..range.end.max(arrivals.end);
        drop(pending);
        self.has_pending.notify_one();
    }

    /// Takes that a tree has entries up to a number, of which those from `first` are another server's, if
    /// that is known. Blocks.
    fn heard(&self, tree: TreeId, first: Option<u32>, end: u32) {
        let mut told = lock(&self.told);
        let known = told.get(&tree).copied();
        if known.is_some_and(|known| known >= end) {
            return;
        }
        told.insert(tree, end);
        drop(told);
        let start = known.or(first).unwrap_or(end);
        self.tell(tree, &(start..end));
    }

    fn take_pending(&self) -> Vec<String> {
        let pending = std::mem::take(&mut *lock(&self.pending));
        let mut notices = Vec::new();
        let mut notice = self.name.clone();
        for (tree, Range { start, end }) in pending {
            if notice.len() > NOTICE_BYTES_MAX {
                notices.push(std::mem::replace(&mut notice, self.name.clone()));
            }
            notice.push_str(&format!(" {tree}:{start}:{end}"));
        }
        notices.push(notice);
        notices
    }

    /// Reads the notification of another server. Blocks.
    fn take_notice(&self, notice: &str) {
        let mut parts = notice.split(' ');
        if parts.next().is_none_or(|name| name == self.name) {
            return;
        }
        for part in parts {
            let mut fields = part.split(':');
            let tree = fields.next().and_then(|it| TreeId::from_str(it).ok());
            let mut number = || fields.next().and_then(|it| it.parse().ok());
            if let (Some(tree), Some(first), Some(end)) = (tree, number(), number()) {
                self.heard(tree, Some(first), end);
            }
        }
    }
}

/// Starts to tell and to hear news. It ends with the database's runtime.
pub(super) fn start(database: &Database, news: &Arc<News>) {
    let runtime = database.runtime();
    let (pool, sql) = (database.pool().clone(), &database.sql);
    runtime.spawn(tell(pool.clone(), news.clone(), sql.notify.clone()));
    let (changed, sweep) = (sql.changed.clone(), sql.sweep_proofs.clone());
    runtime.spawn(poll(pool, news.clone(), changed, sweep));
    let (config, tls) = database.address();
    runtime.spawn(hear(config, tls, news.clone(), sql.listen.clone()));
}

/// Tells other servers what this one has appended.
async fn tell(pool: Pool, news: Arc<News>, sql: String) {
    loop {
        news.has_pending.notified().await;
        sleep(NOTIFY_INTERVAL).await;
        let notices = news.take_pending();
        let told = async {
            let client = pool.get().await?;
            client
                .execute_typed(&sql, &[(&notices, Type::TEXT_ARRAY)])
                .await?;
            Ok::<_, Fault>(())
        };
        if !matches!(timeout(NEWS_TIMEOUT, told).await, Ok(Ok(()))) {
            // Their polls find it.
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Asks which trees have changed, and removes old proofs.
async fn poll(pool: Pool, news: Arc<News>, changed: String, sweep: String) {
    let mut last = Instant::now();
    for number in 0_u32.. {
        sleep(POLL_INTERVAL).await;
        let began = Instant::now();
        let seconds = (began - last + COMMIT_DELAY_MAX).as_secs_f64();
        let polled = async {
            let client = pool.get().await?;
            let rows = client
                .query_typed(&changed, &[(&seconds, Type::FLOAT8)])
                .await?;
            if number % POLLS_PER_SWEEP == 0 {
                let oldest_ms = WallClock::default().now_ms().saturating_sub(PROOF_KEPT_MS) as i64;
                client
                    .execute_typed(&sweep, &[(&oldest_ms, Type::INT8)])
                    .await?;
            }
            Ok::<_, Fault>(rows)
        };
        let Ok(Ok(rows)) = timeout(NEWS_TIMEOUT, polled).await else {
            continue;
        };
        last = began;
        let changed: Vec<(TreeId, u32)> = rows
            .iter()
            .filter_map(|row| {
                let id = <[u8; 32]>::try_from(row.get::<_, &[u8]>(0)).ok()?;
                let end = u32::try_from(row.get::<_, i64>(1)).ok()?;
                Some((TreeId::from_root(EntryId::from_bytes(id)), end))
            })
            .collect();
        let news = news.clone();
        // Listeners wait for readers of the store, which wait for this runtime's threads.
        let told = tokio::task::spawn_blocking(move || {
            for (tree, end) in changed {
                news.heard(tree, None, end);
            }
        });
        let _ = told.await;
    }
}

/// Hears what other servers tell.
async fn hear(config: Config, tls: Tls, news: Arc<News>, sql: String) {
    loop {
        if let Ok((client, mut connection)) = config.connect(tls.clone()).await {
            let news = news.clone();
            let messages = stream::poll_fn(move |context| connection.poll_message(context));
            let hearing = tokio::spawn(async move {
                let mut messages = std::pin::pin!(messages);
                while let Some(Ok(message)) = messages.next().await {
                    if let AsyncMessage::Notification(notice) = message {
                        let news = news.clone();
                        let told = tokio::task::spawn_blocking(move || {
                            news.take_notice(notice.payload());
                        });
                        let _ = told.await;
                    }
                }
            });
            if client.batch_execute(&sql).await.is_ok() {
                let _ = hearing.await;
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}
