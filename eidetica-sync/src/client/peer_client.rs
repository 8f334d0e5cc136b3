//! One exchange with one peer, with both sides knowing who the other is.
//!
//! Where the connection proves keys there is nothing to do. Elsewhere requests are signed and
//! answers checked, as [`eidetica_proto::proof`] describes. What the client has to know of a peer
//! for that it learns by greeting the peer once, and keeps in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::body_limit::BodyLimit;
use eidetica_proto::message::{Hello, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::proof::{KnownPeer, ProofFault, Proving, REQUEST_AHEAD_MAX_MS};
use eidetica_proto::{
    Address, ErrorCode, FrameStream, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Response,
    SyncTransport, TransportError, TransportErrorKind, WireError,
};
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};

use crate::platform::blocking;
use crate::platform::clock::WallClock;
use crate::platform::random::Random;
use crate::store::{Store, StoreError};
use crate::transport::frame_streams::{Meter, OutgoingMessage};

/// How many known peers are kept in memory; the store has them all. One takes 100 bytes and its
/// address.
const CACHED_PEERS_MAX: usize = 1_024;

/// How much a peer's clock may have drifted before it is stored again: well within what a server
/// tolerates.
const DRIFT_MAX_MS: u64 = REQUEST_AHEAD_MAX_MS / 2;

/// Where the keys of peers at addresses are stored.
const ACQUAINTANCE: &str = "acquaintance";

/// Where the limits of requests at addresses are stored.
const BODY_LIMIT: &str = "body-limit";

/// Sends requests to peers.
pub(crate) struct PeerClient {
    key: SecretKey,
    random: Random,
    clock: WallClock,
    store: Arc<dyn Store>,
    cached: Mutex<HashMap<Address, KnownPeer>>,
}

/// What a peer answers.
pub(crate) struct Answer {
    /// The peer's key, which it has proved.
    pub(crate) peer: PublicKey,
    /// The frames of the answer, beginning with its header.
    pub(crate) frames: FrameStream,
    /// What is sent of the entries of the request.
    pub(crate) sent: Arc<Meter>,
}

/// Whom to ask, and where.
pub(crate) struct Target<'a> {
    pub(crate) transport: &'a dyn SyncTransport,
    pub(crate) address: &'a Address,
    /// Who has to be there, if that is known.
    pub(crate) peer: Option<PublicKey>,
}

impl PeerClient {
    /// Returns the key of this node.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    pub(crate) fn new(
        key: SecretKey,
        random: Random,
        clock: WallClock,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            key,
            random,
            clock,
            store,
            cached: Mutex::default(),
        }
    }

    /// Sends a request.
    ///
    /// Where the peer finds the proof stale, because the peer has restarted or a clock was set, the
    /// request is made once more.
    ///
    /// # Errors
    /// Those of the transport, and [`TransportErrorKind::WrongPeer`] if another peer answers.
    pub(crate) async fn exchange(
        &self,
        at: Target<'_>,
        request: &OutgoingMessage,
    ) -> Result<Answer, TransportError> {
        if at.transport.proves_keys() {
            let (frames, sent) = request.frames_after(vec![request.header.clone()]);
            let response = at.transport.exchange(at.address, frames).await?;
            let unproved = || mismatch(at.address, "the connection does not prove the peer's key");
            let peer = response.peer.ok_or_else(unproved)?;
            return match at.peer {
                Some(wanted) if wanted != peer => Err(wrong_peer(at.address, &wanted, &peer)),
                _ => Ok(Answer {
                    peer,
                    frames: response.frames,
                    sent,
                }),
            };
        }
        let remembered = self.remembered(at.address).await;
        let wanted = at.peer.or(remembered.map(|known| known.key));
        let known = remembered.filter(|known| Some(known.key) == wanted);
        let known = match known {
            Some(known) => known,
            None => self.greet(&at, wanted).await?.0,
        };
        let (met, is_stale, answer) = self.exchange_signed(&at, &known, request).await?;
        if !is_stale {
            return Ok(answer);
        }
        // This ends the first request before the second begins.
        drop(answer);
        // What the peer says about itself now is right.
        let (_, _, answer) = self.exchange_signed(&at, &met, request).await?;
        Ok(answer)
    }

    /// Signs a request for a known peer and sends it. Returns what the peer says about itself,
    /// whether it found the proof stale, and its answer.
    async fn exchange_signed(
        &self,
        at: &Target<'_>,
        known: &KnownPeer,
        request: &OutgoingMessage,
    ) -> Result<(KnownPeer, bool, Answer), TransportError> {
        let (nonce, now_ms) = (self.random.bytes(), self.clock.now_ms());
        let proving = Proving::sign(&self.key, known, now_ms, nonce, request.header.clone());
        let (frames, sent) = request.frames_after(proving.frames().into());
        let response = at.transport.exchange(at.address, frames).await?;
        let (met, header, frames) = self.check(at, &proving, response).await?;
        let is_stale = is_stale(&header);
        let answer = Answer {
            peer: met.key,
            frames: Box::pin(stream::iter([Ok(header)]).chain(frames)),
            sent,
        };
        Ok((met, is_stale, answer))
    }

    /// Asks a peer who it is. Returns its key and its own addresses.
    ///
    /// # Errors
    /// As [`PeerClient::exchange`].
    pub(crate) async fn hello(
        &self,
        at: Target<'_>,
    ) -> Result<(PublicKey, Vec<Address>), TransportError> {
        if !at.transport.proves_keys() {
            let (met, addresses) = self.greet(&at, at.peer).await?;
            return Ok((met.key, addresses));
        }
        let address = at.address;
        let request = OutgoingMessage::header_only(self.hello_header(Vec::new()));
        let mut answer = self.exchange(at, &request).await?;
        let header = answer.frames.next().await.transpose()?.unwrap_or_default();
        let hello = read_hello(address, &header, answer.peer)?;
        let _end = answer.frames.next().await;
        Ok((answer.peer, hello.addresses))
    }

    /// Encodes a greeting that tells these addresses of this node.
    pub(crate) fn hello_header(&self, addresses: Vec<Address>) -> Bytes {
        let hello = Hello {
            key: self.key.public(),
            versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
            addresses,
        };
        RequestHeader::new(Request::Hello(hello)).encode()
    }

    /// Greets a peer over a connection that proves no keys.
    async fn greet(
        &self,
        at: &Target<'_>,
        wanted: Option<PublicKey>,
    ) -> Result<(KnownPeer, Vec<Address>), TransportError> {
        let proving =
            Proving::challenge(self.random.bytes(), wanted, self.hello_header(Vec::new()));
        let request = Box::pin(stream::iter(proving.frames().map(Ok)));
        let response = at.transport.exchange(at.address, request).await?;
        let (met, header, _) = self.check(at, &proving, response).await?;
        let hello = read_hello(at.address, &header, met.key)?;
        Ok((met, hello.addresses))
    }

    /// Checks who answers, and remembers it.
    async fn check(
        &self,
        at: &Target<'_>,
        proving: &Proving,
        response: Response,
    ) -> Result<(KnownPeer, Bytes, FrameStream), TransportError> {
        let Response { mut frames, .. } = response;
        // A peer that answers nothing says nothing about its protocol.
        let Some(first) = frames.next().await.transpose()? else {
            let text = format!("{}: the answer is empty", at.address);
            return Err(TransportError::connection_lost(text));
        };
        let header = match frames.next().await.transpose()? {
            Some(header) => header,
            None => {
                // A peer that cannot read the proof cannot answer it.
                let refused = ResponseHeader::decode(&first).map(|header| header.reply);
                return Err(match refused {
                    Ok(Err(refusal)) => mismatch(at.address, &refusal.to_string()),
                    Ok(Ok(_)) | Err(_) => mismatch(at.address, "the peer does not prove its key"),
                });
            }
        };
        let pinned = self.remembered(at.address).await;
        let is_pinned = |key| pinned.is_some_and(|known| known.key == key);
        let met = proving
            .check(&first, &header, self.clock.now_ms())
            .map_err(|fault| match (fault, at.peer) {
                (ProofFault::OtherKey(key), Some(wanted)) if !is_pinned(wanted) => {
                    wrong_peer(at.address, &wanted, &key)
                }
                (ProofFault::OtherKey(key), _) => changed_peer(at.address, &key),
                (ProofFault::BadSignature, _) => {
                    let text = format!("{}: {fault}", at.address);
                    TransportError::new(TransportErrorKind::WrongPeer, text)
                }
                (ProofFault::NotAProof, _) => mismatch(at.address, &fault.to_string()),
            })?;
        // A ticket names a peer for one exchange; it does not change which peer is trusted without.
        if pinned.is_none_or(|pinned| pinned.key == met.key) {
            self.remember(at.address, met).await;
        }
        Ok((met, header, frames))
    }

    /// Returns the key that is pinned to an address.
    pub(crate) async fn pinned(&self, address: &Address) -> Option<PublicKey> {
        self.remembered(address).await.map(|known| known.key)
    }

    async fn remembered(&self, address: &Address) -> Option<KnownPeer> {
        if let Some(known) = lock(&self.cached).get(address) {
            return Some(*known);
        }
        let (store, key) = (self.store.clone(), meta_key(ACQUAINTANCE, address));
        let read = blocking::run(move || store.get(&key)).await;
        let bytes = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read which peer an address leads to; greeting the peer again");
            None
        })?;
        let (_, known): (String, KnownPeer) = postcard::from_bytes(&bytes).ok()?;
        self.cache(address, known);
        Some(known)
    }

    async fn remember(&self, address: &Address, met: KnownPeer) {
        let before = lock(&self.cached).get(address).copied();
        let is_known = before.is_some_and(|before| {
            let drift = before.clock_ahead_ms.abs_diff(met.clock_ahead_ms);
            (before.key, before.epoch) == (met.key, met.epoch) && drift <= DRIFT_MAX_MS
        });
        if is_known {
            return;
        }
        self.cache(address, met);
        let (store, key) = (self.store.clone(), meta_key(ACQUAINTANCE, address));
        let value = postcard::to_stdvec(&(address.as_str(), met)).expect("a vector takes all");
        if let Err(error) = blocking::run(move || store.put(&key, Some(&value))).await {
            tracing::warn!(%error, "cannot store which peer an address leads to");
        }
    }

    fn cache(&self, address: &Address, known: KnownPeer) {
        let mut cached = lock(&self.cached);
        if cached.len() >= CACHED_PEERS_MAX {
            cached.clear();
        }
        cached.insert(address.clone(), known);
    }

    /// Forgets which peer was at an address. The next peer that answers there will be trusted.
    pub(crate) async fn forget(&self, address: &Address) -> Result<(), StoreError> {
        lock(&self.cached).remove(address);
        let keys = [ACQUAINTANCE, BODY_LIMIT].map(|kind| meta_key(kind, address));
        let store = self.store.clone();
        blocking::run(move || keys.iter().try_for_each(|key| store.put(key, None))).await
    }

    /// Returns how large a request with entries may be at an address, as far as it is known.
    pub(crate) async fn body_limit(&self, address: &Address) -> BodyLimit {
        let (store, key) = (self.store.clone(), meta_key(BODY_LIMIT, address));
        let read = blocking::run(move || store.get(&key)).await;
        let bytes = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read how large a request may be; trying a large one");
            None
        });
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        BodyLimit::remembered(bytes.map(u32::from_le_bytes))
    }

    /// Remembers how large a request with entries may be at an address.
    pub(crate) async fn remember_body_limit(&self, address: &Address, limit: BodyLimit) {
        let Some(bytes) = limit.bytes_max() else {
            return;
        };
        let (store, key) = (self.store.clone(), meta_key(BODY_LIMIT, address));
        let put = move || store.put(&key, Some(&bytes.to_le_bytes()));
        if let Err(error) = blocking::run(put).await {
            tracing::warn!(%error, "cannot store how large a request may be");
        }
    }
}

fn read_hello(address: &Address, header: &[u8], key: PublicKey) -> Result<Hello, TransportError> {
    match ResponseHeader::decode(header).map(|header| header.reply) {
        Ok(Ok(Reply::Hello(hello))) if hello.key == key => Ok(hello),
        Ok(Err(refusal)) => Err(mismatch(address, &refusal.to_string())),
        Ok(Ok(_)) | Err(_) => Err(mismatch(address, "the peer does not answer a greeting")),
    }
}

fn is_stale(header: &[u8]) -> bool {
    let reply = ResponseHeader::decode(header).map(|header| header.reply);
    matches!(
        reply,
        Ok(Err(WireError {
            code: ErrorCode::StaleProof,
            ..
        }))
    )
}

/// Returns the key of the metadata about an address, hashed, because addresses are longer than keys
/// may be.
fn meta_key(kind: &str, address: &Address) -> String {
    let hash: [u8; 32] = Sha256::digest(address.as_str()).into();
    format!("{kind}/{}", HEXLOWER.encode(&hash))
}

fn wrong_peer(address: &Address, wanted: &PublicKey, proved: &PublicKey) -> TransportError {
    let text = format!("{address}: the peer there is {proved}, not {wanted} as expected");
    TransportError::new(TransportErrorKind::WrongPeer, text)
}

fn changed_peer(address: &Address, proved: &PublicKey) -> TransportError {
    let text = format!(
        "{address}: the peer there is now {proved} and was another one before; if that is right, \
         forget the peer at this address"
    );
    TransportError::new(TransportErrorKind::WrongPeer, text)
}

fn mismatch(address: &Address, why: &str) -> TransportError {
    let text = format!("{address}: {why}");
    TransportError::new(TransportErrorKind::ProtocolMismatch, text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
