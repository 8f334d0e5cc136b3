//! Packs batches: alone for what this node asks to send, in turn where many peers are answered.

use std::sync::Arc;

use eidetica_proto::turns::Asker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::platform::blocking;
use crate::server::work_limit::WorkLimit;

/// How many answers have their next batch packed while the last one is on its way. With a packer that
/// is used again, each holds a few times a batch in memory. All others pack when they are asked for more,
/// which lets a fast reader wait for each batch.
const AHEAD_MAX: usize = 16;

/// How batches are packed.
#[derive(Clone)]
pub(crate) enum Packing {
    /// At once, and always one ahead.
    Alone,
    /// In turn with other answers.
    InTurn(Arc<Answers>, Asker),
}

/// What all answers share.
pub(crate) struct Answers {
    packings: WorkLimit,
    ahead: Arc<Semaphore>,
}

/// Permission to pack one batch ahead, until it is dropped.
pub(crate) struct Ahead(#[expect(dead_code, reason = "it is held")] Option<OwnedSemaphorePermit>);

impl Default for Answers {
    fn default() -> Self {
        Self {
            packings: WorkLimit::packings(),
            ahead: Arc::new(Semaphore::new(AHEAD_MAX)),
        }
    }
}

impl Packing {
    /// Runs what packs the next frame, on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        pack: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self {
            Self::Alone => blocking::run_unless_gone(pack).await,
            Self::InTurn(answers, asker) => answers.packings.run_always(asker, pack).await,
        }
    }

    /// Returns permission to pack one batch ahead, if there is room.
    pub(crate) fn ahead(&self) -> Option<Ahead> {
        match self {
            Self::Alone => Some(Ahead(None)),
            Self::InTurn(answers, _) => {
                let permit = answers.ahead.clone().try_acquire_owned().ok()?;
                Some(Ahead(Some(permit)))
            }
        }
    }
}
