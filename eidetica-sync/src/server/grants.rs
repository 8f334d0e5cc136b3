//! Takes back a grant that this store has lost, from the key that it was given to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eidetica_dag::{PublicKey, UnprovenEntries};
use eidetica_proto::grant::{GRANT_BYTES_MAX, GRANT_ENTRIES_MAX, is_shown};
use eidetica_proto::message::SendEntries;
use eidetica_proto::turns::Asker;
use eidetica_proto::{ErrorCode, FrameStream, Received};
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::server::pace::busy;
use crate::server::refused::Refused;
use crate::server::work_limit::WorkLimit;
use crate::store::Store;

/// How many callers are heard at a time. Each sends up to a megabyte before anything is known of it,
/// and only a member of a tree that was put back to a backup has a reason to.
const HEARD_MAX: usize = 4;

/// How long one may take to send it, and when one that found no room is to come again.
const HEARING: Duration = Duration::from_secs(5);

/// Hears callers that may not push.
pub(crate) struct Grants {
    pub(crate) store: Arc<dyn Store>,
    heard: Semaphore,
    work: WorkLimit,
}

impl Grants {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            heard: Semaphore::new(HEARD_MAX),
            work: WorkLimit::joins(),
        }
    }

    /// Reads what a caller sends whose push is refused with `refused`. Returns the frames, to be
    /// stored, if they show that an admin gave `key` a role.
    ///
    /// # Errors
    /// `refused`, whatever is wrong with them and whether the tree is here or not, or
    /// [`ErrorCode::Busy`].
    pub(crate) async fn hear(
        &self,
        asker: &Asker,
        key: PublicKey,
        send: &SendEntries,
        frames: FrameStream,
        refused: Refused,
    ) -> Result<Vec<Bytes>, Refused> {
        let is_absent =
            matches!(&refused, Refused::With(error) if error.code == ErrorCode::NotFound);
        if !is_absent || send.entries > GRANT_ENTRIES_MAX {
            return Err(refused);
        }
        let _heard = self.heard.try_acquire().map_err(|_| busy(HEARING))?;
        let Ok(Some(frames)) = timeout(HEARING, collect(frames)).await else {
            return Err(refused);
        };
        let (store, tree) = (self.store.clone(), send.tree);
        let judge = move || {
            let mut unproven = UnprovenEntries::default();
            let mut entries = Vec::new();
            for frame in &frames {
                if let Ok(Received::Entries(batch)) = Received::from_frame(tree, frame) {
                    entries.extend(unproven.handle_batch(batch));
                }
            }
            entries.extend(unproven.take_proven());
            let is_shown = is_shown(&*store.snapshot(tree)?, &key, &entries)?;
            Ok::<_, Refused>(is_shown.then_some(frames))
        };
        let shown = self.work.run(asker, judge).await??;
        shown.ok_or(refused)
    }
}

/// Collects the frames of a short message; `None` if it is longer or cut.
async fn collect(mut frames: FrameStream) -> Option<Vec<Bytes>> {
    let (mut collected, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = frames.next().await {
        let frame = frame.ok()?;
        bytes += frame.len();
        if bytes > GRANT_BYTES_MAX {
            return None;
        }
        collected.push(frame);
    }
    Some(collected)
}
