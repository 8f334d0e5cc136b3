//! Who gives way when there is no room for one more request to join.
//!
//! Whether a tree is here makes no difference: an answer must not reveal it. So one rule holds for
//! all trees, and counts the requests for absent ones like others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use eidetica_dag::{PublicKey, TreeId};

use super::Waiting;

/// Most requests that wait for one tree, rejected ones not counted: more than an admin reads. One
/// takes at most half a kilobyte.
pub const REQUESTS_PER_TREE_MAX: usize = 128;

/// Most requests of one key: a device joins a few trees of a peer.
pub const REQUESTS_PER_KEY_MAX: usize = 16;

/// Most requests in all, rejected ones included: half a megabyte.
pub const REQUESTS_MAX: usize = 1_024;

/// Most bytes of the name of a source, so that a record stays small.
const SOURCE_BYTES_MAX: usize = 64;

/// A request to join that is pending or was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The tree, which need not be here.
    pub tree: TreeId,
    /// The requester's key, which it has proved.
    pub key: PublicKey,
    /// What was requested, and whether it was rejected.
    pub waiting: Waiting,
}

/// Whether one more request can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It can, once these requests, given by their places in the list, are removed; most often none.
    After(Vec<usize>),
    /// It cannot.
    None,
}

/// Decides whether a request of `key` for `tree` from `source` can be kept beside others.
///
/// A key that has the most for one key loses its oldest. Where a tree or the whole list is full, a
/// rejected request is removed first. Then the source with the most requests loses its latest, if it
/// has more than the newcomer's source would then have: a flood from one network keeps out no other,
/// and what was there before it stays.
pub fn room_for(kept: &[JoinRequest], tree: TreeId, key: &PublicKey, source: &str) -> Room {
    let mut removed = Vec::new();
    for limit in [Limit::Key, Limit::Tree, Limit::All] {
        let mut counted: Vec<usize> = (0..kept.len())
            .filter(|at| !removed.contains(at) && limit.counts(&kept[*at], tree, key))
            .collect();
        if counted.len() < limit.most() {
            continue;
        }
        counted.sort_by_key(|at| kept[*at].waiting.asked_ms);
        let rejected = counted.iter().find(|at| kept[**at].waiting.rejected);
        let victim = match limit {
            Limit::Key => counted.first(),
            Limit::Tree | Limit::All => {
                rejected.or_else(|| latest_of_largest(kept, &counted, source))
            }
        };
        match victim {
            Some(victim) => removed.push(*victim),
            None => return Room::None,
        }
    }
    Room::After(removed)
}

/// Returns the latest request of the source that has the most, if that is more than `source` would
/// have with one more. `counted` is in the order of time.
fn latest_of_largest<'a>(
    kept: &[JoinRequest],
    counted: &'a [usize],
    source: &str,
) -> Option<&'a usize> {
    let mut by_source: BTreeMap<&str, usize> = BTreeMap::new();
    for at in counted {
        *by_source.entry(&kept[*at].waiting.source).or_default() += 1;
    }
    let own = by_source.get(source).copied().unwrap_or(0);
    let (largest, most) = by_source.into_iter().max_by_key(|(_, count)| *count)?;
    let mut newest_first = counted.iter().rev();
    newest_first.find(|at| most > own + 1 && kept[**at].waiting.source == largest)
}

/// What there can be too much of.
#[derive(Clone, Copy)]
enum Limit {
    Key,
    Tree,
    All,
}

impl Limit {
    fn counts(self, request: &JoinRequest, tree: TreeId, key: &PublicKey) -> bool {
        match self {
            Self::Key => !request.waiting.rejected && request.key == *key,
            Self::Tree => !request.waiting.rejected && request.tree == tree,
            Self::All => true,
        }
    }

    fn most(self) -> usize {
        match self {
            Self::Key => REQUESTS_PER_KEY_MAX,
            Self::Tree => REQUESTS_PER_TREE_MAX,
            Self::All => REQUESTS_MAX,
        }
    }
}

/// Returns the source of a request that came from `remote` over a transport: the address without its
/// port, for IPv6 the network of 64 bits that one subscriber has. What came through a relay has no
/// address of its own; all that is one source.
pub fn source_of(transport: &str, remote: &str) -> String {
    let address = remote
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| remote.parse::<IpAddr>());
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) => transport.chars().take(SOURCE_BYTES_MAX / 4).collect(),
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::EntryId;
    use eidetica_dag::testing::key;

    use super::*;
    use eidetica_dag::Role;

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    fn request(of: u8, by: u32, source: &str, asked_ms: u64) -> JoinRequest {
        JoinRequest {
            tree: tree(of),
            key: key(by).public(),
            waiting: Waiting {
                role: Role::Read,
                note: String::new(),
                asked_ms,
                rejected: false,
                source: source.into(),
            },
        }
    }

    /// Keeps a request as far as there is room, and tells whether there was.
    fn ask(kept: &mut Vec<JoinRequest>, request: JoinRequest) -> bool {
        let source = request.waiting.source.clone();
        let Room::After(mut removed) = room_for(kept, request.tree, &request.key, &source) else {
            return false;
        };
        removed.sort();
        for at in removed.into_iter().rev() {
            kept.remove(at);
        }
        kept.push(request);
        true
    }

    #[test]
    fn a_flood_from_one_source_keeps_no_other_out() {
        let mut kept = Vec::new();
        assert!(ask(&mut kept, request(1, 1, "early", 0)));
        for n in 0..1_000 {
            let is_kept = ask(&mut kept, request(1, 100 + n, "flood", 1 + u64::from(n)));
            assert_eq!(is_kept, n < REQUESTS_PER_TREE_MAX as u32 - 1);
        }
        assert_eq!(kept.len(), REQUESTS_PER_TREE_MAX);
        for n in 0..50 {
            let source = format!("honest {n}");
            assert!(ask(&mut kept, request(1, 10_000 + n, &source, 5_000)));
        }
        assert_eq!(kept.len(), REQUESTS_PER_TREE_MAX);
        // What was first stays, in the flood as well.
        let is_there = |by: u32| kept.iter().any(|it| it.key == key(by).public());
        assert!(is_there(1) && is_there(100) && is_there(10_000) && is_there(10_049));
        assert!(!is_there(100 + 126));
    }

    #[test]
    fn floods_for_many_trees_are_bounded_in_all() {
        let mut kept = Vec::new();
        for n in 0..2_000_u32 {
            let of = (n % 200) as u8;
            ask(&mut kept, request(of, 100 + n, "flood", u64::from(n)));
        }
        assert_eq!(kept.len(), REQUESTS_MAX);
        assert!(ask(&mut kept, request(1, 1, "honest", 9_000)));
        assert_eq!(kept.len(), REQUESTS_MAX);
        // Rejected requests go first, even those of other sources than the largest.
        kept[3].waiting.rejected = true;
        let rejected = kept[3].clone();
        assert!(ask(&mut kept, request(2, 2, "honest", 9_001)));
        assert!(!kept.contains(&rejected));
        assert_eq!(kept.len(), REQUESTS_MAX);
    }

    #[test]
    fn a_key_with_many_requests_loses_its_oldest() {
        let mut kept = vec![request(0, 2, "other", 0)];
        for n in 0..REQUESTS_PER_KEY_MAX as u8 + 3 {
            assert!(ask(&mut kept, request(n, 1, "own", u64::from(n))));
        }
        let own = kept.iter().filter(|it| it.key == key(1).public());
        let first = own.clone().map(|it| it.tree).next();
        assert_eq!(own.count(), REQUESTS_PER_KEY_MAX);
        assert_eq!(first, Some(tree(3)));
        assert_eq!(kept.len(), REQUESTS_PER_KEY_MAX + 1);
    }

    #[test]
    fn sources_are_networks() {
        for (remote, source) in [
            ("192.0.2.7:4433", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
            ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("3f2a9c01d4", "iroh"),
            ("", "iroh"),
        ] {
            assert_eq!(source_of("iroh", remote), source);
        }
    }
}
