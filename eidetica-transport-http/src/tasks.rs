//! The tasks of one server or of one client. None is left when they are shut down or dropped.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use hyper::rt::Executor;
use tokio::task::JoinSet;

use crate::sync::lock;

/// A set of tasks that ends as a whole.
#[derive(Default)]
pub(crate) struct Tasks {
    /// `None` when it has ended.
    set: Mutex<Option<JoinSet<()>>>,
}

impl Tasks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            set: Mutex::new(Some(JoinSet::new())),
        })
    }

    /// Runs a task, unless the set has ended.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(set) = &mut *lock(&self.set) {
            // Tasks that have ended stay in the set until they are joined.
            while set.try_join_next().is_some() {}
            set.spawn(task);
        }
    }

    /// Waits until no task is left.
    pub(crate) async fn idle(&self) {
        poll_fn(|context| match &mut *lock(&self.set) {
            None => Poll::Ready(()),
            Some(set) => loop {
                match set.poll_join_next(context) {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            },
        })
        .await;
    }

    /// Cuts every task. When this returns, none is left.
    pub(crate) async fn shut_down(&self) {
        let set = lock(&self.set).take();
        if let Some(mut set) = set {
            set.shutdown().await;
        }
    }
}

/// Runs the tasks of hyper in the set. It keeps no task alive.
#[derive(Clone)]
pub(crate) struct TasksExecutor(pub(crate) Weak<Tasks>);

impl<F> Executor<F> for TasksExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(async move {
                future.await;
            });
        }
    }
}
