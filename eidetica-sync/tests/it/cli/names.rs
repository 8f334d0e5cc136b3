//! Names and texts from elsewhere, as the program shows them.

use std::process::Output;

use super::place::{Place, lines};

/// Breaks lines, begins an escape sequence in two ways, turns text, and hides.
const EVIL: &str = "no\r\nyes\u{1b}[2J\u{9b}2J\u{202e}txet\u{200b}\u{2028}\u{feff}\u{ad}";

/// Checks that nothing that steers a terminal is in what a command says.
#[track_caller]
fn assert_plain(output: &Output) {
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        let steers = |c: &char| {
            (c.is_control() && *c != '\n') || "\u{202e}\u{200b}\u{2028}\u{feff}\u{ad}".contains(*c)
        };
        assert_eq!(said.chars().find(steers), None, "{said:?}");
    }
}

#[test]
fn nothing_from_elsewhere_steers_the_terminal() {
    let place = Place::new();
    let tree = place.line("a", &["new", EVIL]);
    lines(&place.run("a", &["append", &tree, EVIL]));
    let (server, _heard) = place.serve_heard("a");
    let ticket = server.tickets[0].clone();
    let note = ["join", &ticket, "--note", EVIL];
    assert_plain(&place.run("b", &note));
    for args in [
        &["ls"][..],
        &["ls", "--json"],
        &["log", &tree],
        &["log", &tree, "--json"],
        &["requests"],
        &["requests", "--json"],
        &["access", &tree],
        &["verify", "--all"],
        &["status"],
        &["peers"],
        &["tips", EVIL],
        &["tips", "no\nerror: yes"],
        &["append", &tree, "--file", "no\u{1b}[2J\nfile"],
        &["import", "git", "no\u{202e}repo\nx"],
        &["approve", &tree, "\u{1b}[2J"],
    ] {
        let output = place.run("a", args);
        assert_plain(&output);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let own_lines = ["error: ", "  caused by: ", "  hint: ", "ok", "damaged"];
        for line in said.lines() {
            assert!(
                own_lines.iter().any(|it| line.starts_with(it)),
                "{args:?}: {said}"
            );
        }
    }
    assert_eq!(place.lines("a", &["ls"]).len(), 1);
    assert_eq!(place.lines("a", &["log", &tree]).len(), 2);
    assert_eq!(place.lines("a", &["requests"]).len(), 1);
    assert_eq!(
        place.json("a", &["ls", "--json"])["name"],
        EVIL,
        "a program reads the name"
    );
}

#[test]
fn a_name_that_imitates_an_id_hides_no_tree() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes"]);
    let other = place.line("a", &["new", &tree]);
    assert_eq!(place.line("a", &["tips", &tree]), tree);
    assert_eq!(place.lines("a", &["tips", &other]), [other]);
    assert_eq!(place.lines("a", &["tips", &tree[..10]]), [tree]);
}
