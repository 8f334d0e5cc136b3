//! Copies that stay in sync by themselves.

use std::io::BufReader;
use std::process::ChildStdout;

use serde_json::Value;

use super::place::{Place, Server, Started, hear, lines, refusal};

/// Follows the log of a tree, from its root on.
fn follow_log(place: &Place, store: &str) -> (Started, BufReader<ChildStdout>) {
    let mut log = place.begin(store, &["log", "notes", "--follow", "--loopback"]);
    let mut stdout = log.stdout();
    hear(&mut stdout, "[tree notes]");
    (log, stdout)
}

/// Waits until a peer is in a state according to a store's server, and returns that line.
fn await_state(place: &Place, store: &str, state: &str) -> Value {
    let mut watch = place.begin(store, &["status", "--watch", "--json", "--loopback"]);
    let heard = hear(&mut watch.stdout(), &format!("\"state\":\"{state}\""));
    let last = heard.lines().last().expect("a line");
    serde_json::from_str(last).expect("JSON")
}

fn key(place: &Place, store: &str) -> String {
    place.line(store, &["init"])[4..].to_owned()
}

/// Serves, and asks peers often what they have: that a watch has brought it to them, is known then.
fn serve(place: &Place, store: &str) -> Server {
    place.serve_with(store, &["--check-interval", "1"])
}

/// Creates a tree in the store `a`, and joins it with `b`.
fn join(place: &Place) -> String {
    let tree = place.line("a", &["new", "notes"]);
    let server = serve(place, "a");
    let ticket = place.line("a", &["invite", "notes"]);
    place.line("b", &["join", &ticket, "--via", "http"]);
    server.stop();
    tree
}

#[test]
fn after_a_join_no_sync_by_hand_is_needed() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes"]);
    let ann = serve(&place, "a");
    let ticket = place.line("a", &["invite", "notes"]);
    place.line("b", &["join", &ticket, "--via", "http"]);
    let bob = serve(&place, "b");
    let (_log_a, mut at_a) = follow_log(&place, "a");
    let (_log_b, mut at_b) = follow_log(&place, "b");
    place.line("a", &["append", "notes", "from a"]);
    hear(&mut at_b, "from a");
    place.line("b", &["append", "notes", "from b"]);
    hear(&mut at_a, "from b");

    // Each knows the other: who joined is followed too, as soon as it can be reached.
    let (of_a, of_b) = (
        await_state(&place, "a", "in sync"),
        await_state(&place, "b", "in sync"),
    );
    assert_eq!(of_a["peer"], key(&place, "b").as_str());
    assert_eq!(of_b["peer"], key(&place, "a").as_str());
    for of in [of_a, of_b] {
        assert_eq!(
            (&of["tree"], &of["name"]),
            (&tree.as_str().into(), &"notes".into())
        );
        assert!(of["since_ms"].as_u64() > Some(1_600_000_000_000), "{of}");
    }
    let line = place.line("a", &["status"]);
    assert!(
        line.contains(&key(&place, "b")[..10]) && line.contains("notes"),
        "{line}"
    );
    ann.stop();
    bob.stop();
    let log = |store| place.lines(store, &["log", "notes", "--json"]);
    assert_eq!(log("a"), log("b"));
}

#[test]
fn a_server_that_was_killed_catches_up_from_another_address() {
    let place = Place::new();
    join(&place);
    let mut ann = serve(&place, "a");
    let ticket = place.line("a", &["ticket", "notes"]);
    let bob = serve(&place, "b");
    place.lines("b", &["follow", "notes", &ticket]);
    await_state(&place, "a", "in sync");
    ann.kill();
    place.line("b", &["append", "notes", "while a was away"]);
    await_state(&place, "b", "unreachable");

    // The free ports differ from before: `b` cannot know them, and `a` knows where `b` is.
    let ann = serve(&place, "a");
    let (_log_a, mut at_a) = follow_log(&place, "a");
    hear(&mut at_a, "while a was away");
    let (_log_b, mut at_b) = follow_log(&place, "b");
    place.line("a", &["append", "notes", "a is back"]);
    hear(&mut at_b, "a is back");
    await_state(&place, "b", "in sync");
    ann.stop();
    bob.stop();
}

#[test]
fn a_pause_lasts_until_follow() {
    let place = Place::new();
    join(&place);
    let ann = serve(&place, "a");
    let ticket = place.line("a", &["ticket", "notes"]);
    let bob = serve(&place, "b");
    place.lines("b", &["follow", "notes", &ticket]);
    await_state(&place, "a", "in sync");
    for store in ["a", "b"] {
        place.lines(store, &["pause", "notes"]);
        assert_eq!(place.json(store, &["status", "--json"])["state"], "paused");
    }
    place.line("a", &["append", "notes", "in the pause"]);
    // A restart does not end it, and neither does contact.
    bob.stop();
    let bob = serve(&place, "b");
    assert!(place.line("b", &["status", "notes"]).contains("paused"));
    assert!(place.lines("b", &["peers"])[0].contains("(paused)"));
    assert!(
        !place
            .lines("b", &["log", "notes"])
            .concat()
            .contains("in the pause")
    );

    let (_log_b, mut at_b) = follow_log(&place, "b");
    place.lines("b", &["follow", "notes"]);
    hear(&mut at_b, "in the pause");
    assert_eq!(place.json("a", &["status", "--json"])["state"], "paused");
    ann.stop();
    bob.stop();
}

#[test]
fn commands_follow_by_themselves_without_a_server() {
    let place = Place::new();
    join(&place);
    let idle = place.line("b", &["status"]);
    assert!(idle.contains("no server runs here; last reached"), "{idle}");
    let ann = serve(&place, "a");
    let ticket = place.line("a", &["ticket", "notes"]);
    place.lines("b", &["follow", "notes", &ticket]);
    {
        let (_log, mut at_b) = follow_log(&place, "b");
        place.line("a", &["append", "notes", "news"]);
        hear(&mut at_b, "news");
    }
    let in_sync = await_state(&place, "b", "in sync");
    assert_eq!(in_sync["peer"], key(&place, "a").as_str());
    ann.stop();
}

#[test]
fn a_tree_is_given_to_a_device_that_accepts_it() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    place.line("a", &["append", "notes", "a gift"]);
    let (ann, bob) = (key(&place, "a"), key(&place, "b"));
    place.lines("b", &["accept", &ann]);
    assert_eq!(place.lines("b", &["accept"]), std::slice::from_ref(&ann));
    let (server, mut heard) = place.serve_heard("b");
    let at = server.address("http:").to_owned();
    let _giver = serve(&place, "a");
    place.lines("a", &["follow", "notes", &at, "--give"]);
    hear(&mut heard, "2 entries in");
    assert_eq!(place.line("b", &["verify", &tree[..8]]), "ok 2 entries");
    let peers = place.lines("a", &["peers"]);
    assert!(
        peers[0].starts_with(&bob) && peers[0].contains(&tree[..10]),
        "{peers:?}"
    );
    place.lines("b", &["accept", &ann, "--off"]);
    assert_eq!(place.lines("b", &["accept"]), [""; 0]);
}

#[test]
fn peers_are_added_listed_and_removed() {
    let place = Place::new();
    join(&place);
    let (ann, other) = (key(&place, "a"), key(&place, "c"));
    let at = "http:192.0.2.7:80";
    place.lines("b", &["peers", "add", &other, at]);
    let find = |key: &str| -> Option<Value> {
        let peers = place.lines("b", &["peers", "--json"]);
        let peers = peers
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        peers.into_iter().find(|it| it["peer"] == key)
    };
    let added = find(&other).expect("it was added");
    assert_eq!(added["addresses"][0]["address"], at);
    assert_eq!(added["addresses"][0]["origin"], "added by hand");
    let joined = find(&ann).expect("it was joined from");
    assert!(
        joined["addresses"][0]["last_success_ms"].is_u64(),
        "{joined}"
    );
    assert_eq!(
        place.json("b", &["peers", "notes", "--json"])["peer"],
        ann.as_str()
    );

    refusal(
        &place.run("b", &["peers", "remove", &other[..8], "http:192.0.2.8:80"]),
        1,
    );
    place.lines("b", &["peers", "remove", &other[..8], at]);
    assert_eq!(
        find(&other).expect("it stays")["addresses"],
        Value::Array(Vec::new())
    );
    place.lines("b", &["peers", "remove", &ann[..8]]);
    assert_eq!(find(&ann), None);
    assert_eq!(place.lines("b", &["status"]), [""; 0]);
    let said = refusal(&place.run("b", &["follow", "notes"]), 1);
    assert!(said.contains("no peer of the tree"), "{said}");
    let said = refusal(&place.run("b", &["pause", "notes"]), 1);
    assert!(said.contains("no peer of the tree"), "{said}");
}

#[test]
fn a_name_cannot_forge_a_line() {
    let place = Place::new();
    let name = "notes\nready\r\u{1b}[2J\u{202e}\u{2028}error: forged";
    let tree = place.line("a", &["new", name, "--anyone", "read"]);
    place.line("a", &["append", &tree, "one\nerror: forged"]);
    let server = serve(&place, "a");
    let joined = place.run("b", &["join", &server.tickets[0], "--via", "http"]);
    let mut printed = String::from_utf8_lossy(&joined.stderr).into_owned();
    printed.push_str(&lines(&joined).join("\n"));
    for (args, expected) in [
        (&["ls"][..], 1),
        (&["status"], 1),
        (&["log", &tree], 2),
        (&["peers"], 3),
    ] {
        let said = place.lines("b", args);
        assert!(said.len() <= expected, "{args:?}: {said:?}");
        printed.push_str(&said.join("\n"));
    }
    for bad in ['\u{1b}', '\r', '\u{202e}', '\u{2028}'] {
        assert!(!printed.contains(bad), "{printed:?}");
    }
    assert!(
        !printed
            .lines()
            .any(|line| line.starts_with("error: forged") || line == "ready")
    );
}
