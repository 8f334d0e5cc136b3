//! Receiving entries from a peer: the loop that a pull, a push and a watch share.

use eidetica_dag::{AppendOutcome, TreeId};
use eidetica_proto::{EntryReceiver, PeerFault, ReceiveStep, Received, SyncFault, TransportError};
use futures::{Stream, StreamExt};
use tokio::time::{Duration, Instant};

use crate::store::StoreError;
use crate::store::append_worker::AppendWorker;
use crate::transport::frame_streams::Arrived;

/// What decides how entries that arrive are stored: one [`EntryReceiver`], or several that share a
/// stream of parts. The methods are those of [`EntryReceiver`].
pub(crate) trait Receive {
    /// What the stream carries.
    type Part;

    fn poll_step(&mut self, now_ms: u64) -> ReceiveStep;

    fn poll_wake(&self) -> Option<u64>;

    fn handle_part(
        &mut self,
        part: Self::Part,
        frame_bytes: usize,
        now_ms: u64,
    ) -> Result<(), SyncFault>;

    fn handle_appended(&mut self, tree: TreeId, outcome: AppendOutcome) -> Result<(), SyncFault>;

    fn handle_end(&mut self) -> Result<(), SyncFault>;

    fn handle_break(&mut self);
}

impl Receive for EntryReceiver {
    type Part = Received;

    fn poll_step(&mut self, now_ms: u64) -> ReceiveStep {
        EntryReceiver::poll_step(self, now_ms)
    }

    fn poll_wake(&self) -> Option<u64> {
        EntryReceiver::poll_wake(self)
    }

    fn handle_part(
        &mut self,
        part: Received,
        frame_bytes: usize,
        now_ms: u64,
    ) -> Result<(), SyncFault> {
        EntryReceiver::handle_part(self, part, frame_bytes, now_ms)
    }

    fn handle_appended(&mut self, _: TreeId, outcome: AppendOutcome) -> Result<(), SyncFault> {
        Ok(EntryReceiver::handle_appended(self, outcome)?)
    }

    fn handle_end(&mut self) -> Result<(), SyncFault> {
        Ok(EntryReceiver::handle_end(self)?)
    }

    fn handle_break(&mut self) {
        EntryReceiver::handle_break(self);
    }
}

/// Why receiving ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The connection broke.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The sender gave up or broke the protocol.
    #[error(transparent)]
    Fault(#[from] SyncFault),
    /// The store here failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PeerFault> for ReceiveError {
    fn from(fault: PeerFault) -> Self {
        Self::Fault(fault.into())
    }
}

/// Carries out what a machine says: reads parts, and stores one step while the next arrives.
pub(crate) struct ReceiveDriver {
    worker: AppendWorker,
    /// The zero of the machine's clock.
    began: Instant,
}

impl ReceiveDriver {
    /// Makes a driver that stores with `worker`.
    pub(crate) fn new(worker: AppendWorker) -> Self {
        Self {
            worker,
            began: Instant::now(),
        }
    }

    /// Receives parts until the machine is done and the stream has ended, and calls `observe` after
    /// each step. What arrives before a fault or a cut and can be stored is stored.
    pub(crate) async fn run<M: Receive>(
        &mut self,
        machine: &mut M,
        mut parts: impl Stream<Item = Arrived<M::Part>> + Unpin,
        mut observe: impl FnMut(&M),
    ) -> Result<(), ReceiveError> {
        let received = self.receive(machine, &mut parts, &mut observe).await;
        if !matches!(received, Ok(()) | Err(ReceiveError::Store(_))) {
            machine.handle_break();
            self.drain(machine).await;
            observe(machine);
        }
        received
    }

    async fn receive<M: Receive>(
        &mut self,
        machine: &mut M,
        parts: &mut (impl Stream<Item = Arrived<M::Part>> + Unpin),
        observe: &mut impl FnMut(&M),
    ) -> Result<(), ReceiveError> {
        loop {
            observe(machine);
            match machine.poll_step(self.now_ms()) {
                ReceiveStep::ReceivePart => {
                    let wake = self.wake_up(machine.poll_wake());
                    let is_appending = self.worker.is_busy();
                    tokio::select! {
                        biased;
                        // The worker is to have its next step before more is taken.
                        outcome = self.worker.outcome(), if is_appending => {
                            self.take_outcome(machine, outcome)?;
                        }
                        part = parts.next() => self.take_part(machine, part)?,
                        () = wake => {}
                    }
                }
                ReceiveStep::Append { tree, entries } => self.worker.begin(tree, entries),
                ReceiveStep::AwaitAppend => {
                    let outcome = self.worker.outcome().await;
                    self.take_outcome(machine, outcome)?;
                }
                // A connection whose response was read to its end can be used again.
                ReceiveStep::Done => match parts.next().await {
                    None => return Ok(()),
                    extra => self.take_part(machine, extra)?,
                },
            }
        }
    }

    /// Stores the remaining entries after a fault or a cut. Further faults tell nothing more.
    async fn drain<M: Receive>(&mut self, machine: &mut M) {
        loop {
            match machine.poll_step(self.now_ms()) {
                ReceiveStep::Append { tree, entries } => self.worker.begin(tree, entries),
                ReceiveStep::AwaitAppend => {
                    let outcome = self.worker.outcome().await;
                    let taken = self.take_outcome(machine, outcome);
                    if let Err(ReceiveError::Store(error)) = taken {
                        tracing::error!(%error, "cannot store what arrived before a connection broke");
                        return;
                    }
                }
                ReceiveStep::ReceivePart | ReceiveStep::Done => return,
            }
        }
    }

    fn take_part<M: Receive>(
        &self,
        machine: &mut M,
        part: Option<Arrived<M::Part>>,
    ) -> Result<(), ReceiveError> {
        match part.transpose()? {
            Some((part, bytes)) => Ok(machine.handle_part(part?, bytes, self.now_ms())?),
            None => Ok(machine.handle_end()?),
        }
    }

    fn take_outcome<M: Receive>(
        &self,
        machine: &mut M,
        outcome: Result<(TreeId, AppendOutcome), StoreError>,
    ) -> Result<(), ReceiveError> {
        let (tree, outcome) = outcome?;
        Ok(machine.handle_appended(tree, outcome)?)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Waits until the machine has something else to do although nothing happens.
    fn wake_up(&self, wake_ms: Option<u64>) -> impl Future<Output = ()> + use<> {
        let wake = wake_ms.map(|ms| self.began + Duration::from_millis(ms));
        async move {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        }
    }
}
