//! One exchange with one peer, with both sides knowing who the other is.
//!
//! Where the connection proves keys there is nothing to do. Elsewhere requests are signed and
//! answers checked, as [`eidetica_proto::proof`] describes. What that needs to know of a peer is
//! learned by greeting it once, and kept in the store.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::message::{Hello, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::proof::{KnownPeer, ProofFault, Proving, REQUEST_AHEAD_MAX_MS};
use eidetica_proto::{
    Address, ErrorCode, FrameStream, PROTOCOL_VERSION, Response, SyncTransport, TransportError,
    TransportErrorKind, WireError,
};
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};

use crate::platform::blocking;
use crate::platform::clock::wall_clock_ms;
use crate::platform::random::Random;
use crate::store::{Store, StoreError};

/// How many acquaintances are kept at hand; the store has them all. One takes 100 bytes and its
/// address.
const AT_HAND_MAX: usize = 1_024;

/// How much a clock may have drifted before it is written down anew: well within what an answerer
/// tolerates.
const DRIFT_MAX_MS: u64 = REQUEST_AHEAD_MAX_MS / 2;

/// Asks peers.
pub(crate) struct PeerClient {
    key: SecretKey,
    random: Random,
    store: Arc<dyn Store>,
    at_hand: Mutex<HashMap<Address, KnownPeer>>,
}

/// What a peer answers.
pub(crate) struct Answer {
    /// The peer's key, which it has proved.
    pub(crate) peer: Option<PublicKey>,
    /// The frames of the answer, beginning with its header.
    pub(crate) frames: FrameStream,
}

/// Whom to ask, and where.
pub(crate) struct Target<'a> {
    pub(crate) transport: &'a dyn SyncTransport,
    pub(crate) address: &'a Address,
    /// Who has to be there, if that is known.
    pub(crate) peer: Option<PublicKey>,
}

impl PeerClient {
    pub(crate) fn new(key: SecretKey, random: Random, store: Arc<dyn Store>) -> Self {
        Self {
            key,
            random,
            store,
            at_hand: Mutex::default(),
        }
    }

    /// Sends a header, and the parts behind it if there are any.
    ///
    /// # Errors
    /// Those of the transport, and [`TransportErrorKind::WrongPeer`] if somebody else answers.
    pub(crate) async fn exchange(
        &self,
        at: Target<'_>,
        header: Bytes,
        parts: Option<FrameStream>,
    ) -> Result<Answer, TransportError> {
        let parts = Parts::new(parts);
        if at.transport.proves_keys() {
            let request = parts.behind(vec![header]);
            let response = at.transport.exchange(at.address, request).await?;
            return match (at.peer, response.peer) {
                (Some(wanted), Some(proved)) if wanted != proved => {
                    Err(wrong_peer(at.address, &wanted, &proved))
                }
                (_, peer) => Ok(Answer {
                    peer,
                    frames: response.frames,
                }),
            };
        }
        let remembered = self.remembered(at.address).await;
        let wanted = at.peer.or(remembered.map(|known| known.key));
        let known = remembered.filter(|known| Some(known.key) == wanted);
        let mut known = match known {
            Some(known) => known,
            None => self.greet(&at, wanted).await?,
        };
        let mut is_second = false;
        loop {
            let nonce = self.random.bytes();
            let now_ms = wall_clock_ms();
            let proving = Proving::sign(&self.key, &known, now_ms, nonce, header.clone());
            let request = parts.behind(proving.frames().into());
            let response = at.transport.exchange(at.address, request).await?;
            let (met, header, frames) = self.check(&at, &proving, response).await?;
            // The peer has started anew, or a clock was set: what it says of itself now is right.
            if is_stale(&header) && !is_second && !parts.have_begun() {
                is_second = true;
                known = met;
                continue;
            }
            return Ok(Answer {
                peer: Some(met.key),
                frames: Box::pin(stream::iter([Ok(header)]).chain(frames)),
            });
        }
    }

    /// Asks a peer who it is.
    async fn greet(
        &self,
        at: &Target<'_>,
        wanted: Option<PublicKey>,
    ) -> Result<KnownPeer, TransportError> {
        let hello = Hello {
            key: self.key.public(),
            versions: vec![PROTOCOL_VERSION],
            addresses: Vec::new(),
        };
        let header = RequestHeader::new(Request::Hello(hello)).encode();
        let proving = Proving::challenge(self.random.bytes(), wanted, header);
        let request = Parts::new(None).behind(proving.frames().into());
        let response = at.transport.exchange(at.address, request).await?;
        let (met, header, _) = self.check(at, &proving, response).await?;
        match ResponseHeader::decode(&header).map(|header| header.reply) {
            Ok(Ok(Reply::Hello(hello))) if hello.key == met.key => Ok(met),
            Ok(Err(refusal)) => Err(mismatch(at.address, &refusal.to_string())),
            Ok(Ok(_)) | Err(_) => Err(mismatch(at.address, "it does not return a greeting")),
        }
    }

    /// Checks who answers, and remembers it.
    async fn check(
        &self,
        at: &Target<'_>,
        proving: &Proving,
        response: Response,
    ) -> Result<(KnownPeer, Bytes, FrameStream), TransportError> {
        let Response { mut frames, .. } = response;
        let first = frames.next().await.transpose()?.unwrap_or_default();
        let header = match frames.next().await.transpose()? {
            Some(header) => header,
            None => {
                // Whoever cannot read the proof cannot answer it.
                let refused = ResponseHeader::decode(&first).map(|header| header.reply);
                return Err(match refused {
                    Ok(Err(refusal)) => mismatch(at.address, &refusal.to_string()),
                    Ok(Ok(_)) | Err(_) => mismatch(at.address, "it does not prove who it is"),
                });
            }
        };
        let met = proving
            .check(&first, &header, wall_clock_ms())
            .map_err(|fault| match (fault, at.peer) {
                (ProofFault::SomebodyElse(key), Some(wanted)) => {
                    wrong_peer(at.address, &wanted, &key)
                }
                (ProofFault::SomebodyElse(key), None) => changed_peer(at.address, &key),
                (ProofFault::BadSignature, _) => {
                    let text = format!("{}: {fault}", at.address);
                    TransportError::new(TransportErrorKind::WrongPeer, text)
                }
                (ProofFault::NotAProof, _) => mismatch(at.address, &fault.to_string()),
            })?;
        let pinned = self.remembered(at.address).await;
        // A ticket says who is there for once; who is believed without one is not its business.
        if pinned.is_none_or(|pinned| pinned.key == met.key) {
            self.remember(at.address, met).await;
        }
        Ok((met, header, frames))
    }

    async fn remembered(&self, address: &Address) -> Option<KnownPeer> {
        if let Some(known) = lock(&self.at_hand).get(address) {
            return Some(*known);
        }
        let (store, key) = (self.store.clone(), meta_key(address));
        let read = blocking::run(move || store.get(&key)).await;
        let bytes = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read whom an address led to; the peer is greeted anew");
            None
        })?;
        let (_, known): (String, KnownPeer) = postcard::from_bytes(&bytes).ok()?;
        self.keep_at_hand(address, known);
        Some(known)
    }

    async fn remember(&self, address: &Address, met: KnownPeer) {
        let before = lock(&self.at_hand).get(address).copied();
        let is_known = before.is_some_and(|before| {
            let drift = before.clock_ahead_ms.abs_diff(met.clock_ahead_ms);
            (before.key, before.epoch) == (met.key, met.epoch) && drift <= DRIFT_MAX_MS
        });
        if is_known {
            return;
        }
        self.keep_at_hand(address, met);
        let (store, key) = (self.store.clone(), meta_key(address));
        let value = postcard::to_stdvec(&(address.as_str(), met)).expect("a vector takes all");
        if let Err(error) = blocking::run(move || store.put(&key, Some(&value))).await {
            tracing::warn!(%error, "cannot write down whom an address led to");
        }
    }

    fn keep_at_hand(&self, address: &Address, known: KnownPeer) {
        let mut at_hand = lock(&self.at_hand);
        if at_hand.len() >= AT_HAND_MAX {
            at_hand.clear();
        }
        at_hand.insert(address.clone(), known);
    }

    /// Forgets who was at an address; whoever is there next is believed.
    pub(crate) async fn forget(&self, address: &Address) -> Result<(), StoreError> {
        lock(&self.at_hand).remove(address);
        let (store, key) = (self.store.clone(), meta_key(address));
        blocking::run(move || store.put(&key, None)).await
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

/// Addresses are longer than keys of metadata may be.
fn meta_key(address: &Address) -> String {
    let hash: [u8; 32] = Sha256::digest(address.as_str()).into();
    format!("acquaintance/{}", HEXLOWER.encode(&hash))
}

fn wrong_peer(address: &Address, wanted: &PublicKey, proved: &PublicKey) -> TransportError {
    let text = format!("{address}: it is {proved}, and not {wanted} as expected");
    TransportError::new(TransportErrorKind::WrongPeer, text)
}

fn changed_peer(address: &Address, proved: &PublicKey) -> TransportError {
    let text = format!(
        "{address}: it is {proved} now, and was somebody else before; if that is right, forget who \
         was there"
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

/// The parts of a request, which can be sent again as long as nobody has taken one of them.
struct Parts(Option<Arc<Mutex<Lending>>>);

struct Lending {
    parts: FrameStream,
    /// Which of the requests has them.
    loan: u32,
    begun: bool,
}

impl Parts {
    fn new(parts: Option<FrameStream>) -> Self {
        let lending = |parts| Lending {
            parts,
            loan: 0,
            begun: false,
        };
        Self(parts.map(|parts| Arc::new(Mutex::new(lending(parts)))))
    }

    /// The parts behind these frames. Whoever had them before gets no more of them.
    fn behind(&self, frames: Vec<Bytes>) -> FrameStream {
        let first = stream::iter(frames.into_iter().map(Ok));
        let Some(lending) = &self.0 else {
            return Box::pin(first);
        };
        let loan = {
            let mut lending = lock(lending);
            lending.loan += 1;
            lending.loan
        };
        let lending = lending.clone();
        Box::pin(first.chain(Loan { lending, loan }))
    }

    fn have_begun(&self) -> bool {
        (self.0.as_ref()).is_some_and(|lending| lock(lending).begun)
    }
}

struct Loan {
    lending: Arc<Mutex<Lending>>,
    loan: u32,
}

impl Stream for Loan {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut lending = lock(&self.lending);
        if lending.loan != self.loan {
            let text = "the request was refused and is made once more";
            return Poll::Ready(Some(Err(TransportError::connection_lost(text))));
        }
        let next = lending.parts.as_mut().poll_next(context);
        lending.begun |= next.is_ready();
        next
    }
}
