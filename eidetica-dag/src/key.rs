//! Ed25519 keys and signatures, each signature bound to one purpose.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::id::read_hex;

/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// What a signature says. The bytes signed start with the purpose's tag, so a signature made for
/// one purpose never verifies for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The author signs an entry.
    Entry,
    /// A peer signs the header of a request.
    Request,
    /// A peer signs the header of a response.
    Response,
    /// A peer signs the addresses where it listens.
    AddressRecord,
    /// The key of an invite signs who uses it.
    Invite,
}

impl Purpose {
    /// Every purpose, for tests of all pairs.
    pub const ALL: [Self; 5] = [
        Self::Entry,
        Self::Request,
        Self::Response,
        Self::AddressRecord,
        Self::Invite,
    ];

    /// Returns the domain tag. No tag is the beginning of another: each ends with a zero byte and
    /// holds no other.
    pub const fn tag(self) -> &'static [u8] {
        match self {
            Self::Entry => b"eidetica/1/entry\0",
            Self::Request => b"eidetica/1/request\0",
            Self::Response => b"eidetica/1/response\0",
            Self::AddressRecord => b"eidetica/1/address-record\0",
            Self::Invite => b"eidetica/1/invite\0",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.tag(), bytes].concat()
    }
}

/// The public half of a device's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey([u8; 32]);

/// The secret half of a device's identity. Its `Debug` form shows the public half only.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// Reports a signature that was not made with this key for this purpose over these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits")]
pub struct ParseKeyError;

impl SecretKey {
    /// Makes the key from 32 bytes, which must come from a secure random source or from where an
    /// earlier key was kept.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// Returns the 32 secret bytes. Store them where no other user can read them.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` for `purpose`.
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&purpose.message(bytes)).to_bytes())
    }
}

impl PublicKey {
    /// Wraps the 32 bytes of a key. Whether they are a point of the curve shows when a signature
    /// is checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells whether a device can have this key: it is a point of the curve in its one canonical form,
    /// and not of small order.
    pub fn is_usable(&self) -> bool {
        let is_canonical = |key: &VerifyingKey| key.to_edwards().compress().to_bytes() == self.0;
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| is_canonical(&key) && !key.is_weak())
    }

    /// Checks `signature` over `bytes`, strictly: keys of small order and malleable signatures are
    /// refused (RFC 8032 with the checks of "Taming the many EdDSAs", 2020).
    ///
    /// # Errors
    /// [`BadSignature`] if it does not verify, whatever the reason.
    pub fn verify(
        &self,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&purpose.message(bytes), &signature)
            .map_err(|_| BadSignature)
    }

    /// Returns the first ten hexadecimal digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl Signature {
    /// Wraps the 64 bytes of a signature.
    pub const fn from_bytes(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the 64 bytes of the signature.
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(self.0.as_slice(), serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: serde_bytes::ByteBuf = serde_bytes::deserialize(deserializer)?;
        let bytes = bytes.into_vec().try_into();
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a signature is 64 bytes"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        read_hex(text).map(Self).ok_or(ParseKeyError)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", HEXLOWER.encode_display(&self.0[..5]))
    }
}
