//! Who asks: where the connection does not prove it, the request must.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::proof::{Answering, Claim, Epoch, NonceMemory, read_request};
use eidetica_proto::{FrameStream, WireError};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::platform::clock::wall_clock_ms;

/// Checks who asks and proves who answers, over connections that prove neither.
pub(crate) struct RequestAuth {
    key: SecretKey,
    epoch: Epoch,
    nonces: Mutex<NonceMemory>,
    /// The time by which askers go. It begins with the wall clock and never jumps: whoever sets that
    /// does not make requests stale or young.
    began_ms: u64,
    began: Instant,
}

impl RequestAuth {
    /// Begins an epoch, which must be random.
    pub(crate) fn new(key: SecretKey, epoch: Epoch) -> Self {
        Self {
            key,
            epoch,
            nonces: Mutex::default(),
            began_ms: wall_clock_ms(),
            began: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_ms.saturating_add(elapsed)
    }

    /// Returns the key by which this node is known.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Reads what stands before the header of a request. Who asks is said once it is checked, so
    /// that a refusal is proved as well.
    pub(crate) fn read(
        &self,
        proof: Bytes,
        header: Bytes,
    ) -> Result<(Proof, Result<Option<PublicKey>, WireError>), WireError> {
        let (answering, claim) = read_request(proof, header)?;
        Ok((Proof(answering), self.check(&claim)))
    }

    fn check(&self, claim: &Claim) -> Result<Option<PublicKey>, WireError> {
        let now_ms = self.now_ms();
        let proved = claim.check(&self.key(), self.epoch, now_ms)?;
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |proved| nonces.take(now_ms, proved);
        proved.map(take).transpose()
    }

    /// Puts the proof of who answers before an answer, if the client wants one.
    pub(crate) fn prove(self: &Arc<Self>, proof: Proof, mut answer: FrameStream) -> FrameStream {
        let auth = self.clone();
        let begin = async move {
            let Some(Ok(header)) = answer.next().await else {
                return answer;
            };
            let proof = proof.0.prove(&auth.key, auth.epoch, auth.now_ms(), &header);
            let first = proof.into_iter().chain([header]).map(Ok);
            Box::pin(stream::iter(first.collect::<Vec<_>>()).chain(answer)) as FrameStream
        };
        Box::pin(stream::once(begin).flatten())
    }
}

/// What the answer has to prove.
pub(crate) struct Proof(Answering);
