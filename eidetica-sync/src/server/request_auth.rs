//! Request authentication, for connections that do not prove keys.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::proof::{Answering, Claim, Epoch, NonceMemory, read_request};
use eidetica_proto::{FrameStream, WireError};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::platform::clock::wall_clock_ms;

/// Authenticates requests and signs answers, over connections that prove no keys.
pub(crate) struct RequestAuth {
    key: SecretKey,
    epoch: Epoch,
    nonces: Mutex<NonceMemory>,
    /// The wall clock at the start. Time advances monotonically from here, so that setting the wall
    /// clock makes no request stale or fresh.
    began_ms: u64,
    began: Instant,
}

impl RequestAuth {
    /// Starts an epoch, which must be random and differ from every earlier one.
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

    /// Returns the public key of this node.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Returns which start of the node this is.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Reads and checks the proof before the header of a request.
    ///
    /// A failed check is an inner error, because its answer is signed as well.
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

    /// Prepends this node's proof to an answer, if the client asked for one.
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

/// What the proof of the answer must cover.
pub(crate) struct Proof(Answering);
