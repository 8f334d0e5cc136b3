//! Where the peers that share a tree can be reached.
//!
//! A peer signs an [`AddressRecord`] of its own addresses. Peers swap the records of a tree among
//! those who may read it, and keep them in a [`RecordBook`]. Only its key changes a record: a
//! higher sequence number replaces a lower one. Since a record is passed on whole or not at all,
//! its signer leaves out addresses that are of no use to others.

mod book;
mod duplicate;
mod reach;

use eidetica_dag::{PublicKey, Purpose, SecretKey, Signature};
use serde::{Deserialize, Serialize};

use crate::address::Address;

pub use book::{ReadAccess, RecordBook};
pub use duplicate::{
    ALIVE_DELAY_MAX_MS, ALIVE_INTERVAL_MS, DUPLICATE_KEPT_MS, Duplicates, Sighting,
};
pub use reach::{Place, Reach, reach};

/// Most records of one tree. More peers than that need not be known to find one.
pub const RECORDS_PER_TREE_MAX: usize = 64;

/// Most records of all trees, in at most 64 MiB.
pub const RECORDS_MAX: usize = 16_384;

/// Most addresses in one record: every transport on every interface, with room.
pub const RECORD_ADDRESSES_MAX: usize = 16;

/// Most bytes of a record, its signature included, so that the records of a tree fit into one frame.
/// An iroh ticket takes about 300.
pub const RECORD_BYTES_MAX: usize = 4_096;

/// How long a record may be valid at most, in milliseconds: 30 days. A peer that was off for longer
/// has other addresses.
pub const RECORD_LIFETIME_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Says where a peer can be reached, signed by that peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    key: PublicKey,
    sequence: u64,
    expires_ms: u64,
    addresses: Vec<Address>,
    signature: Signature,
}

/// Why a record is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The signature is not of this key over this record.
    #[error("the signature of an address record does not verify")]
    BadSignature,
    /// It has too many addresses or bytes.
    #[error("an address record is larger than the limits allow")]
    TooLarge,
    /// One of its addresses leads nowhere, such as 0.0.0.0.
    #[error("an address record has an address that leads nowhere")]
    UnusableAddress,
    /// It has expired.
    #[error("an address record has expired")]
    Expired,
    /// It claims to be valid for longer than [`RECORD_LIFETIME_MAX_MS`].
    #[error("an address record claims to be valid for too long")]
    LivesTooLong,
    /// A record with this sequence number, or a higher one, is known.
    #[error("an address record is not newer than the one that is known")]
    Stale,
    /// Its key is this peer's own.
    #[error("only this peer signs its own address record")]
    Own,
    /// Its key may not read the tree.
    #[error("the key of an address record may not read the tree")]
    NoAccess,
    /// As many records are known as may be.
    #[error("too many address records are known")]
    Full,
}

impl AddressRecord {
    /// Signs where the holder of `key` can be reached. Each record of a key needs a higher sequence
    /// number than the one before; milliseconds since 1970 serve.
    ///
    /// Leaves out addresses that lead nowhere, addresses of this machine if there are others, and
    /// those that would exceed [`RECORD_ADDRESSES_MAX`] or [`RECORD_BYTES_MAX`]: the last ones.
    pub fn sign(key: &SecretKey, sequence: u64, expires_ms: u64, addresses: &[Address]) -> Self {
        let is_public = |address: &&Address| reach(address) == Reach::Anywhere;
        let wanted = match addresses.iter().any(|address| is_public(&address)) {
            true => Reach::Anywhere,
            false => Reach::SameMachine,
        };
        let mut record = Self {
            key: key.public(),
            sequence,
            expires_ms,
            addresses: Vec::new(),
            signature: Signature::from_bytes([0; 64]),
        };
        let usable = addresses.iter().filter(|address| reach(address) == wanted);
        for address in usable.take(RECORD_ADDRESSES_MAX) {
            record.addresses.push(address.clone());
            if record.encoded_bytes() > RECORD_BYTES_MAX {
                record.addresses.pop();
                break;
            }
        }
        record.signature = key.sign(Purpose::AddressRecord, &record.message());
        record
    }

    /// Returns whose addresses these are.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the number that is higher in a newer record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns when the record expires, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Returns the addresses, in the order of preference.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Checks limits, addresses, expiry and signature, in the order of what they cost.
    ///
    /// # Errors
    /// The broken rule.
    pub fn check(&self, now_ms: u64) -> Result<(), RecordFault> {
        let too_many = self.addresses.len() > RECORD_ADDRESSES_MAX;
        if too_many || self.encoded_bytes() > RECORD_BYTES_MAX {
            return Err(RecordFault::TooLarge);
        }
        if self.expires_ms <= now_ms {
            return Err(RecordFault::Expired);
        }
        if self.expires_ms - now_ms > RECORD_LIFETIME_MAX_MS {
            return Err(RecordFault::LivesTooLong);
        }
        if self.addresses.iter().any(|it| reach(it) == Reach::Nowhere) {
            return Err(RecordFault::UnusableAddress);
        }
        (self.key)
            .verify(Purpose::AddressRecord, &self.message(), &self.signature)
            .map_err(|_| RecordFault::BadSignature)
    }

    /// Tells whether all of its addresses are of use to a peer at this place.
    fn is_for(&self, place: Place) -> bool {
        self.addresses.iter().all(|it| reach(it).includes(place))
    }

    /// The signed bytes. postcard writes lengths before lists, so no two records make the same bytes.
    fn message(&self) -> Vec<u8> {
        let fields = (self.key, self.sequence, self.expires_ms, &self.addresses);
        postcard::to_stdvec(&fields).expect("a vector takes every byte")
    }

    fn encoded_bytes(&self) -> usize {
        // The signature and its length.
        self.message().len() + 65
    }
}
