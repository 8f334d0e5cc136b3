//! Runs work that blocks, or computes for long, on blocking threads.

use std::ops::ControlFlow;
use std::panic;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinHandle};

#[cfg(feature = "test-utils")]
use super::inline;

/// Runs `work` on a blocking thread. A panic in it resumes here.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    join(spawn(work)).await
}

/// Begins `work` on a blocking thread; in a simulation, in a task after a delay.
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(feature = "test-utils")]
    if let Some(delay) = inline::delay() {
        return tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            work()
        });
    }
    tokio::task::spawn_blocking(work)
}

/// Does `work` on each item of a queue, one after the other, all on one blocking thread, until it breaks
/// off or the queue ends.
pub(crate) fn for_each<T: Send + 'static>(
    mut queue: mpsc::Receiver<T>,
    mut work: impl FnMut(T) -> ControlFlow<()> + Send + 'static,
) -> JoinHandle<()> {
    #[cfg(feature = "test-utils")]
    if inline::is_on() {
        return tokio::spawn(async move {
            while let Some(item) = queue.recv().await {
                tokio::time::sleep(inline::delay().unwrap_or_default()).await;
                if work(item).is_break() {
                    break;
                }
            }
        });
    }
    tokio::task::spawn_blocking(move || {
        while let Some(item) = queue.blocking_recv() {
            if work(item).is_break() {
                break;
            }
        }
    })
}

/// Runs `work` like [`run`]. If the caller goes away before it begins, it is not done at all; what it
/// has captured is dropped then.
pub(crate) async fn run_unless_gone<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = spawn(work);
    let _cancel = AbortOnDrop(task.abort_handle());
    join(task).await
}

/// Cancels a task that has not begun. Blocking work that runs is not interrupted.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a future in a task of its own, which is cancelled when the result is dropped. A panic in it
/// resumes where the result is awaited.
pub(crate) fn task<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> OwnTask<T> {
    OwnTask(tokio::spawn(work))
}

/// A task that does not outlive this.
pub(crate) struct OwnTask<T>(JoinHandle<T>);

impl<T> Drop for OwnTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for OwnTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(value) => Poll::Ready(value),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                // Only a runtime that shuts down cancels it, and it drops this future as well.
                Err(_) => Poll::Pending,
            },
        }
    }
}

/// Waits for blocking work. A panic in it resumes here.
pub(crate) async fn join<T>(work: impl Future<Output = Result<T, JoinError>>) -> T {
    match work.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work, and it drops this future as well.
            Err(_) => std::future::pending().await,
        },
    }
}
