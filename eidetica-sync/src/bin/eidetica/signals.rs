//! Interruptions: from the keyboard, from the system, or from a client that has ended.

use tokio::sync::watch;

use crate::output::failure::{Context, Result};

/// Waits for an interruption. While it exists, signals do not end the program.
pub(crate) enum Interruption {
    Signals(Signals),
    Remote(watch::Receiver<bool>),
}

impl Interruption {
    /// Starts to listen for signals; none is missed from here on.
    pub(crate) fn listen() -> Result<Self> {
        Signals::listen().map(Self::Signals)
    }

    /// Returns an interruption that occurs when `gone` becomes true or its sender is dropped.
    pub(crate) fn when(gone: watch::Receiver<bool>) -> Self {
        Self::Remote(gone)
    }

    /// Waits for the interruption.
    pub(crate) async fn wait(&mut self) {
        match self {
            Self::Signals(signals) => signals.wait().await,
            Self::Remote(gone) => {
                let _is_gone = gone.wait_for(|gone| *gone).await;
            }
        }
    }
}

/// The system's signals.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = "could not listen for signals";
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context(failed)?,
            terminate: signal(SignalKind::terminate()).context(failed)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The system's signals.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self)
    }

    async fn wait(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The signal of a write beyond the limit of a file's size (`ulimit -f`), where it has this number.
#[cfg(any(
    target_vendor = "apple",
    all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )
))]
const FILE_TOO_LARGE: i32 = 25;

/// Lets a write beyond the limit of a file's size fail, instead of ending the program. Must be called
/// within the runtime, and holds until the program ends.
#[cfg(any(
    target_vendor = "apple",
    all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )
))]
pub(crate) fn survive_large_files() {
    use tokio::signal::unix::{SignalKind, signal};
    // A handler stays after its listener is gone. Without one the program works as well, within the limit.
    let _listener = signal(SignalKind::from_raw(FILE_TOO_LARGE));
}

#[cfg(not(any(
    target_vendor = "apple",
    all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )
)))]
pub(crate) fn survive_large_files() {}
