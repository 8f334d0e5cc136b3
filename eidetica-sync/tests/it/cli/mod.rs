//! The real program, in processes of its own.

mod damage;
#[cfg(unix)]
mod hub;
mod import;
mod joining;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod limits;
mod live;
mod names;
mod place;
#[cfg(unix)]
mod private;
mod proxies;
#[cfg(unix)]
mod serving;
mod tls;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

use serde_json::Value;

use self::place::{Place, lines, refusal};

#[test]
fn a_tree_is_made_written_and_read() {
    let place = Place::new();
    let key = place.line("a", &["init"]);
    assert_eq!(place.line("a", &["init"]), key, "the key stays");
    let tree = place.line("a", &["new", "notes"]);
    let first = place.line("a", &["append", "notes", "hello"]);
    fs::write(place.path("file"), [0xff, 0xfe, 0x00]).expect("room");
    let file = place.path("file");
    let second = place.line(
        "a",
        &["append", &tree[..4], "--file", file.to_str().expect("text")],
    );
    let input = b"one\r\n\ntwo\n\x1b[2Jlast";
    let rest = lines(&place.run_with("a", &["append", &tree, "--lines"], input));
    let whole = lines(&place.run_with("a", &["append", &tree], b"all\nof it\n"));

    let mut log: Vec<Value> = Vec::new();
    for line in place.lines("a", &["log", "notes", "--json", "--raw"]) {
        log.push(serde_json::from_str(&line).expect("JSON"));
    }
    let ids = log
        .iter()
        .map(|it| it["id"].as_str().expect("an id").to_owned());
    let expected = [&[tree.clone(), first, second], &rest[..], &whole[..]].concat();
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    let texts: Vec<_> = log.iter().map(|it| it["text"].as_str()).collect();
    let expected = [
        "notes",
        "hello",
        "",
        "one",
        "",
        "two",
        "\u{1b}[2Jlast",
        "all\nof it\n",
    ];
    let mut expected = expected.map(Some);
    expected[2] = None;
    assert_eq!(texts, expected);
    assert_eq!(log[2]["payload_bytes"], 3);
    assert_eq!(log[0]["kind"], "genesis");
    assert!(key.ends_with(log[1]["author"].as_str().expect("a key")));
    for (height, entry) in log.iter().enumerate() {
        assert_eq!(entry["height"], height);
        assert!(entry["encoded"].as_str().is_some_and(|it| it.len() > 128));
    }

    assert_eq!(place.lines("a", &["tips", "notes"]), whole);
    let ls = place.json("a", &["ls", "--json"]);
    assert_eq!((&ls["name"], &ls["entries"]), (&"notes".into(), &8.into()));
    assert_eq!(ls["tips"][0], whole[0].as_str());
    assert_eq!(place.line("a", &["verify", "notes"]), "ok 8 entries");
    assert!(
        place
            .line("a", &["verify", "--all"])
            .starts_with("ok 8 entries")
    );
    let for_people = place.lines("a", &["log", "notes"]);
    assert_eq!(for_people.len(), 8);
    assert!(
        !for_people.concat().contains('\u{1b}'),
        "it steers the terminal"
    );
}

#[test]
fn a_lost_database_is_not_a_new_store() {
    let place = Place::new();
    let key = place.line("a", &["init"]);
    let database = place.path("a").join("eidetica.redb");
    for empty in [false, true] {
        let tree = place.line("a", &["new", "notes"]);
        match empty {
            true => fs::write(&database, "").expect("room"),
            false => fs::remove_file(&database).expect("there"),
        }
        for args in [&["ls"][..], &["verify", "--all"], &["new", "b"], &["init"]] {
            let said = refusal(&place.run("a", args), 1);
            assert!(
                said.contains("database is missing") && said.contains("init --new"),
                "{said}"
            );
        }
        assert_eq!(place.line("a", &["init", "--new"]), key, "the key stays");
        assert!(place.lines("a", &["ls"]).is_empty());
        assert!(refusal(&place.run("a", &["tips", &tree]), 1).contains("no tree"));
    }
    let tree = place.line("a", &["new", "notes"]);
    place.line("a", &["init", "--new"]);
    assert_eq!(
        place.lines("a", &["tips", "notes"]),
        [tree],
        "nothing was lost"
    );
}

#[test]
fn only_the_owner_can_read_the_key() {
    let place = Place::new();
    let public = place.line("a", &["init"]);
    let key = place.path("a").join("key");
    let secret = fs::read_to_string(&key).expect("readable");
    assert_eq!(secret.trim().len(), 64);
    assert!(!public.contains(secret.trim()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    place.line("a", &["new", "notes"]);
    fs::write(&key, format!("{}x", secret.trim())).expect("room");
    let said = refusal(&place.run("a", &["ls"]), 1);
    assert!(
        said.contains("does not hold a key") && !said.contains(secret.trim()),
        "{said}"
    );
    fs::remove_file(&key).expect("there");
    let said = refusal(&place.run("a", &["new", "other"]), 1);
    assert!(
        said.contains("key is missing"),
        "a stranger's key would lose the tree: {said}"
    );
}

#[test]
fn a_large_entry_syncs_and_a_larger_one_is_refused() {
    let place = Place::new();
    let tree = place.line("a", &["new", "large", "--anyone", "read"]);
    let megabyte = vec![b'x'; 1_000_000];
    let entry = lines(&place.run_with("a", &["append", "large"], &megabyte));
    let twice = [megabyte.clone(), megabyte].concat();
    let file = place.path("two");
    fs::write(&file, &twice).expect("room");
    let by_file = ["append", "large", "--file", file.to_str().expect("text")];
    for output in [
        place.run_with("a", &["append", "large"], &twice),
        place.run_with("a", &["append", "large", "--lines"], &twice),
        place.run("a", &by_file),
    ] {
        let said = refusal(&output, 1);
        assert!(
            said.contains("too large") && said.contains("1048576"),
            "{said}"
        );
        assert!(said.contains("hint: split it"), "{said}");
    }
    // It fits, but for what an entry has around it.
    let nearly = vec![b'x'; 1 << 20];
    let said = refusal(&place.run_with("a", &["append", "large"], &nearly), 1);
    assert!(said.contains("the maximum is 1048576"), "{said}");
    assert_eq!(place.lines("a", &["tips", "large"]), entry);

    let server = place.serve("a");
    assert_eq!(place.line("b", &["join", &server.tickets[0]]), tree);
    assert_eq!(place.lines("b", &["tips", "large"]), entry);
}

/// Two processes write to one tree and sync until it is equal.
fn two_copies_become_equal(via: &str) {
    let place = Place::new();
    let tree = place.line("a", &["new", "shared", "--anyone", "write"]);
    place.lines("a", &["append", "shared", "from a"]);
    let server = place.serve("a");
    let ticket = place.line("a", &["ticket", "shared"]);
    assert_eq!(server.tickets, std::slice::from_ref(&ticket));

    let how = ["--loopback", "--json", "--via", via];
    let with = |first: &[&str]| -> Value { place.json("b", &[first, &how].concat()) };
    let joined = with(&["join", &ticket]);
    assert_eq!(joined["tree"], tree.as_str());
    assert_eq!(
        (&joined["transport"], &joined["outcome"]),
        (&via.into(), &"equal".into())
    );
    assert_eq!(joined["stats"]["stored"], 2);
    assert_eq!(joined["stats"]["round_trips"], 1);
    assert!(joined["seconds"].as_f64().is_some());
    let address = joined["address"].as_str().expect("an address").to_owned();
    assert!(server.addresses.contains(&address));

    // The addresses are remembered.
    let entry = place.line("b", &["append", "shared", "from b"]);
    let synced = with(&["sync", "shared"]);
    assert_eq!(
        (&synced["outcome"], &synced["stats"]["sent"]),
        (&"equal".into(), &1.into())
    );
    let again = with(&["sync", &tree[..6]]);
    assert_eq!(
        (&again["stats"]["sent"], &again["stats"]["received"]),
        (&0.into(), &0.into())
    );
    server.stop();
    assert_eq!(place.lines("a", &["tips", "shared"]), [entry]);

    // Both write, and the server comes back elsewhere.
    place.lines("a", &["append", "shared", "a again"]);
    place.lines("b", &["append", "shared", "b again"]);
    let server = place.serve("a");
    let mut at = server.addresses.iter().filter(|it| it.starts_with(via));
    let at = at.next().expect("it listens");
    let synced = with(&["sync", "shared", "--at", at]);
    assert_eq!(
        (&synced["outcome"], &synced["stats"]["received"]),
        (&"equal".into(), &1.into())
    );
    let last = with(&["sync", "shared"]);
    assert_eq!(last["address"], at.as_str());
    server.stop();
    let raw = |store| place.lines(store, &["log", "shared", "--json", "--raw"]);
    assert_eq!(raw("a"), raw("b"));
    assert_eq!(place.lines("b", &["tips", "shared"]).len(), 2);
    for store in ["a", "b"] {
        assert_eq!(
            place.lines(store, &["tips", "shared"]),
            place.lines("a", &["tips", &tree])
        );
        assert_eq!(place.line(store, &["verify", "shared"]), "ok 5 entries");
    }
}

#[test]
fn two_copies_become_equal_over_http() {
    two_copies_become_equal("http");
}

#[test]
fn two_copies_become_equal_over_iroh() {
    two_copies_become_equal("iroh");
}

#[test]
fn every_address_is_tried() {
    let place = Place::new();
    let tree = place.line("a", &["new", "shared", "--anyone", "read"]);
    let server = place.serve_with("a", &["--no-iroh"]);
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let absent = format!("http:127.0.0.1:{}", port.expect("a free port").port());
    let alive = &server.addresses[0];
    let ticket = format!("eidetica:{tree}?at={absent}&at={alive}");
    let joined = place.json("b", &["join", &ticket, "--json"]);
    assert_eq!(joined["address"], alive.as_str());

    let said = refusal(&place.run("b", &["sync", "shared", "--at", &absent]), 1);
    assert!(
        said.contains(&absent) && said.contains("eidetica serve"),
        "{said}"
    );
    let said = refusal(&place.run("b", &["sync", "shared", "--via", "iroh"]), 1);
    assert!(said.contains("kind iroh") && said.contains(alive), "{said}");
}

#[test]
fn an_unreadable_tree_looks_like_an_absent_one() {
    let place = Place::new();
    place.line("a", &["new", "private"]);
    let server = place.serve("a");
    let ticket = &server.tickets[0];
    let (_, places) = ticket.split_once('?').expect("a peer and addresses");
    let unknown = format!("eidetica:{}?{places}", "0".repeat(64));
    let mut said = Vec::new();
    for ticket in [ticket, &unknown] {
        let mut texts = String::new();
        for (args, code, expected) in [
            (
                ["sync", ticket, "--loopback"],
                1,
                "or does not let this device read it",
            ),
            (
                ["join", ticket, "--loopback"],
                3,
                "does not say whether it has the tree",
            ),
        ] {
            let text = refusal(&place.run("b", &args), code);
            assert!(text.contains(expected), "{text}");
            texts.push_str(&text);
        }
        let names = [(&ticket[9..73], "<tree>"), (&ticket[9..19], "<tree>")];
        said.push(
            names
                .iter()
                .fold(texts, |said, (from, to)| said.replace(from, to)),
        );
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(place.lines("b", &["ls"]), [""; 0]);
    refusal(&place.run("b", &["sync", &unknown[9..73]]), 3);
    refusal(&place.run("b", &["sync", &"1".repeat(64)]), 1);
}

#[test]
fn invalid_command_lines_are_refused() {
    let place = Place::new();
    for (args, expected) in [
        (&["join", "nonsense"][..], "a ticket begins with"),
        (
            &["join", "eidetica:abc?at=http:h:1"],
            "64 hexadecimal digits",
        ),
        (&["sync", "eidetica:abc"], "64 hexadecimal digits"),
        (&["sync", "notes", "--at", "nowhere"], "expected kind:value"),
        (&["verify"], "required"),
        (&["import", "git", ".", "--limit", "0"], "--limit"),
        (&["serve", "--no-http", "--no-iroh"], "cannot be used with"),
    ] {
        let said = refusal(&place.run("a", args), 2);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    assert!(!place.path("a").exists());
    let said = refusal(&place.run("a", &["ls"]), 1);
    assert!(
        said.contains("there is no store") && said.contains("eidetica init"),
        "{said}"
    );
    place.line("a", &["init"]);
    let bare = format!("eidetica:{}", "0".repeat(64));
    let said = refusal(&place.run("a", &["join", &bare]), 1);
    assert!(said.contains("quotes"), "{said}");
    let version = format!("eidetica {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(place.line("a", &["--version"]), version);
}

#[test]
fn entries_are_shown_whole_and_chosen() {
    let place = Place::new();
    let root = place.line("a", &["new", "notes", "--anyone", "read"]);
    let append = |text: &[u8]| lines(&place.run_with("a", &["append", "notes"], text)).remove(0);
    let bytes = b"\x00\xff \x1b[2J";
    let ids = [append(b"one"), append(bytes), append(b"three")];
    assert_eq!(place.run("a", &["show", "notes", &ids[1]]).stdout, bytes);
    let shown = place.json("a", &["show", "notes", &ids[1][..8], "--json"]);
    assert_eq!(shown["id"], ids[1].as_str());
    assert_eq!(
        (&shown["text"], &shown["base64"]),
        (&Value::Null, &"AP8gG1sySg==".into())
    );
    let genesis = place.json("a", &["show", "notes", &root, "--json"]);
    assert_eq!(genesis["access"][0]["subject"], "anyone");
    assert_eq!(genesis["access"][0]["role"], "read");
    let said = refusal(&place.run("a", &["show", "notes", &root]), 1);
    assert!(said.contains("no payload"), "{said}");
    let said = refusal(&place.run("a", &["show", "notes", "00000000"]), 1);
    assert!(said.contains("there is no entry"), "{said}");

    let log = |args: &[&str]| -> Vec<String> {
        let lines = place.lines("a", &[&["log", "notes", "--json"], args].concat());
        let ids = lines.iter().map(|line| {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            entry["id"].as_str().expect("an id").to_owned()
        });
        ids.collect()
    };
    let all = [&[root][..], &ids[..]].concat();
    assert_eq!(log(&[]), all);
    assert_eq!(log(&["-n", "2"]), all[2..]);
    assert_eq!(log(&["-n", "9"]), all);
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(log(&["--reverse"]), reversed);
    assert_eq!(log(&["--reverse", "-n", "1"]), all[3..]);
    assert_eq!(log(&["--since", &ids[0][..8]]), all[2..]);
}

#[test]
fn shells_and_man_learn_the_command_line() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.lines("none", &["completions", shell]).join("\n");
        assert!(script.contains("repair"), "{shell}");
    }
    let folder = place.path("man");
    fs::create_dir(&folder).expect("room");
    let pages = place.lines("none", &["man", folder.to_str().expect("text")]);
    assert!(pages.len() > 20, "{pages:?}");
    let page = fs::read_to_string(folder.join("eidetica-log.1")).expect("written");
    assert!(
        page.contains("eidetica\\-log") && page.contains("reverse"),
        "{page}"
    );
    assert!(!place.path("none").exists(), "no store is made");
}

#[test]
fn an_empty_stdin_is_no_entry() {
    let place = Place::new();
    let root = place.line("a", &["new", "notes"]);
    let said = refusal(&place.run("a", &["append", "notes"]), 1);
    assert!(said.contains("stdin is empty"), "{said}");
    assert_eq!(place.line("a", &["tips", "notes"]), root);
    place.line("a", &["append", "notes", ""]);
}

#[test]
fn a_closed_stdout_ends_the_command_quietly() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let line = format!("{}\n", "x".repeat(60));
    lines(&place.run_with(
        "a",
        &["append", "notes", "--lines"],
        line.repeat(9_000).as_bytes(),
    ));
    let mut log = place.command("a", &["log", "notes", "--json"]);
    let mut log = log
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = BufReader::new(log.stdout.take().expect("it is piped"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    assert!(first.contains("genesis"), "{first}");
    let mut said = String::new();
    let mut stderr = log.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(said, "");
    assert_eq!(log.wait().expect("it ends").code(), Some(0));
}
