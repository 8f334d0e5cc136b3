//! The signed address records of peers: what this node knows, and its own.
//!
//! Which records are kept and passed on is decided by [`RecordBook`]; here they are stored, one
//! metadata value each. Peers swap them by a request about a tree, so both sides of that request use
//! this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AccessState, PublicKey, Role, SecretKey, Subject, TreeId, current_access};
use eidetica_proto::Address;
use eidetica_proto::peer_book::AddressOrigin;
use eidetica_proto::peers::{
    AddressRecord, Place, RECORDS_PER_TREE_MAX, ReadAccess, RecordBook, reach,
};

use super::two_names;
use crate::news::News;
use crate::platform::clock::WallClock;
use crate::store::{Store, StoreError, remove_seen};

/// How long this node's own record is valid, in milliseconds: a week, within which a peer that is off
/// for some days comes back.
const OWN_LIFETIME_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// How old this node's own record grows before it is signed again, in milliseconds: a day, so that
/// it is passed on rarely and is always valid for days.
const OWN_FRESH_MS: u64 = 24 * 60 * 60 * 1_000;

/// Where the sequence number of the latest own record is stored.
const SEQUENCE: &str = "record-sequence";

/// The records that this node knows. Every call blocks.
pub(crate) struct Records {
    store: Arc<dyn Store>,
    key: SecretKey,
    clock: WallClock,
    news: News,
    /// Read from the store when it is needed first; each time, if the store is shared.
    known: Mutex<Option<Known>>,
}

struct Known {
    book: RecordBook,
    own: Option<Own>,
}

struct Own {
    record: AddressRecord,
    /// The addresses that it was made from.
    addresses: Vec<Address>,
}

impl Records {
    pub(crate) fn new(store: Arc<dyn Store>, key: SecretKey, clock: WallClock, news: News) -> Self {
        Self {
            store,
            key,
            clock,
            news,
            known: Mutex::default(),
        }
    }

    /// Takes the records that a peer at `place` told of a tree. Those of no use are passed over;
    /// the engine learns the addresses of the others.
    pub(crate) fn take(
        &self,
        tree: TreeId,
        records: Vec<AddressRecord>,
        place: Place,
    ) -> Result<(), StoreError> {
        let access = current_access(&*self.store.snapshot(tree)?)?;
        let now_ms = self.clock.now_ms();
        let mut known = self.known(tree)?;
        let book = &mut known.as_mut().expect("it was read").book;
        let mut has_changed = false;
        for record in records.into_iter().take(RECORDS_PER_TREE_MAX) {
            let key = *record.key();
            let read_access = read_access_of(&access, &key);
            match book.handle_record(tree, record.clone(), read_access, now_ms) {
                Ok(()) => {
                    has_changed = true;
                    let bytes = postcard::to_stdvec(&record).expect("a vector takes every byte");
                    self.store.put(&meta_key(tree, &key), Some(&bytes))?;
                    self.learn(&record, place);
                }
                Err(fault) => tracing::debug!(%tree, %key, %fault, "passed over an address record"),
            }
        }
        if has_changed {
            self.remove_displaced(book, tree)?;
        }
        Ok(())
    }

    /// Returns what to tell a peer at `place` of a tree: its records, and this node's own one if it
    /// listens at `own`; all but the one of `to`. Ascending by key, at most
    /// [`RECORDS_PER_TREE_MAX`].
    pub(crate) fn tell(
        &self,
        tree: TreeId,
        to: Option<&PublicKey>,
        place: Place,
        own: &[Address],
    ) -> Result<Vec<AddressRecord>, StoreError> {
        let access = current_access(&*self.store.snapshot(tree)?)?;
        let now_ms = self.clock.now_ms();
        let mut known = self.known(tree)?;
        let Known { book, own: signed } = known.as_mut().expect("it was read");
        let mut told = book.records_for(tree, place, now_ms);
        for record in &told {
            // Access may have been revoked since.
            if read_access_of(&access, record.key()) == ReadAccess::None {
                book.handle_revoked(tree, *record.key());
                self.store.put(&meta_key(tree, record.key()), None)?;
            }
        }
        told.retain(|record| {
            book.record(tree, *record.key()).is_some() && Some(record.key()) != to
        });
        if let Some(own) = self.own(signed, own, place, now_ms)? {
            told.truncate(RECORDS_PER_TREE_MAX - 1);
            let at = told.partition_point(|record| record.key() < own.key());
            told.insert(at, own);
        }
        Ok(told)
    }

    /// Returns the keys whose records of a tree are known.
    pub(crate) fn keys(&self, tree: TreeId) -> Result<Vec<PublicKey>, StoreError> {
        let known = self.known(tree)?;
        let book = &known.as_ref().expect("it was read").book;
        let records = book.records_for(tree, Place::SameMachine, self.clock.now_ms());
        Ok(records.iter().map(|record| *record.key()).collect())
    }

    /// Returns this node's own record, signed for these addresses, if it is of use at `place`.
    fn own(
        &self,
        signed: &mut Option<Own>,
        addresses: &[Address],
        place: Place,
        now_ms: u64,
    ) -> Result<Option<AddressRecord>, StoreError> {
        let is_current = |own: &&mut Own| {
            let signed_ms = own.record.expires_ms().saturating_sub(OWN_LIFETIME_MS);
            own.addresses == addresses && (signed_ms..=signed_ms + OWN_FRESH_MS).contains(&now_ms)
        };
        let record = match signed.as_mut().filter(is_current) {
            Some(own) => own.record.clone(),
            None => {
                let mut sequence = now_ms;
                self.store.update(SEQUENCE, &mut |last| {
                    let last = last.and_then(|bytes| postcard::from_bytes::<u64>(bytes).ok());
                    // The clock may have been set back.
                    sequence = now_ms.max(last.map_or(0, |last| last.saturating_add(1)));
                    Some(postcard::to_stdvec(&sequence).expect("a vector takes every byte"))
                })?;
                let expires_ms = now_ms + OWN_LIFETIME_MS;
                let record = AddressRecord::sign(&self.key, sequence, expires_ms, addresses);
                *signed = Some(Own {
                    record: record.clone(),
                    addresses: addresses.to_vec(),
                });
                record
            }
        };
        let mut reaches = record.addresses().iter().map(reach);
        let is_of_use = !record.addresses().is_empty() && reaches.all(|it| it.includes(place));
        Ok(is_of_use.then_some(record))
    }

    fn learn(&self, record: &AddressRecord, place: Place) {
        for address in record.addresses() {
            if reach(address).includes(place) {
                let inbound = self.news.inbound();
                inbound.address_learned(*record.key(), address.clone(), AddressOrigin::Record);
            }
        }
    }

    /// Removes the stored records of a tree that the book does not keep.
    fn remove_displaced(&self, book: &RecordBook, tree: TreeId) -> Result<(), StoreError> {
        for (meta_key, bytes) in self.store.list(&format!("record/{tree}/"))? {
            let is_kept =
                two_names(&meta_key).is_some_and(|(tree, key)| book.record(tree, key).is_some());
            if !is_kept {
                remove_seen(&*self.store, &meta_key, &bytes)?;
            }
        }
        Ok(())
    }

    /// Returns the known records, those of a tree at least, which it reads from the store if need be.
    fn known(&self, tree: TreeId) -> Result<MutexGuard<'_, Option<Known>>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.shared().is_some() {
            // Other servers may have changed them.
            let book = self.read(&format!("record/{tree}/"))?;
            let own = known.take().and_then(|known| known.own);
            *known = Some(Known { book, own });
        } else if known.is_none() {
            let book = self.read("record/")?;
            *known = Some(Known { book, own: None });
        }
        Ok(known)
    }

    /// Reads the stored records under a prefix, and removes those that have become useless.
    fn read(&self, prefix: &str) -> Result<RecordBook, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut book = RecordBook::new(self.key.public());
        let mut access: Option<(TreeId, AccessState)> = None;
        for (meta_key, bytes) in self.store.list(prefix)? {
            let record = postcard::from_bytes::<AddressRecord>(&bytes).ok();
            let taken = match (two_names(&meta_key), record) {
                (Some((tree, key)), Some(record)) if key == *record.key() => {
                    // They are listed tree by tree.
                    if access.as_ref().is_none_or(|(of, _)| *of != tree) {
                        let current = current_access(&*self.store.snapshot(tree)?)?;
                        access = Some((tree, current));
                    }
                    let read_access = access.as_ref().map(|(_, it)| read_access_of(it, &key));
                    let read_access = read_access.unwrap_or(ReadAccess::None);
                    book.handle_record(tree, record, read_access, now_ms)
                        .is_ok()
                }
                _ => false,
            };
            if !taken {
                remove_seen(&*self.store, &meta_key, &bytes)?;
            }
        }
        Ok(book)
    }
}

/// Returns why a key may read a tree.
fn read_access_of(access: &AccessState, key: &PublicKey) -> ReadAccess {
    let own = access.own_role(&Subject::Key(*key));
    match access.allows(Some(key), Role::Read) {
        true if own >= Some(Role::Read) => ReadAccess::Named,
        true => ReadAccess::Anyone,
        false => ReadAccess::None,
    }
}

fn meta_key(tree: TreeId, key: &PublicKey) -> String {
    format!("record/{tree}/{key}")
}
