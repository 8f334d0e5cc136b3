//! Runs work that blocks, or computes for long, on blocking threads.

use std::panic;

use tokio::task::{AbortHandle, JoinError};

/// Runs `work` on a blocking thread. A panic in it resumes here.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    join(tokio::task::spawn_blocking(work)).await
}

/// Runs `work` like [`run`]. If the caller goes away before it begins, it is not done at all; what it
/// has captured is dropped then.
pub(crate) async fn run_unless_gone<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = tokio::task::spawn_blocking(work);
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
