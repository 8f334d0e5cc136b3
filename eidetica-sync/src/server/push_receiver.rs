//! Receives the entries that a peer sends.

use eidetica_dag::TreeId;
use eidetica_proto::answer::refusal_of;
use eidetica_proto::{EntryReceiver, FrameStream};

use crate::node::event::{Origin, Publisher};
use crate::server::Refused;
use crate::store::append_worker::AppendWorker;
use crate::transport::frame_streams::incoming;
use crate::transport::receive::{ReceiveDriver, ReceiveError};

/// The entries of one request.
pub(crate) struct PushReceiver {
    pub(crate) tree: TreeId,
    /// How many entries the peer announced.
    pub(crate) announced: u32,
    pub(crate) worker: AppendWorker,
    pub(crate) publisher: Publisher,
    /// Where they come from.
    pub(crate) remote: String,
}

impl PushReceiver {
    /// Receives and stores everything. What arrives before a fault or a cut and can be stored is
    /// stored.
    pub(crate) async fn run(self, parts: FrameStream) -> Result<EntryReceiver, Refused> {
        let mut receiver = EntryReceiver::new(self.tree);
        receiver.begin(self.announced);
        let origin = Origin::Pushed(self.remote.clone());
        let mut driver = ReceiveDriver::new(self.worker, self.publisher, origin);
        let received = driver
            .run(&mut receiver, incoming(self.tree, parts), |_| ())
            .await;
        match received {
            Ok(()) => Ok(receiver),
            Err(ReceiveError::Transport(error)) => {
                let from = &self.remote;
                tracing::debug!(%from, %error, "the connection broke while a peer sent entries");
                Err(Refused::Gone)
            }
            Err(ReceiveError::Fault(fault)) => Err(refusal_of(&fault).into()),
            Err(ReceiveError::Store(error)) => Err(error.into()),
        }
    }
}
