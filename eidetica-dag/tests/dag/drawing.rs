//! The drawings say what they show.

use eidetica_dag::testing::{Drawing, draw, key};
use eidetica_dag::{DagView, check, tip_ids};

const DIAMOND: &str = r"
      C-D
     /   \
A---B     G
     \   /
      E-F
";

fn parents(text: &str, name: &str) -> String {
    let drawn = draw(text);
    let Ok(node) = drawn.dag.node(drawn.arrival(name));
    drawn.names(&node.parents.into_iter().collect())
}

#[test]
fn lines_join_children_to_parents() {
    assert_eq!(parents(DIAMOND, "A"), "");
    assert_eq!(parents(DIAMOND, "B"), "A");
    assert_eq!(parents(DIAMOND, "C"), "B");
    assert_eq!(parents(DIAMOND, "D"), "C");
    assert_eq!(parents(DIAMOND, "E"), "B");
    assert_eq!(parents(DIAMOND, "G"), "D F");
}

#[test]
fn a_line_can_end_at_a_line() {
    let text = r"
root--a1---b---tip
    \     /
     side-
";
    assert_eq!(parents(text, "b"), "a1 side");
    assert_eq!(parents(text, "side"), "root");
    assert_eq!(parents(text, "tip"), "b");
}

#[test]
fn names_in_several_places_are_one_entry() {
    let criss_cross = r"
A-B-D  C-D
A-C-E  B-E
";
    assert_eq!(parents(criss_cross, "D"), "B C");
    assert_eq!(parents(criss_cross, "E"), "B C");
}

#[test]
fn entries_arrive_by_name_unless_told_otherwise() {
    let numbers = |drawn: &eidetica_dag::testing::Drawn| {
        let mut names = ["A", "B", "C", "D", "E", "F", "G"];
        names.sort_by_key(|name| drawn.arrival(name));
        names.join("")
    };
    assert_eq!(numbers(&draw(DIAMOND)), "ABCDEFG");
    assert_eq!(
        numbers(&Drawing::of(DIAMOND).order(&["F", "D"]).draw()),
        "ABEFCDG"
    );
}

#[test]
fn a_replica_has_the_ancestors() {
    let drawn = draw(DIAMOND);
    let replica = drawn.replica(&["D", "E"]);
    assert_eq!(replica.entry_count(), 5);
    let Ok(mut tips) = tip_ids(&replica);
    tips.sort_by_key(|id| drawn.name_of(id).to_owned());
    assert_eq!(drawn.names_of(&tips), "D E");
    assert_eq!(check(&replica, drawn.tree(), |_| {}), Ok(vec![]));
}

#[test]
fn authors_are_chosen_by_name() {
    let drawn = Drawing::of("A-B-C")
        .author(|name| key(u32::from(name == "B")))
        .draw();
    let author = |name| drawn.entry(name).get().entry().author;
    assert_eq!(author("B"), key(1).public());
    assert_eq!(author("C"), key(0).public());
}

#[test]
#[should_panic(expected = "the drawing has the roots [\"A\", \"B\"]")]
fn two_roots_are_refused() {
    draw("A-C  B-C");
}

#[test]
#[should_panic(expected = "leads to no child")]
fn a_line_into_nothing_is_refused() {
    draw("A-B-");
}

#[test]
#[should_panic(expected = "comes from no parent")]
fn a_line_from_nothing_is_refused() {
    draw("A  -B");
}

#[test]
#[should_panic(expected = "its own ancestor")]
fn a_circle_is_refused() {
    draw("A-B-C-B");
}
