//! Connections to the database, from threads that block.
//!
//! The interface of stores blocks and the driver does not. The driver's tasks run on a small runtime of
//! their own, so a store works under any runtime and under none, and a caller's runtime that stands still
//! in a test does not stop them. The caller's thread drives its own call, so large results are decoded
//! there. The blocking variant of the driver would do the same with one runtime for each connection, and
//! notices that a connection is lost only when it is used next.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime as PoolRuntime,
    Timeouts,
};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Config;

use super::fault::Fault;
use super::sql::Sql;
use super::tls::Tls;
use crate::store::StoreError;

/// How long a statement may take until its connection counts as lost. The longest ones write a batch of
/// some mebibytes, or wait for another server's.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call is repeated while the database cannot be reached: longer than a restart of it takes,
/// and shorter than a peer waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);

/// The first pause between two attempts; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Threads for the driver's tasks, which move bytes between sockets and queues.
const DRIVER_THREADS: usize = 2;

/// A database that was found to be usable.
pub(super) struct Database {
    pub(super) sql: Sql,
    config: Config,
    tls: Tls,
    pool: Pool,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// A connection, which is closed unless it is given back: after a failure its state is unknown.
pub(super) struct Lease(Option<Object>);

impl Lease {
    pub(super) fn client(&self) -> &ClientWrapper {
        self.0.as_ref().expect("it is given back only at the end")
    }

    /// Gives the connection back. There must be no transaction on it.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// Counts attempts of one call, and pauses between them.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            pause: PAUSE_MIN,
        }
    }

    /// Waits for the next attempt, or returns the fault if there is to be none. Blocks.
    pub(super) fn next(&mut self, database: &Database, fault: Fault) -> Result<(), StoreError> {
        if !fault.is_temporary() || Instant::now() + self.pause > self.until {
            return Err(fault.into());
        }
        tracing::debug!(?fault, "repeats a call of the database");
        // The timer is made within the runtime.
        database.block_on(async { sleep(self.pause).await });
        self.pause = PAUSE_MAX.min(self.pause * 2);
        Ok(())
    }
}

impl Database {
    /// Prepares connections, without making one.
    pub(super) fn new(
        mut config: Config,
        tls: Tls,
        sql: Sql,
        pool_size: usize,
    ) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(DRIVER_THREADS)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Io {
                source: error.into(),
            })?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(STATEMENT_TIMEOUT)
            .tcp_user_timeout(STATEMENT_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("eidetica");
        }
        let manager_config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config.clone(), tls.clone(), manager_config);
        let pool = Pool::builder(manager)
            .max_size(pool_size)
            .runtime(PoolRuntime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(PATIENCE),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .build()
            .map_err(|error| StoreError::Io {
                source: error.into(),
            })?;
        Ok(Self {
            sql,
            config,
            tls,
            pool,
            runtime: Some(runtime),
        })
    }

    /// Returns the runtime of the driver. Tasks on it must not block.
    pub(super) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is in use")
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns how to make a connection beside those of the pool.
    pub(super) fn address(&self) -> (Config, Tls) {
        (self.config.clone(), self.tls.clone())
    }

    /// Waits for a future on this thread, which may be one of another runtime.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let _context = self.runtime().enter();
        // Where the caller is a task itself, its budget would never be renewed in here.
        futures::executor::block_on(tokio::task::unconstrained(future))
    }

    /// Takes a connection. Blocks.
    pub(super) fn lease(&self) -> Result<Lease, Fault> {
        Ok(Lease(Some(self.block_on(self.pool.get())?)))
    }

    /// Waits for an answer of the database, but not for ever. Blocks.
    pub(super) fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.block_on(async {
            let late = |_| Fault::Late("the database did not answer in time");
            timeout(STATEMENT_TIMEOUT, work).await.map_err(late)?
        })
    }

    /// Carries out work on a connection, and repeats it where the connection fails. So it must not
    /// matter if it is done twice. Blocks.
    pub(super) fn run<T>(
        &self,
        work: impl AsyncFn(&ClientWrapper) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut attempts = Attempts::begin();
        loop {
            let attempt = self.lease().and_then(|lease| {
                let answer = self.answer(work(lease.client()))?;
                lease.give_back();
                Ok(answer)
            });
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(fault) => attempts.next(self, fault)?,
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for its threads, which is forbidden within another runtime.
            runtime.shutdown_background();
        }
    }
}
