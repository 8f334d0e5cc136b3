//! The rule by which concurrent changes of access are judged: strong removal by seniority.
//!
//! Changes that know of each other are simple: the later one counts. The rule is about changes that
//! do not. A removed admin can always extend what was there before its removal, so nothing that
//! it can choose may decide: not heights, not ids, not the number of helpers that it makes admins.
//! What it cannot choose is **who made it admin**, and that is what decides.
//!
//! 1. A *tenure* is a key that was made admin, and the grant that did it. The author of the root has
//!    the most senior one. The admins that the root names follow, in the order of its list. Every
//!    other tenure is junior to the tenure by which its grant was made; among those equally far from
//!    the root, the one whose maker is senior is senior, then the one with the lower height of
//!    the grant, the lower id, the earlier place in the entry. So no admin makes another who is senior
//!    to themselves, and who is senior to whom is the same on every replica.
//! 2. Tenures are taken from the most senior down. A change by a tenure's key that follows the
//!    tenure's grant is *supported*, unless an effective removal of that key, by a senior tenure or by
//!    the key itself, that the grant did not know of, does not follow the change. In other words: what
//!    a removed admin did before its removal counts, what it does without knowing of it does not, and
//!    what it does after a grant that knew of the removal counts again.
//! 3. A supported change that lowers another key has no effect while that key has a standing tenure that
//!    is senior to the author's: juniors cannot remove seniors. Every other supported change is
//!    effective. A key's removals of itself are taken before its other changes.
//! 4. A tenure *stands* if no effective removal as in 2 is about it. Who has a standing tenure is
//!    admin. Everyone else has the lowest role among the effective changes about them that no
//!    other effective one follows: where a grant and a removal are concurrent, the removal counts.
//!    The grant of a tenure that fell gives nothing.
//!
//! **Several changes in one entry** are read as so many entries in a row, by the same author: each
//! follows those before it in the list. An admin who gives up the role and appoints another in one
//! entry appoints first; in the other order the appointment comes from a key that has given up the
//! role, and has no effect.
//!
//! **What this costs.** Only changes about keys that were ever made admin take part in rules 1 to 3;
//! everything else is worked out for one key on request ([`Resolved::role_of`]). For
//! n changes about a key that was ever admin, resolving takes n · log n steps, times the number of
//! removals of one key which are concurrent with each other: few, unless an admin is hostile.
//!
//! [`Resolved::role_of`]: super::resolved::Resolved::role_of

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use rpds::{ListSync, RedBlackTreeMapSync};

use super::change_log::{ChangeLog, ChangeRef};
use super::rank::Rank;
use super::{AccessChange, Role, Subject};
use crate::key::PublicKey;
use crate::shared_set::SharedSet;

/// A key that was made admin, by one grant.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    pub(crate) rank: Arc<Rank>,
    /// `None`: it is the author of the root.
    pub(crate) grant: Option<ChangeRef>,
    /// The removals of rule 2 that had an effect at this tenure's turn and that none of the others
    /// precedes. They and the ones that follow them are all such removals.
    pub(crate) removals: Vec<ChangeRef>,
    /// The rank by which it fell, if it fell. A key that removes itself under a junior tenure fells
    /// its senior ones as well, but only after their turn.
    pub(crate) felled_by: Option<Arc<Rank>>,
}

impl Tenure {
    /// Tells whether a change follows the grant and precedes every removal.
    fn supports(&self, log: &ChangeLog, change: ChangeRef) -> bool {
        let follows_grant = |grant| log.follows(change, grant);
        self.grant.is_none_or(follows_grant)
            && self
                .removals
                .iter()
                .all(|removal| *removal == change || log.follows(*removal, change))
    }
}

/// What is known of a key that was ever made admin, or tried to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admin {
    /// The tenures without a removal at their turn, from the most senior.
    pub(crate) live: Vec<Tenure>,
    /// All others.
    pub(crate) fallen: ListSync<Tenure>,
    /// The effective changes about it that no other effective one follows.
    pub(crate) latest: Vec<(ChangeRef, Option<Role>)>,
    /// The most junior rank of an effective change by another key that lowers this one.
    pub(crate) lowered_by: Option<Arc<Rank>>,
    /// Whether a change that lowers it had no effect because it was senior.
    pub(crate) withstood: bool,
}

impl Admin {
    pub(crate) fn stands(&self) -> bool {
        self.live.iter().any(|tenure| tenure.felled_by.is_none())
    }

    pub(crate) fn role(&self) -> Option<Role> {
        if self.stands() {
            return Some(Role::Admin);
        }
        let roles = self.latest.iter().map(|(_, role)| *role);
        roles.filter(|role| *role < Some(Role::Admin)).min()?
    }
}

/// Who was ever made admin by a set of changes, and what became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admins {
    /// The entries with a change about one of these keys. They determine everything else here.
    pub(crate) entries: SharedSet,
    pub(crate) keys: RedBlackTreeMapSync<PublicKey, Admin>,
    /// The changes about these keys that have no effect.
    pub(crate) void: ListSync<ChangeRef>,
}

impl Admins {
    pub(crate) fn get(&self, key: &PublicKey) -> Option<&Admin> {
        self.keys.get(key)
    }

    /// Tells whether a change by `author` is supported by one of its tenures: all that matters for
    /// changes about keys that were never admin.
    pub(crate) fn supports(&self, log: &ChangeLog, author: &PublicKey, change: ChangeRef) -> bool {
        self.supporting(log, author, change).next().is_some()
    }

    /// Lists the tenures of `author` that support a change.
    pub(crate) fn supporting<'a>(
        &'a self,
        log: &'a ChangeLog,
        author: &PublicKey,
        change: ChangeRef,
    ) -> impl Iterator<Item = &'a Tenure> + 'a {
        let admin = self.keys.get(author).into_iter();
        admin
            .flat_map(|admin| admin.live.iter().chain(admin.fallen.iter()))
            .filter(move |tenure| tenure.supports(log, change))
    }

    /// Works out the admins of a join, unless one of the joined states has the same.
    pub(crate) fn shared(log: &ChangeLog, changes: &SharedSet, known: &[&Arc<Self>]) -> Arc<Self> {
        let first = known[0];
        if known.iter().all(|it| it.entries == first.entries) {
            return first.clone();
        }
        Self::of(log, changes, known)
    }

    /// Works out the admins of a set of changes, unless some that are known have the same.
    pub(crate) fn of(log: &ChangeLog, changes: &SharedSet, known: &[&Arc<Self>]) -> Arc<Self> {
        let entries = entries_about_admins(log, changes);
        match known.iter().find(|it| it.entries == entries) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self::resolve(log, changes)),
        }
    }

    /// Applies the rule to a set of changes.
    pub(crate) fn resolve(log: &ChangeLog, changes: &SharedSet) -> Self {
        let mut resolving = Resolving::new(log, changes);
        while let Some(Reverse(pending)) = resolving.ahead.pop() {
            resolving.take(&pending);
        }
        resolving.finish(entries_about_admins(log, changes))
    }
}

fn entries_about_admins(log: &ChangeLog, changes: &SharedSet) -> SharedSet {
    let keys = log.admins_among(changes);
    let about = keys.flat_map(|key| log.about(&Subject::Key(key)));
    let numbers = about.map(|change| change.number);
    // The root is always one: it makes its author admin.
    let root = changes.contains(0).then_some(0);
    let counted = numbers.filter(|number| changes.contains(*number));
    root.into_iter().chain(counted).collect()
}

/// A tenure that has not had its turn. The order of the fields is the order of seniority: everything
/// that is taken earlier is senior, so the turn of the maker represents the maker's rank.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    depth: u32,
    maker: usize,
    place: super::rank::Place,
    key: PublicKey,
    /// The grant, as an index of a fact.
    grant: Option<usize>,
}

/// A change about a key that was ever made admin.
struct Fact {
    at: ChangeRef,
    author: PublicKey,
    key: PublicKey,
    role: Option<Role>,
    /// The turn of the most senior tenure by which it is effective.
    effective: Option<usize>,
}

impl Fact {
    fn lowers(&self) -> bool {
        self.role < Some(Role::Admin)
    }
}

/// A tenure that has had its turn.
struct Taken {
    key: PublicKey,
    tenure: Tenure,
    depth: u32,
    /// The earliest turn by which it fell.
    felled_at: Option<usize>,
}

#[derive(Default)]
struct KeyFacts {
    /// The changes that it made, its removals of itself first, then by height and id.
    made: Vec<usize>,
    /// The effective changes that lower it.
    removals: Vec<usize>,
    /// Its tenures that have had their turn.
    tenures: Vec<usize>,
    withstood: bool,
}

struct Resolving<'l> {
    log: &'l ChangeLog,
    facts: Vec<Fact>,
    keys: BTreeMap<PublicKey, KeyFacts>,
    ahead: BinaryHeap<Reverse<Pending>>,
    taken: Vec<Taken>,
}

impl<'l> Resolving<'l> {
    fn new(log: &'l ChangeLog, changes: &SharedSet) -> Self {
        let mut facts = Vec::new();
        let mut keys = BTreeMap::new();
        for key in log.admins_among(changes) {
            keys.insert(key, KeyFacts::default());
            let about = log.about(&Subject::Key(key));
            facts.extend(about.filter(|at| changes.contains(at.number)).map(|at| {
                let AccessChange { role, .. } = log.change(at);
                let author = log.row(at.number).author;
                Fact {
                    at,
                    author,
                    key,
                    role,
                    effective: None,
                }
            }));
        }
        facts.sort_unstable_by_key(|fact| {
            let entry = log.row(fact.at.number);
            (entry.height, entry.id, fact.at.index)
        });
        for removes_itself in [true, false] {
            for (index, fact) in facts.iter().enumerate() {
                let own = fact.lowers() && fact.key == fact.author;
                if own == removes_itself {
                    let by: &mut KeyFacts = keys.entry(fact.author).or_default();
                    by.made.push(index);
                }
            }
        }
        let founder = log.get(0).filter(|_| changes.contains(0));
        let ahead = founder.map(|root| {
            Reverse(Pending {
                depth: 0,
                maker: 0,
                place: super::rank::Place::default(),
                key: root.author,
                grant: None,
            })
        });
        Self {
            log,
            facts,
            keys,
            ahead: ahead.into_iter().collect(),
            taken: Vec::new(),
        }
    }

    fn follows(&self, later: usize, earlier: usize) -> bool {
        let (later, earlier) = (self.facts[later].at, self.facts[earlier].at);
        self.log.follows(later, earlier)
    }

    /// Gives a tenure its turn.
    fn take(&mut self, pending: &Pending) {
        let turn = self.taken.len();
        let key = pending.key;
        let known = |removal: usize| {
            let by_grant = |grant| self.follows(grant, removal);
            pending.grant.is_some_and(by_grant)
        };
        let KeyFacts { removals, made, .. } = &self.keys[&key];
        let against = removals.iter().copied().filter(|removal| !known(*removal));
        let felled_at = against.clone().filter_map(|it| self.facts[it].effective);
        let felled_at = felled_at.min();
        let mut removals = Vec::new();
        for removal in against {
            self.add_earliest(&mut removals, removal);
        }
        let made: Vec<usize> = made
            .iter()
            .copied()
            .filter(|it| self.facts[*it].effective.is_none())
            .filter(|it| pending.grant.is_none_or(|grant| self.follows(*it, grant)))
            .collect();
        let rank = self.rank(pending);
        self.taken.push(Taken {
            key,
            tenure: Tenure {
                rank,
                grant: pending.grant.map(|grant| self.facts[grant].at),
                removals: Vec::new(),
                felled_by: None,
            },
            depth: pending.depth,
            felled_at,
        });
        self.of(&key).tenures.push(turn);
        for change in made {
            let precedes = |removal: &usize| self.follows(*removal, change);
            if removals.iter().all(precedes) && self.carry_out(turn, change) {
                let fact = &self.facts[change];
                if fact.lowers() && fact.key == key {
                    self.add_earliest(&mut removals, change);
                }
            }
        }
        let removals = removals.iter().map(|it| self.facts[*it].at).collect();
        self.taken[turn].tenure.removals = removals;
    }

    /// Makes a supported change effective, unless it would lower a senior. Returns whether it did.
    fn carry_out(&mut self, turn: usize, change: usize) -> bool {
        let Fact {
            key,
            author,
            role,
            at,
            ..
        } = self.facts[change];
        if role < Some(Role::Admin) {
            let stands = |tenure: &usize| self.taken[*tenure].felled_at.is_none();
            if key != author && self.keys[&key].tenures.iter().any(stands) {
                self.of(&key).withstood = true;
                return false;
            }
            self.facts[change].effective = Some(turn);
            self.of(&key).removals.push(change);
            // Tenures that had their turn are senior: only the key itself can end them.
            if key == author {
                self.end_own(turn, change, &key);
            }
            return true;
        }
        self.facts[change].effective = Some(turn);
        let entry = self.log.row(at.number);
        let depth = match at.number {
            0 => 0,
            _ => self.taken[turn].depth + 1,
        };
        self.ahead.push(Reverse(Pending {
            depth,
            maker: turn,
            place: super::rank::Place::of(entry, at.index),
            key,
            grant: Some(change),
        }));
        true
    }

    /// Ends the tenures of a key that removes itself.
    fn end_own(&mut self, turn: usize, removal: usize, key: &PublicKey) {
        for tenure in self.keys[key].tenures.clone() {
            let Taken {
                tenure: Tenure { grant, .. },
                felled_at,
                ..
            } = &self.taken[tenure];
            let by = self.facts[removal].at;
            let known = grant.is_some_and(|grant| self.log.follows(grant, by));
            if !known && felled_at.is_none() {
                self.taken[tenure].felled_at = Some(turn);
            }
        }
    }

    /// Adds a removal, and keeps only the ones that follow no other.
    fn add_earliest(&self, removals: &mut Vec<usize>, removal: usize) {
        if removals.iter().any(|other| self.follows(removal, *other)) {
            return;
        }
        removals.retain(|other| !self.follows(*other, removal));
        removals.push(removal);
    }

    fn rank(&self, pending: &Pending) -> Arc<Rank> {
        let maker = (pending.depth > 0).then(|| &self.taken[pending.maker].tenure.rank);
        Rank::new(maker.cloned(), pending.place)
    }

    fn of(&mut self, key: &PublicKey) -> &mut KeyFacts {
        self.keys.entry(*key).or_default()
    }

    fn finish(self, entries: SharedSet) -> Admins {
        let mut latest: BTreeMap<PublicKey, Vec<(ChangeRef, Option<Role>)>> = BTreeMap::new();
        // What follows is higher, so it comes first.
        for fact in self.facts.iter().rev() {
            let about = latest.entry(fact.key).or_default();
            let follows = |(later, _): &(ChangeRef, _)| self.log.follows(*later, fact.at);
            if fact.effective.is_some() && !about.iter().any(follows) {
                about.push((fact.at, fact.role));
            }
        }
        let mut keys = RedBlackTreeMapSync::new_sync();
        let rank = |turn: usize| self.taken[turn].tenure.rank.clone();
        for (key, facts) in &self.keys {
            let mut admin = Admin {
                latest: latest.remove(key).unwrap_or_default(),
                withstood: facts.withstood,
                ..Admin::default()
            };
            for taken in facts.tenures.iter().map(|turn| &self.taken[*turn]) {
                debug_assert_eq!(taken.key, *key);
                let felled_by = taken.felled_at.map(rank);
                let tenure = Tenure {
                    felled_by,
                    ..taken.tenure.clone()
                };
                if tenure.removals.is_empty() {
                    admin.live.push(tenure);
                } else {
                    admin.fallen.push_front_mut(tenure);
                }
            }
            let by_others = facts.removals.iter().map(|it| &self.facts[*it]);
            let by_others = by_others.filter(|fact| fact.author != *key);
            let turns = by_others.filter_map(|fact| fact.effective);
            admin.lowered_by = turns.max().map(rank);
            keys.insert_mut(*key, admin);
        }
        let void = self.facts.iter().filter(|fact| fact.effective.is_none());
        let void = void.map(|fact| fact.at).collect();
        Admins {
            entries,
            keys,
            void,
        }
    }
}
