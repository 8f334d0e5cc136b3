//! Who may write is decided by an entry's own causal past, so the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Drawing, Drawn, Oracle, Random, Shape, genesis, key};
use eidetica_dag::{
    AccessChange, AccessId, AccessState, Arrival, Body, Contests, DagView, EntryId, EntryView,
    MemoryDag, Outlook, Role, Rule, Subject, VerifiedEntry, check, current_access,
};
use proptest::prelude::*;

const BOSS: u32 = 0;
const ANN: u32 = 1;
const BEN: u32 = 2;
const CAT: u32 = 3;

fn subject(number: u32) -> Subject {
    Subject::Key(key(number).public())
}

fn grant(number: u32, role: Role) -> AccessChange {
    AccessChange::grant(subject(number), role)
}

fn revoke(number: u32) -> AccessChange {
    AccessChange::revoke(subject(number))
}

/// A tree where the first entry is the boss's, and no other key may do anything. Names that begin
/// with `a` are Ann's entries, those with `b` Ben's, all others the boss's.
fn draw<'a>(text: &str, changes: &'a [(&'a str, AccessChange)]) -> Drawn {
    Drawing::of(text)
        .author(author)
        .body(move |name| {
            let here = changes.iter().filter(|(at, _)| *at == name);
            let here: Vec<AccessChange> = here.map(|(_, change)| *change).collect();
            match name {
                "R" => Some(genesis("drawn", here)),
                _ if here.is_empty() => None,
                _ => Some(Body::Access(here)),
            }
        })
        .draw()
}

fn author(name: &str) -> eidetica_dag::SecretKey {
    key(match name.as_bytes()[0] {
        b'a' => ANN,
        b'b' => BEN,
        _ => BOSS,
    })
}

/// Tells which rule an entry with data on top of these would break.
fn verdict(drawn: &Drawn, parents: &[&str], number: u32, body: Body) -> Option<Rule> {
    let parents = drawn.entries(parents);
    let entry = sign_on_top(Some(drawn.tree()), &parents, &key(number), 0, body);
    let mut dag = drawn.dag.clone();
    dag.append(vec![entry]).refused.map(|refusal| refusal.rule)
}

fn may_write(drawn: &Drawn, parents: &[&str], number: u32) -> bool {
    verdict(drawn, parents, number, Body::Data("data".into())).is_none()
}

fn may_administer(drawn: &Drawn, parents: &[&str], number: u32) -> bool {
    verdict(drawn, parents, number, Body::Access(vec![])).is_none()
}

#[test]
fn roles_include_those_before_them() {
    for (role, write, administer) in [
        (Role::Read, false, false),
        (Role::Write, true, false),
        (Role::Admin, true, true),
    ] {
        let drawn = draw("R-G", &[("G", grant(ANN, role))]);
        assert_eq!(may_write(&drawn, &["G"], ANN), write, "{role:?}");
        assert_eq!(may_administer(&drawn, &["G"], ANN), administer, "{role:?}");
        assert!(!may_write(&drawn, &["R"], ANN), "before the grant");
    }
}

#[test]
fn anyone_is_everyone_and_the_higher_role_counts() {
    let anyone = AccessChange::grant(Subject::Anyone, Role::Write);
    let drawn = draw("R-G", &[("R", anyone), ("G", grant(ANN, Role::Read))]);
    assert!(may_write(&drawn, &["G"], ANN));
    assert!(may_write(&drawn, &["G"], BEN));
    let Ok(access) = current_access(&drawn.dag);
    assert_eq!(access.role_of(None), Some(Role::Write));
    assert_eq!(access.role_of(Some(&key(BOSS).public())), Some(Role::Admin));
    assert!(!access.allows(None, Role::Admin));
}

#[test]
fn a_revocation_holds_on_top_of_it_and_not_beside_it() {
    let drawn = draw(
        r"
R-G-X
   \
    a1
",
        &[("G", grant(ANN, Role::Write)), ("X", revoke(ANN))],
    );
    assert!(!may_write(&drawn, &["X"], ANN));
    assert!(may_write(&drawn, &["a1"], ANN), "she need not know");
    assert!(!may_write(&drawn, &["X", "a1"], ANN), "who merges, knows");
    assert!(may_write(&drawn, &["X", "a1"], BOSS));
    let Ok(access) = current_access(&drawn.dag);
    assert_eq!(access.role_of(Some(&key(ANN).public())), None);
}

#[test]
fn a_later_grant_restores() {
    let drawn = draw(
        "R-G-X-H",
        &[
            ("G", grant(ANN, Role::Write)),
            ("X", revoke(ANN)),
            ("H", grant(ANN, Role::Write)),
        ],
    );
    assert!(!may_write(&drawn, &["X"], ANN));
    assert!(may_write(&drawn, &["H"], ANN));
}

#[test]
fn an_admin_can_be_revoked_but_not_by_a_junior() {
    let changes = [
        ("G", grant(ANN, Role::Admin)),
        ("a1", revoke(BOSS)),
        ("X", revoke(ANN)),
    ];
    let drawn = draw("R-G-a1-X", &changes);
    assert!(may_administer(&drawn, &["a1"], BOSS), "the boss is senior");
    assert!(may_administer(&drawn, &["a1"], ANN));
    assert!(!may_write(&drawn, &["X"], ANN));
}

#[test]
fn a_change_concerns_what_follows_and_not_itself() {
    let drawn = draw("R-G", &[("G", grant(ANN, Role::Write))]);
    let by_herself = Body::Access(vec![grant(ANN, Role::Admin)]);
    let rule = verdict(&drawn, &["G"], ANN, by_herself);
    let author = key(ANN).public();
    let needed = Role::Admin;
    assert_eq!(rule, Some(Rule::NotAllowed { author, needed }));
    let drawn = draw("R-X", &[("X", revoke(BOSS))]);
    assert!(
        !may_write(&drawn, &["X"], BOSS),
        "who gave it up has it no more"
    );
}

/// A removal beats a concurrent grant, whichever is higher and whatever arrived first.
#[test]
fn a_removal_beats_a_concurrent_grant() {
    let text = r"
  G
 /
R
 \
  O-X
";
    let changes = [("G", grant(ANN, Role::Write)), ("X", revoke(ANN))];
    let drawn = draw(text, &changes);
    assert!(may_write(&drawn, &["G"], ANN));
    assert!(!may_write(&drawn, &["G", "X"], ANN));
    let changes = [("X", grant(ANN, Role::Write)), ("G", revoke(ANN))];
    let drawn = draw(text, &changes);
    assert!(!may_write(&drawn, &["G", "X"], ANN), "the grant is higher");
    let Ok(access) = current_access(&drawn.dag);
    assert_eq!(access.role_of(Some(&key(ANN).public())), None);
}

/// Both branches merge the same two changes, so they have the same state, and it is kept once.
#[test]
fn states_are_shared() {
    let drawn = draw(
        r"
  G-M  X-M  M-P
 /
R      G-N  N-P
 \
  X-N
",
        &[
            ("G", grant(ANN, Role::Write)),
            ("X", grant(BEN, Role::Write)),
        ],
    );
    let state = |name| {
        let Ok(node) = drawn.dag.node(drawn.arrival(name));
        node.access
    };
    assert_eq!(state("M"), state("N"));
    assert_eq!(state("M"), state("P"));
    assert_eq!(drawn.dag.access_count(), 4, "after the root, G, X and both");
}

/// Lists the contested entries, each with its removal.
fn contested(drawn: &Drawn) -> Vec<(String, String)> {
    let Ok(mut contests) = Contests::of(&drawn.dag);
    let mut found = Vec::new();
    for at in (0..drawn.dag.entry_count()).map(Arrival) {
        let Ok(entry) = drawn.dag.entry(at);
        let Ok(by) = contests.contested_by(&drawn.dag, at, &entry);
        let name = |id| drawn.name_of(&id).to_owned();
        found.extend(by.map(|by| (name(entry.id()), name(by))));
    }
    found
}

#[test]
fn what_is_written_beside_a_removal_is_contested() {
    let changes = [("G", grant(ANN, Role::Write)), ("X", revoke(ANN))];
    let drawn = draw("R-G-a1-X  a1-a2-a3-M  X-M", &changes);
    let by_x = |name: &str| (name.to_owned(), "X".to_owned());
    assert_eq!(contested(&drawn), [by_x("a2"), by_x("a3")]);
    // Her demotion to a reader is the same; one that keeps her writing is none.
    for (role, count) in [(Role::Read, 2), (Role::Write, 0), (Role::Admin, 0)] {
        let changes = [("G", grant(ANN, Role::Write)), ("X", grant(ANN, role))];
        let drawn = draw("R-G-a1-X  a1-a2-a3-M  X-M", &changes);
        assert_eq!(contested(&drawn).len(), count, "{role:?}");
    }
}

#[test]
fn a_grant_that_follows_settles_the_contest() {
    let changes = [
        ("G", grant(ANN, Role::Write)),
        ("X", revoke(ANN)),
        ("H", grant(ANN, Role::Write)),
    ];
    let drawn = draw("R-G-X  G-a1-M  X-M  M-H", &changes);
    assert_eq!(contested(&drawn), []);
    let drawn = draw("R-G-X  G-a1-M  X-M", &changes[..2]);
    assert_eq!(contested(&drawn).len(), 1);
}

/// The removal of a senior has no effect, so it contests nothing.
#[test]
fn a_void_removal_contests_nothing() {
    let changes = [
        ("R", grant(ANN, Role::Admin)),
        ("G", grant(BEN, Role::Admin)),
        ("b1", revoke(ANN)),
    ];
    let drawn = draw("R-G-b1  G-a1", &changes);
    assert_eq!(contested(&drawn), []);
}

#[test]
fn an_outlook_tells_what_a_revocation_would_do() {
    let changes = [
        ("R", grant(ANN, Role::Admin)),
        ("a1", grant(BEN, Role::Admin)),
        ("b1", revoke(ANN)),
        ("a2", grant(CAT, Role::Write)),
    ];
    let drawn = draw("R-a1-b1  a1-a2", &changes);
    let Ok(current) = current_access(&drawn.dag);
    let outlook = |number, change| {
        let author = key(number).public();
        current.outlook(&current, author, 9, &[change])
    };
    let none = Outlook {
        effective: vec![false],
        voids: vec![],
    };
    assert_eq!(outlook(ANN, revoke(BOSS)), none, "he is senior");
    assert_eq!(outlook(CAT, revoke(BEN)), none, "no admin");
    let plain = Outlook {
        effective: vec![true],
        voids: vec![],
    };
    assert_eq!(outlook(ANN, revoke(BEN)), plain);
    assert_eq!(outlook(BOSS, revoke(ANN)), plain, "it follows all of it");

    // Beside what the author does not know, a removal voids.
    let Ok(before) = drawn.dag.access(AccessId(0));
    let beside = current.outlook(&before, key(BOSS).public(), 1, &[revoke(ANN)]);
    let id = |name| drawn.id(name);
    let voids: Vec<_> = beside.voids.iter().map(|(id, _)| *id).collect();
    assert_eq!(beside.effective, [true]);
    assert_eq!(voids, [id("a1"), id("a2")], "{beside:?}");
}

#[test]
fn an_empty_tree_allows_nothing() {
    let drawn = draw("R-A", &[]);
    let Ok(access) = current_access(&MemoryDag::new(drawn.tree()));
    assert_eq!(access, AccessState::default());
    assert_eq!(access.role_of(Some(&key(BOSS).public())), None);
}

/// A tree in which five people write, grant and revoke at random, allowed or not.
fn quarrel(random: &mut Random, parents: &[Vec<u32>]) -> Vec<VerifiedEntry> {
    let some_change = |random: &mut Random| {
        // Anyone cannot be an admin.
        let (subject, roles) = match random.below(7) {
            0 => (Subject::Anyone, 3),
            number => (subject(number % 5), 4),
        };
        let role = [None, Some(Role::Read), Some(Role::Write), Some(Role::Admin)]
            [random.below(roles) as usize];
        AccessChange { subject, role }
    };
    let several = |random: &mut Random| -> Vec<AccessChange> {
        (0..1 + random.below(3))
            .map(|_| some_change(random))
            .collect()
    };
    let begin = genesis("quarrel", several(random));
    let mut entries = vec![sign_on_top(None, [], &key(BOSS), 0, begin)];
    let tree = Some(entries[0].get().tree());
    for (index, parents) in (1..).zip(&parents[1..]) {
        let body = match random.below(3) {
            0 => Body::Access(several(random)),
            _ => Body::Data(index.to_string().into()),
        };
        // The boss quarrels most, or else nearly everything is refused.
        let author = random.below(10) % 5 * random.below(2);
        let root = [0];
        let parents = if parents.is_empty() {
            &root[..]
        } else {
            parents
        };
        let below: Vec<_> = parents
            .iter()
            .map(|at| entries[*at as usize].clone())
            .collect();
        entries.push(sign_on_top(tree, &below, &key(author), index, body));
    }
    entries
}

/// Delivers entries in a random order, in batches cut anywhere, until nothing more can be stored.
fn deliver(entries: &[VerifiedEntry], random: &mut Random) -> (MemoryDag, BTreeSet<EntryId>) {
    let mut dag = MemoryDag::new(entries[0].get().tree());
    let mut refused = BTreeSet::new();
    let mut left = entries.to_vec();
    let mut quiet = 0;
    // After a delivery without effect everything is offered: if that has none, nothing will.
    while quiet < 2 && !left.is_empty() {
        random.shuffle(&mut left);
        let cut = match quiet {
            0 => 1 + random.below(left.len() as u32) as usize,
            _ => left.len(),
        };
        let outcome = dag.append(left[..cut].to_vec());
        refused.extend(outcome.refused.map(|refusal| refusal.id));
        let before = left.len();
        left.retain(|entry| {
            let id = entry.get().id();
            dag.arrival(&id) == Ok(None) && !refused.contains(&id)
        });
        quiet = if left.len() == before { quiet + 1 } else { 0 };
    }
    (dag, refused)
}

fn stored(dag: &MemoryDag) -> BTreeSet<EntryId> {
    let ids = (0..dag.entry_count()).map(|at| {
        let Ok(node) = dag.node(Arrival(at));
        node.id
    });
    ids.collect()
}

/// Returns the roles after each entry.
fn roles(dag: &MemoryDag) -> BTreeMap<EntryId, Vec<(Subject, Role)>> {
    let of = |at| {
        let Ok(node) = dag.node(Arrival(at));
        let Ok(state) = dag.access(node.access);
        (node.id, state.roles().collect())
    };
    (0..dag.entry_count()).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_replica_gives_the_same_verdicts(
        shape in prop::sample::select(Shape::ALL.to_vec()),
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        let count = 2 + random.below(40);
        let entries = quarrel(&mut random, &shape.parents(count, seed));
        let (first, refused) = deliver(&entries, &mut random);
        prop_assert_eq!(check(&first, first.tree(), |_| {}), Ok(vec![]));
        for _ in 0..3 {
            let (other, also_refused) = deliver(&entries, &mut random);
            prop_assert_eq!(stored(&other), stored(&first));
            prop_assert_eq!(&also_refused, &refused);
            prop_assert_eq!(roles(&other), roles(&first));
            let (Ok(one), Ok(two)) = (current_access(&first), current_access(&other));
            prop_assert!(one.roles().eq(two.roles()));
        }

        // What was stored and what was refused is what the plain replay of the past says.
        let oracle = Oracle::of(&first);
        let after = roles(&first);
        for entry in &entries[1..] {
            let (id, said) = (entry.get().id(), entry.get().entry());
            let needed = match said.body {
                Body::Access(_) => Role::Admin,
                _ => Role::Write,
            };
            if said.parents.iter().all(|parent| after.contains_key(parent)) {
                let past = oracle.access(&first, &said.parents);
                let own = past.get(&Subject::Key(said.author));
                let role = own.max(past.get(&Subject::Anyone));
                prop_assert_eq!(after.contains_key(&id), role >= Some(&needed));
                prop_assert_eq!(refused.contains(&id), role < Some(&needed));
            } else {
                prop_assert!(!after.contains_key(&id) && !refused.contains(&id));
            }
        }
        for (id, roles) in &after {
            let expected: Vec<_> = oracle.access(&first, &[*id]).into_iter().collect();
            prop_assert_eq!(roles, &expected);
        }
        let Ok(current) = current_access(&first);
        let tips: Vec<EntryId> = oracle.tips().into_iter().collect();
        prop_assert!(current.roles().eq(oracle.access(&first, &tips)));
        prop_assert!(first.entry(Arrival(0)).is_ok());
    }
}
