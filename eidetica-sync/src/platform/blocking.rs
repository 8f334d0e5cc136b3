//! Work that blocks or computes for long, off the async threads.

use std::panic;

use tokio::task::JoinError;

/// Runs `work` where it may block. A panic in it comes out here.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    join(tokio::task::spawn_blocking(work)).await
}

/// Waits for blocking work. A panic in it comes out here.
pub(crate) async fn join<T>(work: impl Future<Output = Result<T, JoinError>>) -> T {
    match work.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // Blocking work is never cancelled but by a runtime that shuts down, which also drops
            // whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
