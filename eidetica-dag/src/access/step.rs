//! One more entry on top of a state: what a linear history consists of.
//!
//! Where every other change is known to the author, the rule of [`super::seniority`] comes down to a
//! few comparisons, because nothing that was done before can be undone:
//!
//! * The change is made by the most senior tenure of its author that had no removal at its turn.
//!   All tenures of the author have their grants before the change, and a removal before the change
//!   does not support it.
//! * It ends tenures, but what those did precedes it and stays.
//! * A tenure that it begins has done nothing yet.
//!
//! There are two exceptions. To end a tenure can give effect to an earlier change that it withstood,
//! and a senior tenure for a key can take the effect from an earlier change that lowered the key.
//! These are rare, and resolved in full.

use std::sync::Arc;

use super::change_log::{ChangeLog, ChangeRef};
use super::rank::{Place, Rank};
use super::seniority::{Admin, Admins, Tenure};
use super::{AccessChange, Role, Subject};
use crate::key::PublicKey;
use crate::shared_set::SharedSet;

/// Applies the changes of the entry `number`, which follows all of `before`. Returns `None` if they
/// have to be resolved in full.
pub(crate) fn apply(
    admins: &Arc<Admins>,
    log: &ChangeLog,
    before: &SharedSet,
    number: u32,
) -> Option<Arc<Admins>> {
    if before.is_empty() {
        return None;
    }
    let mut after = admins.clone();
    let entry = log.row(number);
    for (index, change) in (0..).zip(&*entry.changes) {
        let AccessChange {
            subject: Subject::Key(key),
            role,
        } = *change
        else {
            continue;
        };
        if after.get(&key).is_none() && role < Some(Role::Admin) {
            continue;
        }
        let at = ChangeRef { number, index };
        let mut step = Step {
            log,
            before,
            at,
            author: entry.author,
            admins: Arc::make_mut(&mut after),
        };
        step.admins.entries.insert(number);
        if role < Some(Role::Admin) {
            step.lower(key, role)?;
        } else {
            step.appoint(key)?;
        }
    }
    Some(after)
}

struct Step<'a> {
    log: &'a ChangeLog,
    before: &'a SharedSet,
    at: ChangeRef,
    author: PublicKey,
    admins: &'a mut Admins,
}

impl Step<'_> {
    /// Returns the ranks of the author's tenures that support the change, from the most senior.
    fn ranks(&self) -> Vec<Arc<Rank>> {
        let author = self.admins.get(&self.author);
        let live = author.map_or(&[][..], |author| &author.live);
        live.iter().map(|tenure| tenure.rank.clone()).collect()
    }

    fn lower(&mut self, key: PublicKey, role: Option<Role>) -> Option<()> {
        let ranks = self.ranks();
        let mut admin = self.admins.get(&key).cloned().unwrap_or_default();
        let own = key == self.author;
        let withstands = |rank: &Arc<Rank>| {
            let stood = |tenure: &Tenure| {
                let later = tenure.felled_by.as_ref().is_none_or(|by| by > rank);
                tenure.rank <= *rank && later
            };
            !own && admin.live.iter().any(stood)
        };
        let by = ranks.iter().find(|rank| !withstands(rank));
        if by != ranks.first() {
            admin.withstood = true;
        }
        let Some(by) = by else {
            self.admins.void.push_front_mut(self.at);
            self.admins.keys.insert_mut(key, admin);
            return Some(());
        };
        if admin.withstood && !admin.live.is_empty() {
            return None;
        }
        for mut tenure in std::mem::take(&mut admin.live) {
            if !own && tenure.rank <= *by {
                admin.live.push(tenure);
                continue;
            }
            tenure.removals.push(self.at);
            let felled_by = tenure.felled_by.take().into_iter().chain([by.clone()]);
            tenure.felled_by = felled_by.min();
            admin.fallen.push_front_mut(tenure);
        }
        if !own {
            admin.lowered_by = admin.lowered_by.take().max(Some(by.clone()));
        }
        admin.latest = vec![(self.at, role)];
        self.admins.keys.insert_mut(key, admin);
        Some(())
    }

    fn appoint(&mut self, key: PublicKey) -> Option<()> {
        let maker = self.ranks().into_iter().next();
        let mut admin = match self.admins.get(&key) {
            Some(admin) => admin.clone(),
            None => self.newcomer(key),
        };
        if let Some(maker) = maker {
            let entry = self.log.row(self.at.number);
            let rank = Rank::new(Some(maker), Place::of(entry, self.at.index));
            if admin.lowered_by.as_ref().is_some_and(|by| *by > rank) {
                return None;
            }
            let tenure = Tenure {
                rank,
                grant: Some(self.at),
                removals: Vec::new(),
                felled_by: None,
            };
            let place = admin.live.partition_point(|it| it.rank < tenure.rank);
            admin.live.insert(place, tenure);
            admin.latest = vec![(self.at, Some(Role::Admin))];
        } else {
            self.admins.void.push_front_mut(self.at);
        }
        self.admins.keys.insert_mut(key, admin);
        Some(())
    }

    /// Returns what there is about a key that was never made admin, which matters from here on.
    fn newcomer(&mut self, key: PublicKey) -> Admin {
        let mut admin = Admin::default();
        let is_before = |change: &ChangeRef| {
            self.before.contains(change.number)
                || (change.number == self.at.number && change.index < self.at.index)
        };
        let about: Vec<ChangeRef> = self
            .log
            .about(&Subject::Key(key))
            .filter(is_before)
            .collect();
        for change in about {
            self.admins.entries.insert(change.number);
            let author = &self.log.row(change.number).author;
            let by = self.admins.supporting(self.log, author, change);
            let Some(by) = by.map(|tenure| tenure.rank.clone()).min() else {
                self.admins.void.push_front_mut(change);
                continue;
            };
            admin.lowered_by = admin.lowered_by.take().max(Some(by));
            let follows = |(later, _): &(ChangeRef, _)| self.log.follows(*later, change);
            if !admin.latest.iter().any(follows) {
                let role = self.log.change(change).role;
                admin.latest.push((change, role));
            }
        }
        admin
    }
}
