//! The address records that a peer knows.

use std::collections::BTreeMap;

use eidetica_dag::{PublicKey, TreeId};

use super::{AddressRecord, Place, RECORDS_MAX, RECORDS_PER_TREE_MAX, RecordFault};

/// Why a key may read a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadAccess {
    /// It may not.
    None,
    /// Anyone may. Such keys cost nothing to make.
    Anyone,
    /// It has a role of its own.
    Named,
}

/// Keeps the latest record of each peer of each tree.
///
/// Bounded by [`RECORDS_PER_TREE_MAX`] and [`RECORDS_MAX`]. A key with a role of its own displaces
/// one without, so that no crowd of made-up keys keeps it out.
#[derive(Debug, Clone)]
pub struct RecordBook {
    own: PublicKey,
    records: BTreeMap<(TreeId, PublicKey), (ReadAccess, AddressRecord)>,
}

impl RecordBook {
    /// Makes the empty book of the peer with this key.
    pub fn new(own: PublicKey) -> Self {
        Self {
            own,
            records: BTreeMap::new(),
        }
    }

    /// Takes a record for a tree. `access` says why its key may read that tree.
    ///
    /// # Errors
    /// Why it is not kept. The book is unchanged then.
    pub fn handle_record(
        &mut self,
        tree: TreeId,
        record: AddressRecord,
        access: ReadAccess,
        now_ms: u64,
    ) -> Result<(), RecordFault> {
        let key = *record.key();
        if key == self.own {
            return Err(RecordFault::Own);
        }
        if access == ReadAccess::None {
            return Err(RecordFault::NoAccess);
        }
        let known = self.records.get(&(tree, key));
        if known.is_some_and(|(_, known)| known.sequence() >= record.sequence()) {
            return Err(RecordFault::Stale);
        }
        let is_known = known.is_some();
        record.check(now_ms)?;
        if !is_known {
            self.make_room(tree, access, now_ms)?;
        }
        self.records.insert((tree, key), (access, record));
        Ok(())
    }

    /// Makes room for one more record of a tree.
    fn make_room(
        &mut self,
        tree: TreeId,
        access: ReadAccess,
        now_ms: u64,
    ) -> Result<(), RecordFault> {
        if self.of(tree).count() < RECORDS_PER_TREE_MAX {
            if self.records.len() >= RECORDS_MAX {
                self.handle_time(now_ms);
            }
            return match self.records.len() < RECORDS_MAX {
                true => Ok(()),
                false => Err(RecordFault::Full),
            };
        }
        // The one of the least access that expires first.
        let worth = |(_, (access, record)): &(PublicKey, &(ReadAccess, AddressRecord))| {
            let is_valid = record.expires_ms() > now_ms;
            (is_valid, *access, record.expires_ms())
        };
        let least = self.of(tree).min_by_key(worth);
        let Some((key, (least, record))) = least else {
            return Ok(());
        };
        if *least >= access && record.expires_ms() > now_ms {
            return Err(RecordFault::Full);
        }
        self.records.remove(&(tree, key));
        Ok(())
    }

    /// Lists the known records of a tree.
    fn of(&self, tree: TreeId) -> impl Iterator<Item = (PublicKey, &(ReadAccess, AddressRecord))> {
        let lowest = PublicKey::from_bytes([0; 32]);
        let from_here = self.records.range((tree, lowest)..);
        from_here
            .take_while(move |((of, _), _)| *of == tree)
            .map(|((_, key), known)| (*key, known))
    }

    /// Returns the records of a tree to pass on to a peer at this place, ascending by key. Records
    /// with addresses that are of no use there are left out.
    pub fn records_for(&self, tree: TreeId, place: Place, now_ms: u64) -> Vec<AddressRecord> {
        let records = self.of(tree).map(|(_, (_, record))| record);
        records
            .filter(|record| record.expires_ms() > now_ms && record.is_for(place))
            .cloned()
            .collect()
    }

    /// Returns the record of one peer of a tree.
    pub fn record(&self, tree: TreeId, key: PublicKey) -> Option<&AddressRecord> {
        self.records.get(&(tree, key)).map(|(_, record)| record)
    }

    /// Forgets a key of a tree, whose access was revoked.
    pub fn handle_revoked(&mut self, tree: TreeId, key: PublicKey) {
        self.records.remove(&(tree, key));
    }

    /// Forgets the records that have expired.
    pub fn handle_time(&mut self, now_ms: u64) {
        self.records
            .retain(|_, (_, record)| record.expires_ms() > now_ms);
    }

    /// Returns how many records are known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Tells whether no record is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;
    use eidetica_dag::{EntryId, SecretKey};

    use super::super::{RECORD_ADDRESSES_MAX, RECORD_BYTES_MAX, RECORD_LIFETIME_MAX_MS};
    use super::*;
    use crate::address::Address;

    const NOW_MS: u64 = 1_700_000_000_000;
    const LATER_MS: u64 = NOW_MS + 60_000;

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    fn record(key: &SecretKey, sequence: u64, expires_ms: u64) -> AddressRecord {
        AddressRecord::sign(
            key,
            sequence,
            expires_ms,
            &addresses(&["http:192.0.2.1:80"]),
        )
    }

    fn book() -> RecordBook {
        RecordBook::new(key(0).public())
    }

    #[test]
    fn only_its_key_changes_a_record() {
        let mut book = book();
        let first = record(&key(1), 5, LATER_MS);
        let kept = |book: &RecordBook| book.records_for(tree(1), Place::Elsewhere, NOW_MS);
        book.handle_record(tree(1), first.clone(), ReadAccess::Named, NOW_MS)
            .expect("it is genuine");
        // Another key under the name of the first, and changed fields under its signature.
        let mut forged = record(&key(2), 9, LATER_MS);
        forged.key = key(1).public();
        let mut later = first.clone();
        later.sequence = 9;
        let mut longer = first.clone();
        (longer.sequence, longer.expires_ms) = (6, LATER_MS + 1);
        let mut elsewhere = first.clone();
        elsewhere.sequence = 6;
        elsewhere.addresses = addresses(&["http:192.0.2.66:80"]);
        for changed in [forged, later, longer, elsewhere] {
            let taken = book.handle_record(tree(1), changed, ReadAccess::Named, NOW_MS);
            assert_eq!(taken, Err(RecordFault::BadSignature));
            assert_eq!(kept(&book), std::slice::from_ref(&first));
        }
        // The key itself, with an older, the same and a newer number.
        for (sequence, taken) in [(4, false), (5, false), (6, true)] {
            let again = record(&key(1), sequence, LATER_MS);
            let result = book.handle_record(tree(1), again, ReadAccess::Named, NOW_MS);
            assert_eq!(result.is_ok(), taken, "sequence {sequence}");
        }
        assert_eq!(kept(&book)[0].sequence(), 6);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let mut book = book();
        let mut fault = |record, access| {
            let taken = book.handle_record(tree(1), record, access, NOW_MS);
            taken.expect_err("a rule is broken")
        };
        let good = record(&key(1), 1, LATER_MS);
        assert_eq!(fault(good, ReadAccess::None), RecordFault::NoAccess);
        let own = record(&key(0), 1, LATER_MS);
        assert_eq!(fault(own, ReadAccess::Named), RecordFault::Own);
        let expired = record(&key(1), 1, NOW_MS);
        assert_eq!(fault(expired, ReadAccess::Named), RecordFault::Expired);
        let eternal = record(&key(1), 1, NOW_MS + RECORD_LIFETIME_MAX_MS + 1);
        assert_eq!(fault(eternal, ReadAccess::Named), RecordFault::LivesTooLong);
        let mut sign = |texts: Vec<Address>| {
            let mut record = record(&key(1), 1, LATER_MS);
            record.addresses = texts;
            let message = record.message();
            record.signature = key(1).sign(eidetica_dag::Purpose::AddressRecord, &message);
            fault(record, ReadAccess::Named)
        };
        let nowhere = sign(addresses(&["http:192.0.2.1:80", "http:0.0.0.0:80"]));
        assert_eq!(nowhere, RecordFault::UnusableAddress);
        let many = vec![addresses(&["iroh:x"])[0].clone(); RECORD_ADDRESSES_MAX + 1];
        assert_eq!(sign(many), RecordFault::TooLarge);
        let long = Address::new("iroh", &"x".repeat(1_000)).expect("an address");
        assert_eq!(sign(vec![long; 5]), RecordFault::TooLarge);
        assert!(book.is_empty());
    }

    #[test]
    fn a_signature_for_another_purpose_does_not_count() {
        let mut record = record(&key(1), 1, LATER_MS);
        record.signature = key(1).sign(eidetica_dag::Purpose::Request, &record.message());
        assert_eq!(record.check(NOW_MS), Err(RecordFault::BadSignature));
    }

    #[test]
    fn signing_leaves_out_what_is_of_no_use() {
        let signed = |texts: &[&str]| {
            let record = AddressRecord::sign(&key(1), 1, LATER_MS, &addresses(texts));
            record.check(NOW_MS).expect("what is signed here is good");
            record.addresses().to_vec()
        };
        let mixed = ["http:0.0.0.0:80", "http:127.0.0.1:80", "http:192.0.2.1:80"];
        assert_eq!(signed(&mixed), addresses(&["http:192.0.2.1:80"]));
        assert_eq!(signed(&mixed[..2]), addresses(&["http:127.0.0.1:80"]));
        assert_eq!(signed(&mixed[..1]), []);
        assert_eq!(signed(&["iroh:x"; 20]).len(), RECORD_ADDRESSES_MAX);
        let long = format!("iroh:{}", "x".repeat(1_000));
        assert_eq!(
            signed(&[long.as_str(); 8]).len(),
            RECORD_BYTES_MAX / 1_005 - 1
        );
    }

    #[test]
    fn addresses_of_this_machine_stay_on_it() {
        let mut book = book();
        let here = AddressRecord::sign(&key(1), 1, LATER_MS, &addresses(&["http:127.0.0.1:80"]));
        book.handle_record(tree(1), here.clone(), ReadAccess::Named, NOW_MS)
            .expect("it is genuine");
        let to = |place| book.records_for(tree(1), place, NOW_MS);
        assert_eq!(to(Place::SameMachine), [here]);
        assert_eq!(to(Place::Elsewhere), []);
    }

    #[test]
    fn made_up_keys_keep_no_peer_out() {
        let mut book = book();
        let mut take = |n: u32, access| {
            let record = record(&key(n), 1, LATER_MS + u64::from(n));
            book.handle_record(tree(1), record, access, NOW_MS)
        };
        for n in 1..=RECORDS_PER_TREE_MAX as u32 {
            assert_eq!(take(n, ReadAccess::Anyone), Ok(()));
        }
        assert_eq!(take(100, ReadAccess::Anyone), Err(RecordFault::Full));
        for n in 101..101 + RECORDS_PER_TREE_MAX as u32 {
            assert_eq!(take(n, ReadAccess::Named), Ok(()));
        }
        assert_eq!(take(300, ReadAccess::Named), Err(RecordFault::Full));
        // Another tree has room of its own, and what has expired makes room.
        let other = record(&key(300), 1, LATER_MS + 400);
        assert_eq!(
            book.handle_record(tree(2), other.clone(), ReadAccess::Anyone, NOW_MS),
            Ok(())
        );
        let late = LATER_MS + 300;
        assert_eq!(
            book.handle_record(tree(1), other, ReadAccess::Anyone, late),
            Ok(())
        );
        assert_eq!(book.len(), RECORDS_PER_TREE_MAX + 1);
        assert_eq!(book.records_for(tree(1), Place::Elsewhere, late).len(), 1);
        book.handle_time(late);
        assert_eq!(book.len(), 2);
        book.handle_revoked(tree(1), key(300).public());
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn a_full_answer_fits_into_a_frame() {
        use crate::message::{Reply, ResponseHeader};
        let address = |n: u32| Address::new("iroh", &format!("{n}{}", "x".repeat(240)));
        let all: Vec<Address> = (0..16).map(|n| address(n).expect("an address")).collect();
        let mut records: Vec<_> = (1..=RECORDS_PER_TREE_MAX as u32)
            .map(|n| AddressRecord::sign(&key(n), 1, LATER_MS, &all))
            .collect();
        records.sort_by_key(|record| *record.key());
        let frame = ResponseHeader::encode(Ok(Reply::Peers(records)));
        assert!(frame.len() <= crate::frame::FRAME_BYTES_MAX / 2);
        assert!(ResponseHeader::decode(&frame).is_ok());
    }
}
