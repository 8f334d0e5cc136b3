//! Joining trees that are private, and letting others join.

use serde_json::Value;

use super::place::{Place, Server, hear, lines, refusal};

/// The public key of a store, which is made if need be.
fn key(place: &Place, store: &str) -> String {
    let line = place.line(store, &["init"]);
    line.strip_prefix("key ").expect("a key").to_owned()
}

/// Serves a private tree with one entry, and returns the tree's id and the server.
fn private_tree(place: &Place) -> (String, Server) {
    let tree = place.line("a", &["new", "notes"]);
    place.line("a", &["append", "notes", "secret"]);
    (tree, place.serve("a"))
}

#[test]
fn who_asks_is_let_in_by_the_running_server() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes"]);
    place.line("a", &["append", "notes", "secret"]);
    let (server, mut heard) = place.serve_heard("a");
    let ticket = &server.tickets[0];
    let (ann, bob) = (key(&place, "a"), key(&place, "b"));
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);

    let note = "it is me\u{1b}[2J\nreally";
    let ask = ["join", ticket, "--via", "http", "--note", note];
    for args in [
        &ask[..],
        &ask[..4],
        &["sync", &tree[..8]],
        &["sync", ticket],
    ] {
        let said = refusal(&place.run("b", args), 3);
        let approve = format!("eidetica approve {} {}", &tree[..10], &bob[..10]);
        for expected in [&ann, &bob, &approve, "does not say", "--wait"] {
            assert!(said.contains(expected), "{args:?}: no {expected} in {said}");
        }
    }
    let json = place.run("b", &["join", ticket, "--json", "--loopback"]);
    assert_eq!(json.status.code(), Some(3));
    let state: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        (&state["state"], &state["tree"]),
        (&"pending".into(), &tree.as_str().into())
    );

    let told = hear(&mut heard, "eidetica approve");
    assert!(
        told.contains(&bob) && told.contains("asks to read"),
        "{told}"
    );
    assert!(
        told.contains("it is me\\u{1b}[2J") && !told.contains('\u{1b}'),
        "{told}"
    );
    let line = place.line("a", &["requests", "notes"]);
    assert!(
        line.contains(&bob) && line.contains("read") && line.contains("it is me"),
        "{line}"
    );
    assert!(!line.contains('\u{1b}'), "{line}");
    // Asking again asked for the same.
    let request = place.json("a", &["requests", "--json"]);
    assert_eq!(
        (&request["note"], &request["key"]),
        (&note.into(), &bob.as_str().into())
    );
    assert_eq!(
        (&request["role"], &request["rejected"]),
        (&"read".into(), &false.into())
    );

    let unknown = refusal(&place.run("a", &["approve", "notes", "0123"]), 1);
    assert!(
        unknown.contains("no known key starts with \"0123\""),
        "{unknown}"
    );
    assert_eq!(place.lines("a", &["approve", "notes", &bob[..6]]), [""; 0]);
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);
    assert_eq!(place.line("b", &ask[..4]), tree);
    let log = |store| place.lines(store, &["log", "notes", "--json"]);
    assert_eq!(log("a"), log("b"));
    let for_people = place.lines("b", &["log", "notes"]).concat();
    assert!(
        for_people.contains(&format!("{} may read", &bob[..10])),
        "{for_people}"
    );
    // Nothing is pending any more.
    assert_eq!(
        place.lines("b", &["sync", "notes", "--via", "http"]),
        [""; 0]
    );
    refusal(&place.run("b", &["append", "notes", "no"]), 1);
}

#[test]
fn who_waits_is_let_in_when_an_admin_approves() {
    let place = Place::new();
    let (tree, server) = private_tree(&place);
    let bob = key(&place, "b");
    let args = [
        "join",
        &server.tickets[0],
        "--via",
        "http",
        "--role",
        "admin",
        "--wait",
        "--json",
    ];
    let mut waits = place.begin("b", &args);
    let mut stderr = waits.stderr();
    let told = hear(&mut stderr, "eidetica grant");
    assert!(told.contains(&bob) && told.contains("waiting: "), "{told}");
    let approved = place.run("a", &["approve", "notes", &bob]);
    let said = String::from_utf8_lossy(&approved.stderr).into_owned();
    assert_eq!(lines(&approved), [""; 0]);
    assert!(
        said.contains("may write") && said.contains("asked to be admin"),
        "{said}"
    );
    let told = hear(&mut stderr, "has not granted");
    assert!(told.contains("this device may write"), "{told}");
    let done: Value = serde_json::from_str(&lines(&waits.finish())[0]).expect("JSON");
    assert_eq!(
        (&done["tree"], &done["stats"]["stored"]),
        (&tree.as_str().into(), &3.into())
    );

    // It has less than it asked for, and does not ask again.
    place.line("b", &["append", "notes", "from b"]);
    assert_eq!(
        place.json("b", &["sync", "notes", "--json"])["stats"]["sent"],
        1
    );
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);
}

#[test]
fn who_waits_waits_for_the_peer_too() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve("a");
    let (ticket, at) = (
        server.tickets[0].clone(),
        server.address("http:").to_owned(),
    );
    server.stop();
    let mut waits = place.begin("b", &["join", &ticket, "--via", "http", "--wait"]);
    let mut stderr = waits.stderr();
    let told = hear(&mut stderr, "waiting");
    assert!(told.contains(&at), "{told}");
    let _server = place.serve_at("a", at.strip_prefix("http:").expect("an address"));
    hear(&mut stderr, "is here");
    assert_eq!(lines(&waits.finish()), [tree]);
}

#[test]
fn who_stops_to_wait_can_go_on_later() {
    let place = Place::new();
    let (tree, server) = private_tree(&place);
    let join = [
        "join",
        &server.tickets[0],
        "--via",
        "http",
        "--note",
        "me",
        "--wait",
    ];
    let mut waits = place.begin("b", &join);
    hear(&mut waits.stderr(), "eidetica grant");
    drop(waits);
    refusal(&place.run("b", &["sync", &tree[..8], "--via", "http"]), 3);
    assert_eq!(place.json("a", &["requests", "--json"])["note"], "me");
    place.lines("a", &["approve", "notes", &key(&place, "b")]);
    place.lines("b", &["sync", &tree[..8], "--via", "http"]);
    assert_eq!(place.line("b", &["verify", "notes"]), "ok 3 entries");
}

#[test]
fn approving_takes_nothing_away_that_another_admin_has_granted() {
    let place = Place::new();
    let (_, server) = private_tree(&place);
    let (bob, eve) = (key(&place, "b"), key(&place, "c"));
    refusal(
        &place.run("b", &["join", &server.tickets[0], "--via", "http"]),
        3,
    );
    let ticket = place.line("a", &["invite", "notes", "--role", "admin"]);
    place.line("c", &["join", &ticket, "--via", "http"]);
    place.lines("c", &["grant", "notes", &bob, "write"]);
    assert_eq!(
        place.json("c", &["sync", "notes", "--json"])["stats"]["sent"],
        1
    );
    place.lines("a", &["approve", "notes", &bob[..8]]);
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);
    let access = place.lines("a", &["access", "notes"]);
    for line in [format!("write  {bob}"), format!("admin  {eve}")] {
        assert!(access.contains(&line), "{access:?}");
    }
}

#[test]
fn who_is_rejected_is_told_so() {
    let place = Place::new();
    let (tree, server) = private_tree(&place);
    let join = ["join", &server.tickets[0], "--via", "http"];
    refusal(&place.run("b", &join), 3);
    let bob = key(&place, "b");
    place.lines("a", &["reject", &tree[..8], &bob[..4]]);
    for _ in 0..2 {
        let said = refusal(&place.run("b", &join), 4);
        assert!(
            said.contains("has rejected this device's request"),
            "{said}"
        );
    }
    let waits = [&join[..], &["--wait"]].concat();
    refusal(&place.run("b", &waits), 4);
    assert!(place.line("a", &["requests"]).contains("  rejected"));
    assert_eq!(place.json("a", &["requests", "--json"])["rejected"], true);
    // An admin may change their mind.
    place.lines("a", &["grant", "notes", &bob[..4], "write"]);
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);
    assert_eq!(place.line("b", &join), tree);
}

#[test]
fn an_invite_lets_one_device_in() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes"]);
    let said = refusal(&place.run("a", &["invite", "notes"]), 1);
    assert!(said.contains("eidetica serve"), "{said}");
    let server = place.serve("a");
    let ticket = place.line("a", &["invite", "notes"]);
    assert!(ticket.starts_with(&server.tickets[0]) && ticket.contains("&invite="));
    let open = place.json("a", &["invites", "notes", "--json"]);
    assert_eq!(
        (&open["role"], &open["uses_left"]),
        (&"write".into(), &1.into())
    );
    let listed = place.line("a", &["invites", "notes"]);
    let secret = ticket.split_once("&invite=").expect("a secret").1;
    assert!(!listed.contains(&secret[..10]), "a list is no secret");

    let join = ["join", &ticket, "--via", "http"];
    assert_eq!(place.line("b", &join), tree);
    assert_eq!(place.lines("a", &["invites", "notes"]), [""; 0]);
    let said = refusal(&place.run("c", &join), 1);
    assert!(said.contains("refused the invite"), "{said}");
    assert_eq!(place.line("b", &join), tree, "it is in");
    place.line("b", &["append", "notes", "from b"]);
    assert_eq!(
        place.json("b", &["sync", "notes", "--json"])["stats"]["sent"],
        1
    );

    let invite = [
        "invite",
        "notes",
        "--role",
        "read",
        "--uses",
        "2",
        "--expires",
        "1h",
    ];
    let ticket = place.line("a", &invite);
    assert_eq!(place.line("c", &["join", &ticket, "--via", "http"]), tree);
    let open = place.json("a", &["invites", "notes", "--json"]);
    let name = open["invite"].as_str().expect("a name");
    assert_eq!(open["used_by"][0], key(&place, "c").as_str());
    place.lines("a", &["withdraw", "notes", &name[..8]]);
    refusal(&place.run("d", &["join", &ticket, "--via", "http"]), 1);
    refusal(&place.run("a", &["withdraw", "notes", name]), 1);
    assert_eq!(place.lines("a", &["requests"]), [""; 0]);
}

#[test]
fn who_is_revoked_is_out() {
    let place = Place::new();
    let (_, server) = private_tree(&place);
    let (ann, bob) = (key(&place, "a"), key(&place, "b"));
    place.lines("a", &["grant", "notes", &bob, "write"]);
    place.line("b", &["join", &server.tickets[0], "--via", "http"]);
    let mut access = place.lines("a", &["access", "notes"]);
    access.sort();
    assert_eq!(
        access,
        [
            format!("admin  {ann}  (this device)"),
            format!("write  {bob}")
        ]
    );
    place.line("a", &["invite", "notes"]);
    let revoked = place.run("a", &["revoke", "notes", &bob[..4]]);
    let said = String::from_utf8_lossy(&revoked.stderr).into_owned();
    assert_eq!(lines(&revoked), [""; 0]);
    assert!(
        said.contains("1 open invite can") && said.contains("eidetica withdraw"),
        "{said}"
    );

    let said = refusal(&place.run("b", &["sync", "notes", "--via", "http"]), 1);
    assert!(
        said.contains("or does not let this device read it"),
        "{said}"
    );
    assert!(said.contains(&bob), "{said}");
    refusal(&place.run("a", &["revoke", "notes", &bob]), 1);

    // The last admin stays, unless that is wanted.
    for args in [
        &["revoke", "notes", &ann][..],
        &["grant", "notes", &ann, "write"],
    ] {
        let said = refusal(&place.run("a", args), 1);
        assert!(said.contains("is the last admin"), "{said}");
    }
    refusal(&place.run("a", &["grant", "notes", "anyone", "admin"]), 1);
    place.lines("a", &["grant", "notes", "anyone", "read"]);
    assert!(place.json("b", &["sync", "notes", "--json"])["outcome"].is_string());
    place.lines("a", &["revoke", "notes", &ann, "--force"]);
    let said = refusal(&place.run("a", &["grant", "notes", &bob, "read"]), 1);
    assert!(said.contains("eidetica access"), "{said}");
}

#[test]
fn a_role_can_be_asked_for_where_anyone_may_read() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve("a");
    let args = [
        "join",
        &server.tickets[0],
        "--via",
        "http",
        "--role",
        "write",
    ];
    let output = place.run("b", &args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(lines(&output), [tree]);
    assert!(
        said.contains("this device may read; an admin has not granted"),
        "{said}"
    );
    assert_eq!(place.json("a", &["requests", "--json"])["role"], "write");
}

#[test]
fn another_server_at_an_address_is_refused_until_it_is_forgotten() {
    let place = Place::new();
    place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve("a");
    let at = server.address("http:").to_owned();
    place.line("c", &["join", &server.tickets[0], "--via", "http"]);
    let sync = ["sync", "notes", "--at", &at];
    place.line("b", &["join", &server.tickets[0], "--via", "http"]);
    place.lines("b", &sync);
    server.stop();

    let _other = place.serve_at("c", at.strip_prefix("http:").expect("an address"));
    let said = refusal(&place.run("b", &sync), 1);
    assert!(said.contains(&key(&place, "c")), "{said}");
    assert!(said.contains(&format!("eidetica forget {at}")), "{said}");
    place.lines("b", &["forget", &at]);
    place.lines("b", &sync);
}
