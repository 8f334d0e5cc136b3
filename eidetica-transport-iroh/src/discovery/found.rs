//! The peers that were found on the local network.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use iroh::{EndpointAddr, EndpointId};

use crate::address::useful;
use crate::limits::DISCOVERED_MAX;

/// The peers that are announced at present, with a number for each find.
///
/// A consumer remembers one number: what it has not seen has a higher one.
#[derive(Debug, Default)]
pub(super) struct Found {
    peers: BTreeMap<EndpointId, (u64, EndpointAddr)>,
    /// The number of the last find.
    finds: u64,
    closed: bool,
}

impl Found {
    /// Records where a peer announces itself; without addresses, that it is gone. Returns whether
    /// there is a find.
    ///
    /// Beyond [`DISCOVERED_MAX`] peers, the one found longest ago is forgotten.
    pub(super) fn handle_announced(&mut self, id: EndpointId, addrs: &[(IpAddr, u16)]) -> bool {
        let addrs = addrs.iter().map(|&(ip, port)| SocketAddr::new(ip, port));
        let addr = addrs.fold(EndpointAddr::from(id), EndpointAddr::with_ip_addr);
        let addr = useful(addr);
        if addr.is_empty() {
            self.peers.remove(&id);
            return false;
        }
        if self.peers.get(&id).is_some_and(|(_, known)| *known == addr) {
            return false;
        }
        self.finds += 1;
        self.peers.insert(id, (self.finds, addr));
        if self.peers.len() > DISCOVERED_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, (number, _))| *number);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| self.peers.remove(&id));
        }
        true
    }

    /// Forgets every peer, so that each counts as a find when it is announced again.
    ///
    /// Returns whether there is a find, which there is not.
    pub(super) fn clear(&mut self) -> bool {
        self.peers.clear();
        false
    }

    /// Ends the streams of finds.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.peers.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the first find after the number `after`, of `only` this peer if given, with its number.
    pub(super) fn first_after(
        &self,
        after: u64,
        only: Option<EndpointId>,
    ) -> Option<(u64, EndpointAddr)> {
        match only {
            Some(id) => self.peers.get(&id).filter(|(number, _)| *number > after),
            None => self
                .peers
                .values()
                .filter(|(number, _)| *number > after)
                .min_by_key(|(number, _)| *number),
        }
        .cloned()
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;

    fn id(n: usize) -> EndpointId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        SecretKey::from_bytes(&bytes).public()
    }

    fn at(last: u8) -> [(IpAddr, u16); 1] {
        [([192, 0, 2, last].into(), 1)]
    }

    fn ids_after(found: &Found, mut after: u64) -> Vec<EndpointId> {
        let mut ids = Vec::new();
        while let Some((number, addr)) = found.first_after(after, None) {
            after = number;
            ids.push(addr.id);
        }
        ids
    }

    #[test]
    fn each_appearance_and_each_move_is_one_find() {
        let mut found = Found::default();
        assert!(found.handle_announced(id(2), &at(1)));
        assert!(found.handle_announced(id(1), &at(1)));
        assert!(!found.handle_announced(id(1), &at(1)), "as before");
        assert_eq!(ids_after(&found, 0), [id(2), id(1)]);
        assert!(found.handle_announced(id(2), &at(2)), "it moved");
        assert_eq!(ids_after(&found, 0), [id(1), id(2)], "where it is");
        assert!(!found.handle_announced(id(1), &[]), "it is gone");
        assert_eq!(ids_after(&found, 0), [id(2)]);
        assert!(found.handle_announced(id(1), &at(1)), "it is back");
        assert_eq!(ids_after(&found, 3), [id(1)]);
        assert_eq!(found.first_after(3, Some(id(2))), None);
        assert!(found.first_after(2, Some(id(2))).is_some());
    }

    #[test]
    fn addresses_that_lead_nowhere_are_no_find() {
        let mut found = Found::default();
        assert!(!found.handle_announced(id(1), &[([0, 0, 0, 0].into(), 1)]));
        assert_eq!(ids_after(&found, 0), []);
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_the_oldest_go_first() {
        let mut found = Found::default();
        for n in 0..DISCOVERED_MAX + 3 {
            assert!(found.handle_announced(id(n), &at(1)));
        }
        let ids = ids_after(&found, 0);
        assert_eq!(ids.len(), DISCOVERED_MAX);
        assert_eq!(ids[0], id(3));
    }
}
