//! Every kind of damage is found, and named.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Drawing, Shape, build, dag_of, draw, genesis, key, open_genesis};
use eidetica_dag::{
    AccessChange, AccessId, AccessKey, AccessState, Arrival, Body, CHECKPOINT_INTERVAL, DagView,
    Entry, EntryError, EntryId, EntryView, LANDMARK_INTERVAL, Ledger, MemoryDag, Node, Problem,
    Role, Signature, SignedEntry, Subject, check, verify_batch,
};

/// A tree of which some answers are replaced.
struct Tampered {
    dag: MemoryDag,
    nodes: HashMap<Arrival, Node>,
    encoded: HashMap<Arrival, Bytes>,
    index: HashMap<EntryId, Option<Arrival>>,
    tips: Option<Vec<Arrival>>,
    checkpoints: HashMap<u32, Vec<Arrival>>,
    extra_checkpoint: Option<u32>,
    landmarks: BTreeMap<u32, Vec<EntryId>>,
    access: HashMap<AccessId, AccessState>,
}

impl Tampered {
    fn new(dag: MemoryDag) -> Self {
        Self {
            dag,
            nodes: HashMap::new(),
            encoded: HashMap::new(),
            index: HashMap::new(),
            tips: None,
            checkpoints: HashMap::new(),
            extra_checkpoint: None,
            landmarks: BTreeMap::new(),
            access: HashMap::new(),
        }
    }

    fn id(&self, at: u32) -> EntryId {
        let Ok(node) = self.node(Arrival(at));
        node.id
    }

    fn change_node(&mut self, at: u32, change: impl FnOnce(&mut Node)) {
        let Ok(mut node) = self.node(Arrival(at));
        change(&mut node);
        self.nodes.insert(Arrival(at), node);
    }

    /// Puts an entry in place of another, in the index too.
    fn replace(&mut self, at: u32, entry: &SignedEntry) {
        self.change_node(at, |node| node.id = entry.id());
        self.index.insert(entry.id(), Some(Arrival(at)));
        self.encoded.insert(Arrival(at), entry.encoded().clone());
    }

    fn said(&self, at: u32) -> Entry {
        let Ok(entry) = self.entry(Arrival(at));
        entry.entry().clone()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut told = Vec::new();
        let Ok(problems) = check(self, self.dag.tree(), |count| told.push(count));
        assert_eq!(told.last(), Some(&self.entry_count()));
        for problem in &problems {
            assert!(!problem.to_string().is_empty());
        }
        problems
    }
}

impl DagView for Tampered {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.dag.entry_count()
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Infallible> {
        let replaced = self.tips.as_ref();
        let replaced = replaced.map(|tips| tips.iter().copied().filter(|tip| *tip >= from));
        match replaced {
            Some(tips) => Ok(tips.take(limit).collect()),
            None => self.dag.tips_from(from, limit),
        }
    }

    fn tip_count(&self) -> u32 {
        let replaced = self.tips.as_ref().map(|tips| tips.len() as u32);
        replaced.unwrap_or_else(|| self.dag.tip_count())
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, Infallible> {
        self.dag.is_tip(at)
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Infallible> {
        let replaced = self.index.get(id).copied();
        replaced.map_or_else(|| self.dag.arrival(id), Ok)
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        let replaced = self.nodes.get(&at).cloned();
        replaced.map_or_else(|| self.dag.node(at), Ok)
    }

    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, Infallible> {
        let Ok(last) = self.dag.last_checkpoint(stored);
        let extra = self.extra_checkpoint.filter(|extra| *extra <= stored);
        Ok(last.max(extra))
    }

    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, Infallible> {
        let replaced = self.checkpoints.get(&stored).cloned();
        replaced.map_or_else(|| self.dag.checkpoint(stored), Ok)
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, Infallible> {
        let replaced = self.landmarks.get(&height).cloned();
        replaced.map_or_else(|| self.dag.landmarks(height, limit), Ok)
    }

    fn access_count(&self) -> u32 {
        self.dag.access_count()
    }

    fn access(&self, id: AccessId) -> Result<AccessState, Infallible> {
        let replaced = self.access.get(&id).cloned();
        replaced.map_or_else(|| self.dag.access(id), Ok)
    }

    fn find_access(&self, key: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        self.dag.find_access(key)
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        self.dag.ledger()
    }
}

impl EntryView for Tampered {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, Infallible> {
        self.dag.entry(at)
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, Infallible> {
        let replaced = self.encoded.get(&at).cloned();
        replaced.map_or_else(|| self.dag.encoded(at), Ok)
    }
}

/// A chain by one author, long enough for a checkpoint and for landmarks.
fn chain() -> Tampered {
    let parents = Shape::Linear.parents(CHECKPOINT_INTERVAL + 10, 0);
    let payload = |at: u32| Bytes::copy_from_slice(&at.to_be_bytes());
    Tampered::new(dag_of(eidetica_dag::testing::build_with(
        &parents,
        |_| 0,
        payload,
    )))
}

fn last(view: &Tampered) -> (u32, Arrival, EntryId) {
    let last = view.entry_count() - 1;
    (last, Arrival(last), view.id(last))
}

#[test]
fn whole_trees_have_no_problem() {
    for shape in Shape::ALL {
        let dag = dag_of(build(&shape.parents(700, 1)));
        assert_eq!(check(&dag, dag.tree(), |_| {}), Ok(vec![]), "{shape:?}");
    }
    let empty = MemoryDag::new(draw("A-B").tree());
    assert_eq!(check(&empty, empty.tree(), |_| {}), Ok(vec![]));
}

#[test]
fn progress_is_told_in_chunks() {
    let dag = dag_of(build(&Shape::Linear.parents(5_000, 1)));
    let mut told = Vec::new();
    assert_eq!(
        check(&dag, dag.tree(), |count| told.push(count)),
        Ok(vec![])
    );
    assert_eq!(told, [4_096, 5_000]);
}

#[test]
fn bytes_that_are_no_entry() {
    let mut view = chain();
    let (at, id) = (Arrival(7), view.id(7));
    view.encoded.insert(at, Bytes::from_static(b"nothing"));
    let error = EntryError::NotCanonical;
    assert_eq!(view.problems(), [Problem::NotAnEntry { at, id, error }]);
}

#[test]
fn an_id_that_is_not_the_hash() {
    let mut view = chain();
    let (last, at, actual) = last(&view);
    let id = EntryId::from_bytes([9; 32]);
    view.change_node(last, |node| node.id = id);
    view.index.insert(id, Some(at));
    assert_eq!(view.problems(), [Problem::WrongId { at, id, actual }]);
}

#[test]
fn an_index_that_leads_elsewhere_or_nowhere() {
    for found in [None, Some(Arrival(8))] {
        let mut view = chain();
        let (at, id) = (Arrival(7), view.id(7));
        view.index.insert(id, found);
        assert_eq!(view.problems(), [Problem::NotInIndex { at, id, found }]);
    }
}

#[test]
fn forged_signatures_all_of_them() {
    // Entries by two authors in turn: no entry proves another.
    let parents = Shape::Wide.parents(40, 0);
    let mut view = Tampered::new(dag_of(build(&parents)));
    let mut expected = Vec::new();
    for tip in [35, 37, 39] {
        let forged = Signature::from_bytes([1; 64]);
        let entry = SignedEntry::from_parts(view.said(tip), &forged).unwrap();
        view.replace(tip, &entry);
        let (at, id) = (Arrival(tip), entry.id());
        expected.push(Problem::Forged { at, id });
    }
    assert_eq!(view.problems(), expected);
}

/// An author signed an entry badly and proves it by the next one. Wherever a chunk ends, that is no
/// damage; without the proof, it is.
#[test]
fn a_bad_signature_that_the_next_entry_proves() {
    let mut entries = vec![sign_on_top(None, [], &key(0), 0, open_genesis("long"))];
    let tree = entries[0].get().tree();
    let body = |n: u32| Body::Data(n.to_string().into());
    for n in 1..4_095 {
        let last = entries.last().unwrap();
        entries.push(sign_on_top(Some(tree), [last], &key(0), 0, body(n)));
    }
    let bad = sign_on_top(Some(tree), [&entries[4_094]], &key(0), 0, body(4_095));
    let signature = Signature::from_bytes([1; 64]);
    let bad = SignedEntry::from_parts(bad.get().entry().clone(), &signature).unwrap();
    let proof = Entry {
        parents: vec![bad.id()],
        height: 4_096,
        ..bad.entry().clone()
    };
    let proof = SignedEntry::sign(proof, &key(0)).unwrap();
    let mut dag = MemoryDag::new(tree);
    assert_eq!(dag.append(entries).stored.len(), 4_095);
    let both = verify_batch(vec![bad.clone(), proof.clone()]).verified;
    assert_eq!(dag.append(both).stored, 4_095..4_097);
    let mut view = Tampered::new(dag);
    assert_eq!(view.problems(), []);

    // The same entry by another author proves nothing.
    let other = Entry {
        author: key(1).public(),
        ..proof.entry().clone()
    };
    view.replace(4_096, &SignedEntry::sign(other, &key(1)).unwrap());
    let (at, id) = (Arrival(4_095), bad.id());
    assert!(view.problems().contains(&Problem::Forged { at, id }));
}

#[test]
fn an_entry_of_another_tree() {
    let mut view = chain();
    let (last, at, _) = last(&view);
    let other = draw("A-B").tree();
    let said = Entry {
        tree: Some(other),
        ..view.said(last)
    };
    let entry = SignedEntry::sign(said, &key(0)).unwrap();
    view.replace(last, &entry);
    let (id, actual) = (entry.id(), other);
    assert_eq!(view.problems(), [Problem::OtherTree { at, id, actual }]);
}

#[test]
fn a_tree_without_its_root() {
    let view = chain();
    let Ok(problems) = check(&view, draw("A-B").tree(), |_| {});
    let id = view.id(0);
    assert_eq!(problems[0], Problem::NoRoot { id });
    let others = problems[1..].iter();
    assert!(
        others
            .clone()
            .all(|it| matches!(it, Problem::OtherTree { .. }))
    );
    assert_eq!(others.len() as u32, view.entry_count() - 1);
}

#[test]
fn a_second_root() {
    // The last access state is the one of that root.
    let drawn = Drawing::of("A-B")
        .body(|name| (name == "B").then(|| Body::Access(vec![])))
        .draw();
    let mut view = Tampered::new(drawn.dag.clone());
    let second = sign_on_top(None, [], &key(0), 0, open_genesis("second"));
    view.replace(1, second.get());
    view.change_node(1, |node| {
        node.parents.clear();
        node.height = 0;
    });
    let (at, id) = (Arrival(1), second.get().id());
    let stored = AccessId(1);
    let problems = view.problems();
    assert_eq!(problems[0], Problem::SecondRoot { at, id });
    // It made no state, no landmark, and left the root a tip.
    assert_eq!(problems[1], Problem::WrongAccess { at, id, stored });
    assert!(matches!(problems[2], Problem::WrongTips { .. }));
    assert_eq!(problems[3], Problem::LandmarkMissing { at, id });
    assert_eq!(problems.len(), 4);
}

#[test]
fn parents_that_the_entry_does_not_name() {
    let drawn = draw("A-B-D  A-C-D");
    for parents in [
        vec!["A", "B"],
        vec!["B"],
        vec!["B", "C", "C"],
        vec!["C", "B"],
    ] {
        let mut view = Tampered::new(drawn.dag.clone());
        let (at, id) = (drawn.arrival("D"), drawn.id("D"));
        view.change_node(at.0, |node| node.parents = drawn.arrivals(&parents));
        let problems = view.problems();
        assert_eq!(problems[0], Problem::WrongParents { at, id }, "{parents:?}");
        assert!(
            !problems[1..]
                .iter()
                .any(|it| !matches!(it, Problem::WrongTips { .. }))
        );
    }
}

#[test]
fn a_parent_that_is_not_below() {
    let drawn = draw("A-B-C");
    for parent in [1, 2, 900].map(Arrival) {
        let mut view = Tampered::new(drawn.dag.clone());
        let (at, id) = (drawn.arrival("B"), drawn.id("B"));
        view.change_node(at.0, |node| node.parents = vec![parent]);
        let problems = view.problems();
        assert_eq!(problems[0], Problem::ParentNotBelow { at, id, parent });
        assert!(
            matches!(problems[1..], [Problem::WrongTips { .. }]),
            "{problems:?}"
        );
    }
}

#[test]
fn a_wrong_height_in_the_node() {
    let mut view = chain();
    let (last, at, id) = last(&view);
    view.change_node(last, |node| node.height = 3);
    let (claimed, stored, actual) = (last, 3, last);
    let problem = Problem::WrongHeight {
        at,
        id,
        claimed,
        stored,
        actual,
    };
    assert_eq!(view.problems(), [problem]);
}

#[test]
fn a_lying_height_in_the_entry() {
    let mut view = chain();
    let (last, at, _) = last(&view);
    // The greatest height must not make the check look for landmarks for ever.
    let claimed = u32::MAX;
    let said = Entry {
        height: claimed,
        ..view.said(last)
    };
    let entry = SignedEntry::sign(said, &key(0)).unwrap();
    view.replace(last, &entry);
    let (id, stored, actual) = (entry.id(), last, last);
    let problem = Problem::WrongHeight {
        at,
        id,
        claimed,
        stored,
        actual,
    };
    assert_eq!(view.problems(), [problem]);
}

/// A tree where Ann becomes a writer.
fn granted() -> (Tampered, MemoryDag) {
    let drawn = Drawing::of("A-B-C-D")
        .body(|name| match name {
            "A" => Some(genesis("granted", vec![])),
            "B" => {
                let ann = Subject::Key(key(1).public());
                Some(Body::Access(vec![AccessChange::grant(ann, Role::Write)]))
            }
            _ => None,
        })
        .draw();
    (Tampered::new(drawn.dag.clone()), drawn.dag)
}

#[test]
fn an_author_who_was_not_allowed() {
    for (number, body, needed) in [
        (2, Body::Data(Bytes::new()), Role::Write),
        (1, Body::Access(vec![]), Role::Admin),
    ] {
        let (mut view, _) = granted();
        let author = key(number).public();
        let said = Entry {
            author,
            body: body.clone(),
            ..view.said(3)
        };
        let entry = SignedEntry::sign(said, &key(number)).unwrap();
        view.replace(3, &entry);
        let (at, id) = (Arrival(3), entry.id());
        let problems = view.problems();
        let problem = Problem::NotAllowed {
            at,
            id,
            author,
            needed,
        };
        assert_eq!(problems[0], problem);
        // A change of access makes a state of its own, which the node has not.
        assert_eq!(
            problems.len() > 1,
            matches!(body, Body::Access(_)),
            "{problems:?}"
        );
    }
}

#[test]
fn an_access_state_that_does_not_follow() {
    // The state before the grant, and one that is not there.
    for stored in [0, 5].map(AccessId) {
        let (mut view, _) = granted();
        view.change_node(3, |node| node.access = stored);
        let (at, id) = (Arrival(3), view.id(3));
        assert_eq!(view.problems(), [Problem::WrongAccess { at, id, stored }]);
    }
}

#[test]
fn an_access_state_with_other_roles() {
    let (mut view, dag) = granted();
    let Ok(before) = dag.access(AccessId(0));
    view.access.insert(AccessId(1), before);
    let (at, id, stored) = (Arrival(1), view.id(1), AccessId(1));
    assert_eq!(view.problems(), [Problem::WrongAccess { at, id, stored }]);
    // A state without any change cannot be worked with, and nothing panics.
    view.access.insert(AccessId(1), AccessState::default());
    assert_eq!(view.problems(), [Problem::WrongAccess { at, id, stored }]);
}

#[test]
fn wrong_tips() {
    let mut view = chain();
    let (last, at, _) = last(&view);
    for stored in [vec![], vec![Arrival(last - 1)], vec![Arrival(0), at]] {
        view.tips = Some(stored.clone());
        let actual = vec![at];
        assert_eq!(view.problems(), [Problem::WrongTips { stored, actual }]);
    }
}

#[test]
fn a_wrong_checkpoint() {
    let mut view = chain();
    let stored = CHECKPOINT_INTERVAL;
    view.checkpoints.insert(stored, vec![Arrival(5)]);
    assert_eq!(view.problems(), [Problem::WrongCheckpoint { stored }]);

    let mut view = chain();
    let stored = 100;
    view.extra_checkpoint = Some(stored);
    assert_eq!(view.problems(), [Problem::WrongCheckpoint { stored }]);
}

#[test]
fn a_landmark_that_is_missing() {
    let mut view = chain();
    view.landmarks.insert(LANDMARK_INTERVAL, vec![]);
    let at = Arrival(LANDMARK_INTERVAL);
    let id = view.id(at.0);
    assert_eq!(view.problems(), [Problem::LandmarkMissing { at, id }]);
}

#[test]
fn a_landmark_that_does_not_belong_there() {
    let height = LANDMARK_INTERVAL;
    let own = chain().id(height);
    let unknown = EntryId::from_bytes([3; 32]);
    let other_height = chain().id(height + 1);
    for id in [unknown, other_height, own] {
        let mut view = chain();
        view.landmarks.insert(height, vec![own, id]);
        assert_eq!(view.problems(), [Problem::LandmarkExtra { height, id }]);
    }
    // Above the highest entry.
    let mut view = chain();
    let height = view.entry_count().next_multiple_of(LANDMARK_INTERVAL);
    view.landmarks.insert(height, vec![own]);
    assert_eq!(
        view.problems(),
        [Problem::LandmarkExtra { height, id: own }]
    );
}

#[test]
fn landmarks_out_of_order() {
    let dag = dag_of(build(&Shape::Wide.parents(1_600, 5)));
    let height = LANDMARK_INTERVAL;
    let Ok(mut ids) = dag.landmarks(height, usize::MAX);
    ids.swap(0, 1);
    let mut view = Tampered::new(dag);
    let id = ids[1];
    view.landmarks.insert(height, ids);
    let Ok(Some(at)) = view.arrival(&id) else {
        panic!("a landmark is stored");
    };
    assert_eq!(
        view.problems(),
        [
            Problem::LandmarkExtra { height, id },
            Problem::LandmarkMissing { at, id }
        ]
    );
}

#[test]
fn several_problems_are_all_returned() {
    let mut view = chain();
    let id = view.id(7);
    view.encoded
        .insert(Arrival(7), Bytes::from_static(b"nothing"));
    view.index.insert(view.id(300), None);
    view.tips = Some(vec![]);
    view.checkpoints.insert(CHECKPOINT_INTERVAL, vec![]);
    view.landmarks.insert(64, vec![]);
    let problems = view.problems();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(problems[0].to_string().contains(&id.to_string()));
}
