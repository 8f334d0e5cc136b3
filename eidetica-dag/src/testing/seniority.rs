//! The rule of seniority as a literal program: what [`crate::access`] is compared with.
//!
//! It favours being read over being fast, and shares nothing with the implementation but the names
//! of roles and keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::access::{Role, Subject};
use crate::id::EntryId;

/// One change of access.
#[derive(Debug, Clone)]
pub struct Change {
    /// Who made it.
    pub author: Subject,
    /// Whom it is about.
    pub subject: Subject,
    /// The role from here on; below admin it removes an admin.
    pub role: Option<Role>,
    /// The height of its entry; zero in the root.
    pub height: u32,
    /// Its entry.
    pub id: EntryId,
    /// Its place in the entry.
    pub index: u32,
    /// The changes that it follows, as indexes of the list: those of its entry's ancestors, and those
    /// before it in the entry.
    pub past: BTreeSet<usize>,
}

/// Lower is senior: depth, the maker's rank, and the place of the grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u32, Option<Box<Self>>, (u32, EntryId, u32));

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tenure {
    rank: Rank,
    key: Subject,
    /// `None`: the root itself.
    grant: Option<usize>,
}

/// What became of a set of changes.
#[derive(Debug)]
pub struct Resolution<'c> {
    changes: &'c [Change],
    /// The effective changes with their ranks.
    effective: BTreeMap<usize, Rank>,
    tenures: Vec<Tenure>,
}

impl Resolution<'_> {
    fn knew(&self, tenure: &Tenure, change: usize) -> bool {
        tenure
            .grant
            .is_some_and(|grant| self.changes[grant].past.contains(&change))
    }

    /// Lists the effective removals of the tenure's key, by a senior or by itself, that its grant did
    /// not know.
    fn removals(&self, tenure: &Tenure) -> Vec<usize> {
        let mut removals = Vec::new();
        for (id, rank) in &self.effective {
            let change = &self.changes[*id];
            let removes = change.subject == tenure.key && change.role < Some(Role::Admin);
            let counts = *rank < tenure.rank || change.author == tenure.key;
            if removes && counts && !self.knew(tenure, *id) {
                removals.push(*id);
            }
        }
        removals
    }

    fn stands(&self, tenure: &Tenure) -> bool {
        self.removals(tenure).is_empty()
    }

    fn supported(&self, change: usize, tenure: &Tenure) -> bool {
        let precedes =
            |removal: &usize| *removal == change || self.changes[*removal].past.contains(&change);
        self.removals(tenure).iter().all(precedes)
    }

    /// Tells whether a change has an effect.
    pub fn is_effective(&self, change: usize) -> bool {
        self.effective.contains_key(&change)
    }

    /// Returns the role of every subject that has one.
    pub fn roles(&self) -> BTreeMap<Subject, Role> {
        let mut roles = BTreeMap::new();
        for tenure in self.tenures.iter().filter(|tenure| self.stands(tenure)) {
            roles.insert(tenure.key, Role::Admin);
        }
        let subjects: BTreeSet<Subject> = self.changes.iter().map(|it| it.subject).collect();
        for subject in subjects {
            if roles.contains_key(&subject) {
                continue;
            }
            let about = self.effective.keys().copied();
            let about: Vec<usize> = about
                .filter(|id| self.changes[*id].subject == subject)
                .collect();
            let is_latest = |id: &usize| {
                let follows = |other: &usize| self.changes[*other].past.contains(id);
                !about.iter().any(follows)
            };
            let latest = about.iter().filter(|id| is_latest(id));
            // An admin grant whose tenure fell gives nothing; what felled it is among the others.
            let lower = latest
                .map(|id| self.changes[*id].role)
                .filter(|role| *role < Some(Role::Admin));
            if let Some(Some(role)) = lower.min() {
                roles.insert(subject, role);
            }
        }
        roles
    }
}

/// Applies the rule to a set of changes in a tree of this author.
pub fn resolve(founder: Subject, changes: &[Change]) -> Resolution<'_> {
    let root = Rank(0, None, (0, EntryId::from_bytes([0; 32]), 0));
    let mut so_far = Resolution {
        changes,
        effective: BTreeMap::new(),
        tenures: Vec::new(),
    };
    let mut heap = BinaryHeap::from([Reverse(Tenure {
        rank: root,
        key: founder,
        grant: None,
    })]);
    while let Some(Reverse(tenure)) = heap.pop() {
        so_far.tenures.push(tenure.clone());
        let follows_grant = |change: &Change| match tenure.grant {
            None => true,
            Some(grant) => change.past.contains(&grant),
        };
        let is_own = |id: &usize| {
            let change = &changes[*id];
            change.author == tenure.key
                && !so_far.effective.contains_key(id)
                && follows_grant(change)
        };
        let mut own: Vec<usize> = (0..changes.len()).filter(is_own).collect();
        own.sort_by_key(|id| {
            let change = &changes[*id];
            let removes_itself = change.subject == change.author && change.role < Some(Role::Admin);
            (!removes_itself, change.height, change.id, change.index)
        });
        for id in own {
            let change = &changes[id];
            if !so_far.supported(id, &tenure) {
                continue;
            }
            let lowers_another = change.role < Some(Role::Admin) && change.subject != tenure.key;
            let withstands = |other: &Tenure| {
                other.key == change.subject && other.rank <= tenure.rank && so_far.stands(other)
            };
            if lowers_another && so_far.tenures.iter().any(withstands) {
                continue;
            }
            so_far.effective.insert(id, tenure.rank.clone());
            if change.role == Some(Role::Admin) {
                let place = (change.height, change.id, change.index + 1);
                // Admins that the root names are as near to it as its author, and junior to it.
                let rank = match change.height {
                    0 => Rank(0, None, place),
                    _ => Rank(
                        tenure.rank.0 + 1,
                        Some(Box::new(tenure.rank.clone())),
                        place,
                    ),
                };
                heap.push(Reverse(Tenure {
                    rank,
                    key: change.subject,
                    grant: Some(id),
                }));
            }
        }
    }
    so_far
}
