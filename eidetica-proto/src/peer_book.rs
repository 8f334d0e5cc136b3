//! The peers known to a node: where each was reached, and which trees are shared with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use eidetica_dag::TreeId;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::address_race::{AddressRace, Verdict};
use crate::coordinator::PeerId;

/// Most addresses of one peer: a handful for each transport and network it is in.
pub const PEER_ADDRESSES_MAX: usize = 16;

/// Most trees in common with one peer: 512 KiB of ids.
pub const PEER_TREES_MAX: usize = 16_384;

/// Most peers. One with a full set of addresses takes about 2 KiB, so 32 MiB at the outside, trees
/// apart. Above it, peers without trees in common make room, the one least recently heard of first.
pub const BOOK_PEERS_MAX: usize = 16_384;

/// Longest record of one peer in bytes: whatever can be written can be read.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// How old the last success may grow in a stored record, in milliseconds: it is not written again
/// for each exchange.
const SUCCESS_WRITTEN_MS: u64 = 3_600_000;

/// The first byte of a record.
const RECORD_VERSION: u8 = 1;

/// Where an address is known from. Earlier variants are trusted more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressOrigin {
    /// A person entered it.
    Manual,
    /// It stood in a ticket.
    Ticket,
    /// The peer said it itself when it was met.
    Hello,
    /// It stood in a record that the peer signed.
    Record,
    /// It was found in the local network.
    Mdns,
}

/// One address of a peer, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// The address.
    pub address: Address,
    /// Where it is known from.
    pub origin: AddressOrigin,
    /// When the peer last answered at it, in milliseconds of the wall clock.
    pub last_success_ms: Option<u64>,
    /// How often it failed since.
    pub failures: u32,
    /// Another peer answered at it last.
    pub wrong_peer: bool,
}

impl KnownAddress {
    /// Orders by promise: what answered last, what was not tried, what failed, what leads to
    /// another peer.
    fn rank(&self) -> impl Ord + use<> {
        let class = match (self.wrong_peer, self.failures, self.last_success_ms) {
            (true, _, _) => 3,
            (false, 1.., _) => 2,
            (false, 0, None) => 1,
            (false, 0, Some(_)) => 0,
        };
        let last_success = Reverse(self.last_success_ms);
        (class, self.failures, last_success, self.origin)
    }
}

/// Information about one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// At most [`PEER_ADDRESSES_MAX`], most promising first.
    addresses: Vec<KnownAddress>,
    /// At most [`PEER_TREES_MAX`].
    trees: BTreeSet<TreeId>,
    /// When it was last learned of or heard of, in milliseconds of the wall clock.
    heard_ms: u64,
}

impl KnownPeer {
    /// Returns its addresses, most promising first.
    pub fn addresses(&self) -> &[KnownAddress] {
        &self.addresses
    }

    /// Returns the trees that are shared with it.
    pub fn trees(&self) -> &BTreeSet<TreeId> {
        &self.trees
    }
}

/// Why a record of a peer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Another version of this program wrote it.
    #[error("the record of a peer has version {0}, and this program reads {RECORD_VERSION}")]
    Version(u8),
    /// It is damaged, or longer than its limits allow.
    #[error("the record of a peer is damaged: remove it, and add the peer again")]
    Damaged,
}

/// Remembers peers by their keys.
///
/// It holds what it learns in memory; the driver stores the record of each peer that
/// [`Self::poll_changed`] names, and gives records back with [`Self::insert_record`] at the start.
/// Times are milliseconds of the wall clock, for they outlive the process.
#[derive(Debug, Default)]
pub struct PeerBook {
    peers: BTreeMap<PeerId, KnownPeer>,
    /// Peers that may make room, least recently heard of first.
    spare: BTreeSet<(u64, PeerId)>,
    changed: BTreeSet<PeerId>,
}

impl PeerBook {
    /// Makes an empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the information about a peer.
    pub fn peer(&self, peer: &PeerId) -> Option<&KnownPeer> {
        self.peers.get(peer)
    }

    /// Lists all peers, in the order of their keys.
    pub fn peers(&self) -> impl Iterator<Item = (&PeerId, &KnownPeer)> {
        self.peers.iter()
    }

    /// Lists the addresses of a peer for an [`AddressRace`], most promising first.
    pub fn addresses(&self, peer: &PeerId) -> impl Iterator<Item = Address> + use<'_> {
        let known = self.peers.get(peer).into_iter();
        known.flat_map(|it| it.addresses.iter().map(|it| it.address.clone()))
    }

    /// Lists the addresses of a peer that other peers may learn: those that may lead to it from
    /// elsewhere too, and where no other peer answered.
    pub fn addresses_to_pass_on(&self, peer: &PeerId) -> impl Iterator<Item = &Address> {
        let known = self.peers.get(peer).into_iter();
        let known = known.flat_map(|it| &it.addresses);
        known
            .filter(|it| !it.wrong_peer && it.origin != AddressOrigin::Mdns)
            .map(|it| &it.address)
            .filter(|it| may_pass_on(it))
    }

    /// Notes an address of a peer. Tells whether it is a reason to try the peer again: it was not
    /// known, or a person entered it once more.
    ///
    /// Where there is no room, less promising addresses and peers without trees give way; where
    /// there are none, nothing is noted.
    pub fn learn(
        &mut self,
        peer: PeerId,
        address: Address,
        origin: AddressOrigin,
        now_ms: u64,
    ) -> bool {
        if !self.touch(peer, now_ms) {
            return false;
        }
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        if let Some(it) = known.addresses.iter_mut().find(|it| it.address == address) {
            let insists = origin <= AddressOrigin::Ticket && it.failures > 0;
            let is_better = origin < it.origin;
            it.origin = it.origin.min(origin);
            if insists {
                it.failures = 0;
                it.wrong_peer = false;
            }
            if insists || is_better {
                known.addresses.sort_by_key(KnownAddress::rank);
                self.changed.insert(peer);
            }
            return insists;
        }
        known.addresses.push(KnownAddress {
            address: address.clone(),
            origin,
            last_success_ms: None,
            failures: 0,
            wrong_peer: false,
        });
        known.addresses.sort_by_key(KnownAddress::rank);
        let dropped = match known.addresses.len() > PEER_ADDRESSES_MAX {
            true => known.addresses.pop(),
            false => None,
        };
        let is_kept = dropped.is_none_or(|it| it.address != address);
        if is_kept {
            self.changed.insert(peer);
        }
        is_kept
    }

    /// Notes what came of the addresses of a peer.
    pub fn handle_race(&mut self, peer: PeerId, race: &AddressRace, now_ms: u64) {
        for (address, verdict) in race.verdicts() {
            match verdict {
                Verdict::Won => self.handle_success(peer, address, now_ms),
                Verdict::Failed => self.handle_failure(peer, address, false),
                Verdict::WrongPeer => self.handle_failure(peer, address, true),
                // The one that won goes before it from here on; it may be as good another day.
                Verdict::Overtaken | Verdict::Pending | Verdict::Untried => {}
            }
        }
    }

    /// Notes that the peer answered at an address.
    pub fn handle_success(&mut self, peer: PeerId, address: &Address, now_ms: u64) {
        self.touch(peer, now_ms);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let first = known.addresses.first().map(|it| it.address.clone());
        let Some(it) = known.addresses.iter_mut().find(|it| it.address == *address) else {
            return;
        };
        let written_ms = it.last_success_ms.unwrap_or(0);
        let is_news = it.failures > 0
            || first.as_ref() != Some(address)
            || now_ms.saturating_sub(written_ms) >= SUCCESS_WRITTEN_MS;
        it.failures = 0;
        it.wrong_peer = false;
        it.last_success_ms = Some(now_ms.max(written_ms));
        known.addresses.sort_by_key(KnownAddress::rank);
        if is_news {
            self.changed.insert(peer);
        }
    }

    /// Notes that an address did not lead to the peer, or to another one.
    pub fn handle_failure(&mut self, peer: PeerId, address: &Address, wrong_peer: bool) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Some(it) = known.addresses.iter_mut().find(|it| it.address == *address) {
            it.failures = it.failures.saturating_add(1);
            it.wrong_peer = wrong_peer;
            known.addresses.sort_by_key(KnownAddress::rank);
            self.changed.insert(peer);
        }
    }

    /// Forgets an address. Tells whether it was known.
    pub fn forget_address(&mut self, peer: PeerId, address: &Address) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        let before = known.addresses.len();
        known.addresses.retain(|it| it.address != *address);
        let was_known = known.addresses.len() < before;
        if was_known {
            self.changed.insert(peer);
        }
        was_known
    }

    /// Notes that a tree is shared with a peer. Tells whether there is room.
    pub fn share(&mut self, peer: PeerId, tree: TreeId, now_ms: u64) -> bool {
        if !self.touch(peer, now_ms) {
            return false;
        }
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        if known.trees.contains(&tree) {
            return true;
        }
        if known.trees.len() == PEER_TREES_MAX {
            return false;
        }
        known.trees.insert(tree);
        self.spare.remove(&(known.heard_ms, peer));
        self.changed.insert(peer);
        true
    }

    /// Notes that a tree is not shared with a peer.
    pub fn unshare(&mut self, peer: PeerId, tree: TreeId) {
        if let Some(known) = self.peers.get_mut(&peer)
            && known.trees.remove(&tree)
        {
            if known.trees.is_empty() {
                self.spare.insert((known.heard_ms, peer));
            }
            self.changed.insert(peer);
        }
    }

    /// Forgets a peer.
    pub fn remove(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.remove(&peer) {
            self.spare.remove(&(known.heard_ms, peer));
            self.changed.insert(peer);
        }
    }

    /// Notes that a peer was heard of, and makes room for it. Tells whether it is in the book.
    fn touch(&mut self, peer: PeerId, now_ms: u64) -> bool {
        if let Some(known) = self.peers.get_mut(&peer) {
            let before_ms = known.heard_ms;
            known.heard_ms = before_ms.max(now_ms);
            if known.trees.is_empty() {
                self.spare.remove(&(before_ms, peer));
                self.spare.insert((known.heard_ms, peer));
            }
            return true;
        }
        if self.peers.len() >= BOOK_PEERS_MAX {
            let Some((_, spare)) = self.spare.pop_first() else {
                return false;
            };
            self.peers.remove(&spare);
            self.changed.insert(spare);
        }
        let known = KnownPeer {
            heard_ms: now_ms,
            ..KnownPeer::default()
        };
        self.peers.insert(peer, known);
        self.spare.insert((now_ms, peer));
        true
    }

    /// Returns the next peer whose record is to be stored, and the record. `None` in its place: the
    /// record is to be removed.
    pub fn poll_changed(&mut self) -> Option<(PeerId, Option<Vec<u8>>)> {
        let peer = self.changed.pop_first()?;
        let record = self.peers.get(&peer).and_then(|known| {
            let mut bytes = vec![RECORD_VERSION];
            bytes.extend(postcard::to_allocvec(known).ok()?);
            Some(bytes)
        });
        Some((peer, record))
    }

    /// Puts a stored record back.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing has changed.
    pub fn insert_record(&mut self, peer: PeerId, record: &[u8]) -> Result<(), RecordError> {
        let (version, bytes) = record.split_first().ok_or(RecordError::Damaged)?;
        if *version != RECORD_VERSION {
            return Err(RecordError::Version(*version));
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::Damaged);
        }
        let mut known: KnownPeer = postcard::from_bytes(bytes).map_err(|_| RecordError::Damaged)?;
        if known.addresses.len() > PEER_ADDRESSES_MAX || known.trees.len() > PEER_TREES_MAX {
            return Err(RecordError::Damaged);
        }
        known.addresses.sort_by_key(KnownAddress::rank);
        if !self.touch(peer, known.heard_ms) {
            return Ok(());
        }
        if let Some(before) = self.peers.insert(peer, known)
            && let Some(known) = self.peers.get(&peer)
        {
            self.spare.remove(&(before.heard_ms, peer));
            if known.trees.is_empty() {
                self.spare.insert((known.heard_ms, peer));
            }
        }
        Ok(())
    }
}

/// Tells whether an address may mean the same peer elsewhere: not one of this machine alone, such
/// as loopback, and not one that means no machine, such as `0.0.0.0`.
///
/// What only a transport understands, such as an iroh ticket, passes: that transport leaves out
/// such addresses when it makes one.
pub fn may_pass_on(address: &Address) -> bool {
    use std::net::{IpAddr, SocketAddr};

    let value = address.value();
    let value = value.strip_prefix("//").unwrap_or(value);
    let authority = value.split(['/', '?', '#']).next().unwrap_or(value);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let ip = authority
        .parse::<SocketAddr>()
        .map(|it| it.ip())
        .or_else(|_| authority.trim_matches(['[', ']']).parse::<IpAddr>());
    if let Ok(ip) = ip {
        let ip = ip.to_canonical();
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.octets()[0] == 0 || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        return !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local);
    }
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    // Resolvers read 127.1, 0x7f000001 and 2130706433 as addresses too.
    let last = host.rsplit('.').next().unwrap_or(&host);
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    let is_scoped = host.starts_with('[');
    !(is_number || is_scoped || host == "localhost" || host.ends_with(".localhost"))
}

#[cfg(test)]
#[path = "peer_book_tests.rs"]
mod tests;
