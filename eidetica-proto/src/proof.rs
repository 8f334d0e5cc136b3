//! Who asks and who answers, proved by signatures, where the connection itself proves neither.
//!
//! Over iroh both sides know each other's key before the first frame. Over HTTP neither does, so
//! there both streams of an exchange begin with one more frame:
//!
//! ```text
//! client -> server   RequestProof    header   parts …
//! server -> client   ResponseProof   header   parts …
//! ```
//!
//! The client signs its header for one server, one start of that server, one moment and one
//! nonce. So the request is of no use at another server, at the same one again, or later. The
//! server signs its header together with the header that it answers, so that the answer is of no
//! use to another question. What follows the headers is not signed once more: entries prove
//! themselves, and whatever else is altered there is found by the next sync.
//!
//! A server remembers the nonces of a short time and forgets them when it restarts; therefore
//! each start has its own random **epoch**, and a request that was signed for an earlier one is
//! refused. The client learns the epoch, and by how much the two clocks differ, from the
//! [`ResponseProof`] of any answer: see [`KnownPeer`]. At first contact it learns both, and
//! perhaps the key, by a greeting that it does not sign: [`ClientProof::Challenge`].
//!
//! Signatures do not hide anything. On a plain HTTP connection, all of it can be read on the way.
//!
//! The frame is written in the lowest protocol version that the client speaks; the header after it
//! tells the others.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_dag::{PublicKey, Purpose, SecretKey, Signature};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, WireError};
use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Length of a nonce in bytes: two of them are never the same by chance.
pub const NONCE_BYTES: usize = 16;

/// How old a request may be when it arrives, by the server's clock. A slow connection may hold it
/// up for a while; the longer the time, the more nonces there are to remember.
pub const REQUEST_AGE_MAX_MS: u64 = 60_000;

/// How far in the future a request may have been made, by the server's clock. The client goes by
/// that clock, so this only has to cover what the clocks drift between two requests.
pub const REQUEST_AHEAD_MAX_MS: u64 = 5_000;

/// How many nonces a server remembers, in about 10 MiB. If there are more, the oldest requests are
/// refused early; those of honest clients, which send what they sign at once, only above 26,000 a
/// second come from others, dated ahead as far as is allowed.
pub const NONCES_MAX: usize = 1 << 17;

/// Longest frame before a header, in bytes: longer than any proof, and short enough to keep one for
/// each connection.
pub const PROOF_BYTES_MAX: usize = 256;

/// How many kinds of [`Client`] this version knows.
const CLIENT_PROOF_KINDS: u16 = 3;

/// A number that is used once.
pub type Nonce = [u8; NONCE_BYTES];

/// Names one start of a server: eight random bytes.
pub type Epoch = [u8; 8];

/// The frame before the header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestProof {
    /// The lowest protocol version that the client speaks.
    pub version: u16,
    /// The client's key and its proof, if it has one.
    pub client: ClientProof,
}

/// The client's key and its proof, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientProof {
    /// A client without a key, and it does not matter who answers. The answer has no
    /// [`ResponseProof`].
    Anonymous,
    /// A client without a key, that wants the server to prove who it is.
    Challenge {
        /// Makes the answer one to this request.
        nonce: Nonce,
    },
    /// The holder of this key.
    Signed(Signed),
}

/// A signature over the header that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The client's key.
    pub key: PublicKey,
    /// The server's epoch, as far as the client knows.
    pub epoch: Epoch,
    /// When, in milliseconds since 1970 by the server's clock, as far as the client knows it.
    pub timestamp_ms: u64,
    /// Makes each request another one.
    pub nonce: Nonce,
    /// Over all of these, the server's key, the version and the header.
    pub signature: Signature,
}

/// The frame before the header of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseProof {
    /// The server's key.
    pub key: PublicKey,
    /// The server's epoch.
    pub epoch: Epoch,
    /// When, in milliseconds since 1970, by the server's clock.
    pub now_ms: u64,
    /// Over all of these, the two frames of the request, and the header of the answer.
    pub signature: Signature,
}

/// What a client remembers of a server, to sign requests for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its key.
    pub key: PublicKey,
    /// Its epoch.
    pub epoch: Epoch,
    /// How far its clock is ahead of the client's, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// Why an answer does not prove what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// Its first frame is not a proof.
    #[error("the answer does not begin with a proof of who gives it")]
    NotAProof,
    /// The signature is not over this request and this answer: one of them was altered on the way.
    #[error("the answer's signature does not verify: it, or the request, was altered on the way")]
    BadSignature,
    /// Another peer answered.
    #[error("{0} answered, not the peer that was asked")]
    OtherKey(PublicKey),
}

/// A request that was made, and what its answer has to prove.
#[derive(Debug, Clone)]
pub struct Proving {
    proof: Bytes,
    header: Bytes,
    expected: Option<PublicKey>,
}

/// Makes the frame before the header of a request whose client proves nothing and wants no proof.
pub fn anonymous() -> Bytes {
    encode(&RequestProof {
        version: PROTOCOL_VERSION_MIN,
        client: ClientProof::Anonymous,
    })
}

impl Proving {
    /// Signs the `header` of a request to an acquaintance. `now_ms` is the time here, the nonce 16
    /// random bytes.
    pub fn sign(key: &SecretKey, to: &KnownPeer, now_ms: u64, nonce: Nonce, header: Bytes) -> Self {
        let mut signed = Signed {
            key: key.public(),
            epoch: to.epoch,
            timestamp_ms: now_ms.saturating_add_signed(to.clock_ahead_ms),
            nonce,
            signature: Signature::from_bytes([0; 64]),
        };
        let message = signed.message(&to.key, &header);
        signed.signature = key.sign(Purpose::Request, &message);
        Self::with(ClientProof::Signed(signed), Some(to.key), header)
    }

    /// Leaves a `header` unsigned and lets the server prove who it is. If it is `expected`, that
    /// is checked.
    pub fn challenge(nonce: Nonce, expected: Option<PublicKey>, header: Bytes) -> Self {
        Self::with(ClientProof::Challenge { nonce }, expected, header)
    }

    fn with(client: ClientProof, expected: Option<PublicKey>, header: Bytes) -> Self {
        let version = PROTOCOL_VERSION_MIN;
        Self {
            proof: encode(&RequestProof { version, client }),
            header,
            expected,
        }
    }

    /// Returns the frame to send before the header, and the header.
    pub fn frames(&self) -> [Bytes; 2] {
        [self.proof.clone(), self.header.clone()]
    }

    /// Checks the two frames with which an answer begins. `now_ms` is the time here. Returns what
    /// to remember of the server.
    ///
    /// # Errors
    /// The answer must not be believed.
    pub fn check(&self, proof: &[u8], header: &[u8], now_ms: u64) -> Result<KnownPeer, ProofFault> {
        let proof: ResponseProof = decode(proof).ok_or(ProofFault::NotAProof)?;
        let message = proof.message(&self.proof, &self.header, header);
        proof
            .key
            .verify(Purpose::Response, &message, &proof.signature)
            .map_err(|_| ProofFault::BadSignature)?;
        if self.expected.is_some_and(|expected| expected != proof.key) {
            return Err(ProofFault::OtherKey(proof.key));
        }
        let ahead = i128::from(proof.now_ms) - i128::from(now_ms);
        Ok(KnownPeer {
            key: proof.key,
            epoch: proof.epoch,
            clock_ahead_ms: i64::try_from(ahead).unwrap_or(0),
        })
    }
}

impl Signed {
    /// The signed bytes. Everything before the header has one length, so no two headers and proofs
    /// make the same message.
    fn message(&self, server: &PublicKey, header: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(128 + header.len());
        message.extend_from_slice(&PROTOCOL_VERSION_MIN.to_le_bytes());
        message.extend_from_slice(server.as_bytes());
        message.extend_from_slice(self.key.as_bytes());
        message.extend_from_slice(&self.epoch);
        message.extend_from_slice(&self.timestamp_ms.to_le_bytes());
        message.extend_from_slice(&self.nonce);
        message.extend_from_slice(header);
        message
    }
}

impl ResponseProof {
    /// The signed bytes: see [`Signed::message`]. The lengths separate the frames. The request's proof
    /// is among them, so that an answer to another client is of no use to this one.
    fn message(&self, proof: &[u8], request: &[u8], response: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(384 + request.len() + response.len());
        message.extend_from_slice(&PROTOCOL_VERSION_MIN.to_le_bytes());
        message.extend_from_slice(self.key.as_bytes());
        message.extend_from_slice(&self.epoch);
        message.extend_from_slice(&self.now_ms.to_le_bytes());
        for frame in [proof, request] {
            message.extend_from_slice(&(frame.len() as u64).to_le_bytes());
            message.extend_from_slice(frame);
        }
        message.extend_from_slice(response);
        message
    }
}

/// What the server has to prove with its answer, if anything.
#[derive(Debug, Clone)]
pub struct Answering {
    /// The frames of a request that wants a proof.
    request: Option<(Bytes, Bytes)>,
}

impl Answering {
    /// Makes the frame to send before the `header` of the answer, if the client wants one.
    pub fn prove(
        &self,
        key: &SecretKey,
        epoch: Epoch,
        now_ms: u64,
        header: &[u8],
    ) -> Option<Bytes> {
        let mut proof = ResponseProof {
            key: key.public(),
            epoch,
            now_ms,
            signature: Signature::from_bytes([0; 64]),
        };
        let (asked_proof, asked) = self.request.as_ref()?;
        let message = proof.message(asked_proof, asked, header);
        proof.signature = key.sign(Purpose::Response, &message);
        Some(encode(&proof))
    }
}

/// Reads the two frames with which a request begins. Returns what the answer has to prove, and what
/// is to be checked: hand that to [`Claim::check`].
///
/// # Errors
/// What to answer, without proof: it is not known who asks.
pub fn read_request(frame: Bytes, header: Bytes) -> Result<(Answering, Claim), WireError> {
    let malformed = || WireError::new(ErrorCode::Malformed, "the request has no proof before it");
    // The version comes first: under another one, everything after it may be different.
    match postcard::take_from_bytes::<u16>(&frame) {
        Ok((PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION, rest)) => {
            match postcard::take_from_bytes::<u16>(rest) {
                Ok((kind, _)) if kind >= CLIENT_PROOF_KINDS => {
                    return Err(WireError::unsupported("a proof of kind", kind));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok((other, _)) => return Err(WireError::unsupported_version(other)),
        Err(_) => return Err(malformed()),
    }
    if frame.len() > PROOF_BYTES_MAX {
        return Err(malformed());
    }
    let proof: RequestProof = decode(&frame).ok_or_else(malformed)?;
    let wants_proof = proof.client != ClientProof::Anonymous;
    let request = wants_proof.then(|| (frame, header.clone()));
    let answering = Answering { request };
    let signed = match proof.client {
        ClientProof::Signed(signed) => Some(signed),
        ClientProof::Anonymous | ClientProof::Challenge { .. } => None,
    };
    Ok((answering, Claim { signed, header }))
}

/// What a request claims of its client.
#[derive(Debug, Clone)]
pub struct Claim {
    signed: Option<Signed>,
    header: Bytes,
}

impl Claim {
    /// Checks it for the server of this key and epoch; reads no memory of nonces yet, which
    /// [`NonceMemory::take`] does for what comes back. `None` if the client has no key.
    ///
    /// # Errors
    /// What to answer.
    pub fn check(
        &self,
        server: &PublicKey,
        epoch: Epoch,
        now_ms: u64,
    ) -> Result<Option<Proved>, WireError> {
        let Some(signed) = &self.signed else {
            return Ok(None);
        };
        if signed.epoch != epoch
            || signed.timestamp_ms > now_ms.saturating_add(REQUEST_AHEAD_MAX_MS)
            || signed.timestamp_ms < now_ms.saturating_sub(REQUEST_AGE_MAX_MS)
        {
            return Err(stale());
        }
        let message = signed.message(server, &self.header);
        match (signed.key).verify(Purpose::Request, &message, &signed.signature) {
            Ok(()) => Ok(Some(Proved {
                key: signed.key,
                timestamp_ms: signed.timestamp_ms,
                nonce: signed.nonce,
            })),
            Err(_) => {
                let text = "the signature is not of this key over this request to this peer";
                Err(WireError::new(ErrorCode::Unproven, text))
            }
        }
    }
}

/// The answer to a request that was signed for another epoch or moment.
pub fn stale() -> WireError {
    let text = "the request was signed too long ago, for the future, or before this peer started";
    WireError::new(ErrorCode::StaleProof, text)
}

/// The answer to a request that was made before.
pub fn replayed() -> WireError {
    let text = "this request was made before; sign another one";
    WireError::new(ErrorCode::Unproven, text)
}

/// A client whose signature verifies. It may be a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved {
    key: PublicKey,
    timestamp_ms: u64,
    nonce: Nonce,
}

impl Proved {
    /// Returns the client's key.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Returns when the request was made, in milliseconds since 1970, by the server's clock.
    pub fn made_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// Returns bytes that differ for each request, for a memory that several servers share.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.timestamp_ms.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

#[cfg(any(test, feature = "test-utils"))]
impl Proved {
    /// The same client at another moment with another nonce, as if it had been checked.
    pub fn with_nonce(self, timestamp_ms: u64, nonce: Nonce) -> Self {
        Self {
            timestamp_ms,
            nonce,
            ..self
        }
    }
}

/// The nonces that were used a short time ago.
#[derive(Debug, Clone, Default)]
pub struct NonceMemory {
    used: BTreeSet<(u64, Nonce, PublicKey)>,
    /// Requests of this moment and earlier ones are refused: their nonces are forgotten.
    forgotten_ms: u64,
}

impl NonceMemory {
    /// Uses up the nonce of a request, and returns the key that it proves.
    ///
    /// # Errors
    /// What to answer: the request was here before, or is too old to tell.
    pub fn take(&mut self, now_ms: u64, proved: Proved) -> Result<PublicKey, WireError> {
        let oldest = now_ms.saturating_sub(REQUEST_AGE_MAX_MS);
        while let Some((used_ms, ..)) = self.used.first()
            && *used_ms < oldest
        {
            self.used.pop_first();
        }
        self.forgotten_ms = self.forgotten_ms.max(oldest.saturating_sub(1));
        if proved.timestamp_ms <= self.forgotten_ms {
            return Err(stale());
        }
        if !(self.used).insert((proved.timestamp_ms, proved.nonce, proved.key)) {
            return Err(replayed());
        }
        if self.used.len() > NONCES_MAX
            && let Some((oldest, ..)) = self.used.pop_first()
        {
            self.forgotten_ms = oldest;
        }
        Ok(proved.key)
    }

    /// Returns how many are remembered; at most [`NONCES_MAX`].
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Tells whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_stdvec(message)
        .expect("a vector takes every byte")
        .into()
}

fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}
