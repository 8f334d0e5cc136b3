//! Request authentication, for connections that do not prove keys.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::proof::{
    Answering, Claim, Epoch, NonceMemory, Proved, read_request, replayed, stale,
};
use eidetica_proto::{ErrorCode, FrameStream, WireError};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::platform::blocking;
use crate::platform::clock::WallClock;
use crate::server::refused::store_failed;
use crate::store::{SharedStore, Store, Taken};

/// Authenticates requests and signs answers, over connections that prove no keys.
pub(crate) struct RequestAuth {
    key: SecretKey,
    /// That of the store's servers, if several share it.
    epoch: RwLock<Epoch>,
    store: Arc<dyn Store>,
    nonces: Mutex<NonceMemory>,
    /// The wall clock at the start. Time advances monotonically from here, so that setting the wall
    /// clock makes no request stale or fresh.
    began_ms: u64,
    began: Instant,
}

impl RequestAuth {
    /// Starts an epoch, which must be random and differ from every earlier one; or goes on in that of
    /// the servers that share the store.
    pub(crate) fn new(
        key: SecretKey,
        epoch: Epoch,
        clock: &WallClock,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            key,
            epoch: RwLock::new(epoch),
            store,
            nonces: Mutex::default(),
            began_ms: clock.now_ms(),
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
        *self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and checks the proof before the header of a request.
    ///
    /// A failed check is an inner error, because its answer is signed as well.
    pub(crate) async fn read(
        self: &Arc<Self>,
        proof: Bytes,
        header: Bytes,
    ) -> Result<(Proof, Result<Option<PublicKey>, WireError>), WireError> {
        let (answering, claim) = read_request(proof, header)?;
        let checked = match self.store.shared() {
            None => self.check(&claim),
            Some(_) => self.check_shared(&claim).await,
        };
        Ok((Proof(answering), checked))
    }

    /// Checks a claim where other servers accept the same requests.
    async fn check_shared(self: &Arc<Self>, claim: &Claim) -> Result<Option<PublicKey>, WireError> {
        let mut epoch = self.epoch();
        let mut checked = claim.check(&self.key(), epoch, self.now_ms());
        if matches!(&checked, Err(error) if error.code == ErrorCode::StaleProof) {
            // Another server may have begun an epoch.
            let auth = self.clone();
            let present = blocking::run(move || auth.shared().epoch()).await;
            let present = present.map_err(|error| store_failed(&error))?;
            if present != epoch {
                self.set_epoch(present);
                epoch = present;
                checked = claim.check(&self.key(), epoch, self.now_ms());
            }
        }
        let Some(proved) = checked? else {
            return Ok(None);
        };
        let auth = self.clone();
        blocking::run(move || auth.take_shared(epoch, proved)).await
    }

    fn shared(&self) -> &dyn SharedStore {
        self.store.shared().expect("it is either shared or not")
    }

    fn set_epoch(&self, epoch: Epoch) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    fn take_shared(&self, epoch: Epoch, proved: Proved) -> Result<Option<PublicKey>, WireError> {
        match self
            .shared()
            .take_proof(epoch, &proved.to_bytes(), proved.made_ms())
        {
            Ok(Taken::First) => Ok(Some(proved.key())),
            Ok(Taken::Replay) => Err(replayed()),
            Ok(Taken::Stale(present)) => {
                self.set_epoch(present);
                Err(stale())
            }
            Err(error) => Err(store_failed(&error)),
        }
    }

    fn check(&self, claim: &Claim) -> Result<Option<PublicKey>, WireError> {
        let now_ms = self.now_ms();
        let proved = claim.check(&self.key(), self.epoch(), now_ms)?;
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
            let proof = proof
                .0
                .prove(&auth.key, auth.epoch(), auth.now_ms(), &header);
            let first = proof.into_iter().chain([header]).map(Ok);
            Box::pin(stream::iter(first.collect::<Vec<_>>()).chain(answer)) as FrameStream
        };
        Box::pin(stream::once(begin).flatten())
    }
}

/// What the proof of the answer must cover.
pub(crate) struct Proof(Answering);
