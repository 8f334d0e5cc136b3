//! The rule of seniority: drawn cases, and random quarrels compared with the slow rule.
//!
//! `EIDETICA_QUARRELS` sets how many random histories are tried; in an optimised build, a hundred
//! thousand take a few minutes.

use std::collections::BTreeMap;

use eidetica_dag::testing::quarrel::{Quarrel, bare_subject, set};
use eidetica_dag::testing::random::Random;
use eidetica_dag::{AccessChange, Role, Subject};

const NONE: Option<Role> = None;
const READ: Option<Role> = Some(Role::Read);
const WRITE: Option<Role> = Some(Role::Write);
const ADMIN: Option<Role> = Some(Role::Admin);

/// The author of the root, and others.
const FOUNDER: u32 = 0;
const ANN: u32 = 1;
const BEN: u32 = 2;
const CAT: u32 = 3;

#[expect(
    clippy::disallowed_methods,
    reason = "the environment says how long the tests may take"
)]
fn histories() -> u64 {
    match std::env::var("EIDETICA_QUARRELS") {
        Ok(text) => text.parse().expect("EIDETICA_QUARRELS is a number"),
        Err(_) => 2_000,
    }
}

/// Adds an entry on top of all others, by an author who may.
fn add(quarrel: &mut Quarrel, author: u32, changes: Vec<AccessChange>) -> usize {
    let heads = quarrel.heads();
    add_on(quarrel, author, &heads, changes)
}

fn add_on(
    quarrel: &mut Quarrel,
    author: u32,
    parents: &[usize],
    changes: Vec<AccessChange>,
) -> usize {
    let added = quarrel.add(author, parents, changes);
    added.unwrap_or_else(|| panic!("{author} is no admin on {parents:?}"))
}

/// Checks that the implementation says the same as the slow rule, and returns the role.
fn role(quarrel: &Quarrel, number: u32) -> Option<Role> {
    let found: BTreeMap<Subject, Role> = quarrel.current().roles().collect();
    assert_eq!(found, quarrel.roles());
    let role = quarrel.current().own_role(&bare_subject(number));
    assert_eq!(role, quarrel.role(number));
    role
}

#[test]
fn a_removed_admin_takes_nothing_over() {
    let mut quarrel = Quarrel::new(1, vec![set(CAT, WRITE)]);
    let grant = add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, NONE)]);
    // Ann makes the old branch higher, grants herself, and removes the founder.
    let mut tip = grant;
    for _ in 0..9 {
        tip = add_on(&mut quarrel, ANN, &[tip], vec![set(ANN, ADMIN)]);
    }
    add_on(
        &mut quarrel,
        ANN,
        &[tip],
        vec![set(FOUNDER, NONE), set(CAT, NONE)],
    );
    assert_eq!(role(&quarrel, FOUNDER), ADMIN);
    assert_eq!(role(&quarrel, ANN), NONE);
    assert_eq!(role(&quarrel, CAT), WRITE);
    // A grant that knows of the removal works.
    add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    assert_eq!(role(&quarrel, ANN), ADMIN);
    add(&mut quarrel, ANN, vec![set(CAT, READ)]);
    assert_eq!(role(&quarrel, CAT), READ);
}

#[test]
fn of_two_that_remove_each_other_the_senior_stays() {
    let mut quarrel = Quarrel::new(2, vec![]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    let both = add(&mut quarrel, FOUNDER, vec![set(BEN, ADMIN)]);
    add_on(&mut quarrel, ANN, &[both], vec![set(BEN, NONE)]);
    add_on(&mut quarrel, BEN, &[both], vec![set(ANN, NONE)]);
    assert_eq!(role(&quarrel, ANN), ADMIN);
    assert_eq!(role(&quarrel, BEN), NONE);
}

#[test]
fn juniors_cannot_remove_seniors_even_when_they_know_everything() {
    let mut quarrel = Quarrel::new(3, vec![set(ANN, ADMIN), set(BEN, ADMIN)]);
    add(&mut quarrel, BEN, vec![set(ANN, NONE), set(FOUNDER, NONE)]);
    assert_eq!(role(&quarrel, FOUNDER), ADMIN);
    assert_eq!(role(&quarrel, ANN), ADMIN, "the root names her before him");
    add(&mut quarrel, ANN, vec![set(BEN, NONE)]);
    assert_eq!(role(&quarrel, BEN), NONE);
}

#[test]
fn puppets_are_junior_to_their_maker() {
    let mut quarrel = Quarrel::new(4, vec![]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    let puppets = add(&mut quarrel, ANN, vec![set(BEN, ADMIN), set(CAT, ADMIN)]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, NONE)]);
    add_on(&mut quarrel, BEN, &[puppets], vec![set(FOUNDER, NONE)]);
    add_on(&mut quarrel, CAT, &[puppets], vec![set(FOUNDER, NONE)]);
    assert_eq!(role(&quarrel, FOUNDER), ADMIN);
    assert_eq!(role(&quarrel, ANN), NONE);
    assert_eq!(role(&quarrel, BEN), ADMIN, "made before the removal");
    // Puppets that are made beside the removal are none.
    let mut quarrel = Quarrel::new(4, vec![]);
    let grant = add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, NONE)]);
    let puppet = add_on(&mut quarrel, ANN, &[grant], vec![set(BEN, ADMIN)]);
    add_on(&mut quarrel, BEN, &[puppet], vec![set(CAT, ADMIN)]);
    assert_eq!(role(&quarrel, BEN), NONE);
    assert_eq!(role(&quarrel, CAT), NONE);
}

#[test]
fn in_a_ring_the_most_senior_decides() {
    let mut quarrel = Quarrel::new(5, vec![]);
    let mut last = 0;
    for key in [ANN, BEN, CAT] {
        last = add(&mut quarrel, FOUNDER, vec![set(key, ADMIN)]);
    }
    for (remover, removed) in [(ANN, BEN), (BEN, CAT), (CAT, ANN)] {
        add_on(&mut quarrel, remover, &[last], vec![set(removed, NONE)]);
    }
    let roles = [ANN, BEN, CAT].map(|key| role(&quarrel, key));
    assert_eq!(roles, [ADMIN, NONE, ADMIN]);
}

#[test]
fn a_lower_role_is_a_removal() {
    let mut quarrel = Quarrel::new(6, vec![]);
    let grant = add(&mut quarrel, FOUNDER, vec![set(ANN, ADMIN)]);
    add(&mut quarrel, FOUNDER, vec![set(ANN, WRITE)]);
    assert_eq!(role(&quarrel, ANN), WRITE);
    add_on(&mut quarrel, ANN, &[grant], vec![set(CAT, WRITE)]);
    assert_eq!(role(&quarrel, CAT), NONE, "beside her demotion");
}

#[test]
fn a_removal_beats_a_concurrent_grant_whatever_the_heights() {
    for grant_is_higher in [false, true] {
        let mut quarrel = Quarrel::new(7, vec![set(ANN, WRITE)]);
        let above = add_on(&mut quarrel, FOUNDER, &[0], vec![set(CAT, READ)]);
        let (grant, removal) = match grant_is_higher {
            true => (above, 0),
            false => (0, above),
        };
        add_on(&mut quarrel, FOUNDER, &[grant], vec![set(ANN, WRITE)]);
        add_on(&mut quarrel, FOUNDER, &[removal], vec![set(ANN, NONE)]);
        assert_eq!(role(&quarrel, ANN), NONE, "{grant_is_higher}");
    }
}

#[test]
fn an_admin_can_step_down() {
    let mut quarrel = Quarrel::new(8, vec![set(ANN, ADMIN)]);
    let before = quarrel.heads();
    add(&mut quarrel, ANN, vec![set(ANN, NONE)]);
    add_on(&mut quarrel, ANN, &before, vec![set(CAT, ADMIN)]);
    assert_eq!(role(&quarrel, ANN), NONE);
    assert_eq!(role(&quarrel, CAT), NONE, "beside her stepping down");
    add(&mut quarrel, FOUNDER, vec![set(FOUNDER, WRITE)]);
    assert_eq!(role(&quarrel, FOUNDER), WRITE);
    let heads = quarrel.heads();
    assert_eq!(quarrel.add(FOUNDER, &heads, vec![]), None);
}

/// The list of an entry is read as entries in a row.
#[test]
fn changes_of_one_entry_follow_each_other() {
    let mut quarrel = Quarrel::new(9, vec![set(ANN, WRITE), set(ANN, READ)]);
    assert_eq!(role(&quarrel, ANN), READ);
    let appoints_first = add_on(
        &mut quarrel,
        FOUNDER,
        &[0],
        vec![set(ANN, ADMIN), set(FOUNDER, NONE)],
    );
    let state = quarrel.state_at(&[appoints_first]);
    assert_eq!(state.own_role(&bare_subject(ANN)), ADMIN);
    assert_eq!(state.own_role(&bare_subject(FOUNDER)), NONE);

    let mut quarrel = Quarrel::new(9, vec![set(ANN, READ)]);
    add(
        &mut quarrel,
        FOUNDER,
        vec![set(FOUNDER, NONE), set(ANN, ADMIN)],
    );
    assert_eq!(role(&quarrel, FOUNDER), NONE);
    assert_eq!(role(&quarrel, ANN), READ, "the role was given up before");
}

/// Removing the senior gives effect to what it withstood, which is not local to the removal.
#[test]
fn what_a_senior_withstood_counts_once_it_is_removed() {
    let mut quarrel = Quarrel::new(10, vec![set(ANN, ADMIN)]);
    add(&mut quarrel, ANN, vec![set(BEN, ADMIN)]);
    add(&mut quarrel, BEN, vec![set(ANN, NONE)]);
    assert_eq!(role(&quarrel, ANN), ADMIN);
    add(&mut quarrel, FOUNDER, vec![set(ANN, WRITE)]);
    assert_eq!(role(&quarrel, ANN), WRITE);
}

fn some_role(random: &mut Random) -> Option<Role> {
    [NONE, READ, WRITE, ADMIN, ADMIN][random.below(5) as usize]
}

fn some_change(random: &mut Random, keys: u32) -> AccessChange {
    let change = set(random.below(keys), some_role(random));
    match random.below(12) {
        // Anyone cannot be admin.
        0 => AccessChange {
            subject: Subject::Anyone,
            role: change.role.filter(|role| *role < Role::Admin),
        },
        _ => change,
    }
}

fn some_changes(random: &mut Random, keys: u32) -> Vec<AccessChange> {
    let count = match random.below(4) {
        0 => random.below(4),
        _ => 1,
    };
    (0..count).map(|_| some_change(random, keys)).collect()
}

fn some_parents(random: &mut Random, quarrel: &Quarrel) -> Vec<usize> {
    let mut from = match random.below(3) {
        0 => (0..quarrel.len()).collect(),
        _ => quarrel.heads(),
    };
    random.shuffle(&mut from);
    let count = match random.below(3) {
        0 => from.len().min(4),
        _ => 1 + random.below(2) as usize,
    };
    from.truncate(count);
    from
}

/// Lets five keys quarrel. `add` compares each state with the slow rule.
fn some_quarrel(seed: u64) -> (Quarrel, Random) {
    const KEYS: u32 = 5;
    let mut random = Random::new(seed);
    let begin = some_changes(&mut random, KEYS);
    let mut quarrel = Quarrel::new(seed, begin);
    for _ in 0..4 + random.below(14) {
        let parents = some_parents(&mut random, &quarrel);
        let author = random.below(KEYS);
        let changes = some_changes(&mut random, KEYS);
        quarrel.add(author, &parents, changes);
    }
    (quarrel, random)
}

#[test]
fn quarrels_are_judged_as_by_the_slow_rule() {
    for seed in 0..histories() {
        let (quarrel, mut random) = some_quarrel(seed);
        let expected = quarrel.roles();
        let found: BTreeMap<Subject, Role> = quarrel.current().roles().collect();
        assert_eq!(found, expected, "seed {seed}: {quarrel:#?}");
        for _ in 0..2 {
            let other = quarrel.shuffled(&mut random);
            let found: BTreeMap<Subject, Role> = other.current().roles().collect();
            assert_eq!(found, expected, "seed {seed}: {other:#?}");
        }
        let restored = quarrel.restored();
        assert_eq!(restored.roles().collect::<BTreeMap<_, _>>(), expected);
        // Any entries taken together, also such that no entry is on top of.
        let parents = some_parents(&mut random, &quarrel);
        let found: BTreeMap<Subject, Role> = quarrel.state_at(&parents).roles().collect();
        assert_eq!(
            found,
            quarrel.roles_at(&parents),
            "seed {seed}: {parents:?} of {quarrel:#?}"
        );
    }
}

/// So many changes about admins that a store does not keep what came of them.
#[test]
fn long_quarrels_are_judged_as_by_the_slow_rule() {
    for seed in 0..2 {
        let mut random = Random::new(seed);
        let mut quarrel = Quarrel::new(seed, vec![set(ANN, ADMIN), set(BEN, ADMIN)]);
        for _ in 0..150 {
            let parents = some_parents(&mut random, &quarrel);
            let author = random.below(5);
            let changes = some_changes(&mut random, 5);
            // Or the quarrel would soon end.
            let stays = |change: &AccessChange| *change != set(author, change.role);
            quarrel.add(
                author,
                &parents,
                changes.into_iter().filter(stays).collect(),
            );
        }
        assert!(quarrel.len() > 80, "{}", quarrel.len());
        for _ in 0..10 {
            let parents = some_parents(&mut random, &quarrel);
            let expected = quarrel.roles_at(&parents);
            let found: BTreeMap<Subject, Role> = quarrel.kept_at(&parents).roles().collect();
            assert_eq!(found, expected, "seed {seed}: {parents:?}");
        }
    }
}

/// An admin who does not step down keeps what no senior took.
#[test]
fn only_the_founder_removes_the_founder() {
    let mut with_others = 0;
    for seed in 0..histories() {
        let (quarrel, _) = some_quarrel(seed.wrapping_mul(7_919));
        if !quarrel.stepped_down(FOUNDER) {
            assert_eq!(role(&quarrel, FOUNDER), ADMIN, "seed {seed}: {quarrel:#?}");
            with_others += usize::from(quarrel.len() > 4);
        }
    }
    assert!(with_others > 100, "the founder nearly always stepped down");
}

/// The founder removes an admin that has no role afterwards; then that key and its puppets extend
/// what was there before. No role changes.
#[test]
fn attacks_by_a_removed_admin_change_no_role() {
    const MALLORY: u32 = 4;
    let mut attacks = 0;
    for seed in 0..histories() {
        let (mut quarrel, mut random) = some_quarrel(seed.wrapping_mul(104_729));
        let heads = quarrel.heads();
        let admins = |quarrel: &Quarrel| [FOUNDER, MALLORY].map(|key| quarrel.role(key));
        // A founder that stepped down and was appointed again may be junior.
        if admins(&quarrel) != [ADMIN; 2] || quarrel.stepped_down(FOUNDER) {
            continue;
        }
        let removal = add_on(&mut quarrel, FOUNDER, &heads, vec![set(MALLORY, NONE)]);
        let before = quarrel.roles();
        assert_eq!(role(&quarrel, MALLORY), NONE);
        for _ in 0..1 + random.below(10) {
            let mut old: Vec<usize> = (0..quarrel.len())
                .filter(|at| !quarrel.follows(*at, removal))
                .collect();
            random.shuffle(&mut old);
            old.truncate(1 + random.below(2) as usize);
            let author = MALLORY + random.below(4);
            let changes = some_changes(&mut random, MALLORY + 4);
            attacks += usize::from(quarrel.add(author, &old, changes).is_some());
        }
        assert_eq!(quarrel.roles(), before, "seed {seed}: {quarrel:#?}");
        let found: BTreeMap<Subject, Role> = quarrel.current().roles().collect();
        assert_eq!(found, before, "seed {seed}: {quarrel:#?}");
    }
    assert!(attacks as u64 > histories() / 10, "only {attacks} attacks");
}
