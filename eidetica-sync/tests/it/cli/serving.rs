//! Commands on a store that a server has open.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use super::place::{Place, hear, lines, refusal};

/// A socket's path has about 100 bytes at most, a store's path has not.
#[cfg(target_os = "linux")]
#[test]
fn a_server_takes_commands_on_a_store_with_a_long_path() {
    let place = Place::new();
    let store = "long".repeat(40);
    place.line(&store, &["new", "notes"]);
    let server = place.serve(&store);
    let entry = place.line(&store, &["append", "notes", "one"]);
    assert_eq!(place.lines(&store, &["tips", "notes"]), [entry]);
    assert!(
        place
            .line(&store, &["invite", "notes"])
            .starts_with("eidetica:")
    );
    server.stop();
    place.line(&store, &["append", "notes", "two"]);
}

/// Connections that say nothing are closed after five seconds, and before that where there is no room.
#[test]
fn silent_connections_keep_no_one_out_where_files_are_few() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve_with_few_files("a", 64);
    let address = server.address("http").strip_prefix("http:").expect("HTTP");
    let connect = |_| TcpStream::connect(address).expect("the system takes it");
    let silent: Vec<TcpStream> = (0..150).map(connect).collect();
    let begun = Instant::now();
    let join = ["join", &server.tickets[0], "--via", "http"];
    assert_eq!(place.line("b", &join), tree);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    drop(silent);
    server.stop();
}

/// Gets a path from a server of metrics: the status line and the text.
fn get(url: &str, path: &str) -> (String, String) {
    let host = url.strip_prefix("http://").expect("HTTP");
    let host = host.strip_suffix("/metrics").expect("the path");
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.lines().next().expect("a status");
    (status.to_owned(), text.to_owned())
}

#[test]
fn metrics_are_served_on_this_machine() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let server = place.serve_with("a", &["--metrics", "127.0.0.1:0"]);
    let url = server.metrics.clone().expect("it says where");
    place.line("a", &["append", "notes", "one"]);
    place.line("a", &["append", "notes", "two"]);
    let ticket = place.line("a", &["invite", "notes"]);
    place.line("b", &["join", &ticket, "--via", "http"]);
    let (status, text) = get(&url, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let value = |name: &str| -> f64 {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let found = lines.filter(|(found, _)| *found == name);
        let values: Vec<f64> = found.map(|(_, it)| it.parse().expect("a number")).collect();
        assert_eq!(values.len(), 1, "{name} in {text}");
        values[0]
    };
    // Two texts, and the grant of the invite.
    assert_eq!(
        value("eidetica_entries_stored_total{origin=\"local\"}"),
        3.0
    );
    assert_eq!(value("eidetica_requests_total{kind=\"join\"}"), 1.0);
    assert_eq!(value("eidetica_followed{state=\"syncing\"}"), 0.0);
    assert_eq!(value("eidetica_duplicate_keys"), 0.0);
    assert!(text.contains("# TYPE eidetica_followed gauge"), "{text}");
    assert!(
        !text.contains(&server.tickets[0][9..20]),
        "no tree is named"
    );
    assert_eq!(get(&url, "/").0, "HTTP/1.1 404 Not Found");
    let said = refusal(&place.run("b", &["serve", "--metrics", "0.0.0.0:0"]), 1);
    assert!(said.contains("--metrics-anywhere"), "{said}");
    server.stop();
}

#[test]
fn commands_are_carried_out_by_the_server() {
    let place = Place::new();
    place.line("a", &["init"]);
    let server = place.serve("a");
    assert_eq!(place.line("a", &["init"]).len(), "key ".len() + 64);
    let tree = place.line("a", &["new", "notes"]);
    let first = place.line("a", &["append", "notes", "one"]);
    let input = b"two\nthree\n";
    let rest = lines(&place.run_with("a", &["append", "notes", "--lines"], input));
    assert_eq!(rest.len(), 2);
    let whole = lines(&place.run_with("a", &["append", "notes"], b"all\nof it"));
    let file = place.path("file");
    fs::write(&file, "from a file").expect("room");
    // A path is meant from where the command is given.
    let mut by_file = place.command("a", &["append", "notes", "--file", "file"]);
    let by_file = by_file.current_dir(place.path("")).output();
    let last = lines(&by_file.expect("it starts"));
    let log = place.lines("a", &["log", "notes", "--json"]);
    let texts: Vec<String> = log
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|entry| entry["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(
        texts,
        ["notes", "one", "two", "three", "all\nof it", "from a file"]
    );
    assert_eq!(place.lines("a", &["tips", "notes"]), last);
    assert_eq!(place.line("a", &["verify", "notes"]), "ok 6 entries");
    let ls = place.json("a", &["ls", "--json"]);
    assert_eq!(
        (&ls["tree"], &ls["entries"]),
        (&tree.as_str().into(), &6.into())
    );
    let ticket = place.line("a", &["ticket", "notes"]);
    assert!(ticket.contains(&tree) && ticket.contains(&place.line("a", &["init"])[4..]));
    let said = refusal(&place.run("a", &["ticket", "other"]), 1);
    assert!(said.contains("no tree \"other\""), "{said}");
    let absent = place.run("a", &["append", "notes", "--file", "absent"]);
    assert!(refusal(&absent, 1).contains("could not open absent"));
    let folder = place.path("");
    let folder = ["append", "notes", "--file", folder.to_str().expect("text")];
    assert!(refusal(&place.run("a", &folder), 1).contains("could not read"));
    refusal(&place.run("a", &["append", "notes", "--role"]), 2);
    let said = refusal(&place.run("a", &["serve"]), 1);
    assert!(
        said.contains(&format!("process {}", server.child.id())),
        "{said}"
    );
    server.stop();
    // What was written is there without the server too.
    assert_eq!(place.lines("a", &["log", "notes", "--json"]), log);
    assert!(
        [first, rest.concat(), whole.concat()]
            .iter()
            .all(|id| !id.is_empty())
    );
}

#[test]
fn large_input_and_output_pass_and_have_limits() {
    let place = Place::new();
    place.line("a", &["new", "large"]);
    let server = place.serve("a");
    let megabyte = vec![b'x'; 1_000_000];
    lines(&place.run_with("a", &["append", "large"], &megabyte));
    let said = refusal(
        &place.run_with("a", &["append", "large"], &megabyte.repeat(3)),
        1,
    );
    assert!(said.contains("too large"), "{said}");
    let many = "a line\n".repeat(20_000);
    let ids = lines(&place.run_with("a", &["append", "large", "--lines"], many.as_bytes()));
    assert_eq!(ids.len(), 20_000);
    let raw = ["log", "large", "--json", "--raw"];
    let served = place.lines("a", &raw);
    // A reader who has seen enough ends the command, and not the server.
    let mut log = place.command("a", &raw);
    let log = log.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut log = log.expect("it starts");
    drop(log.stdout.take());
    let output = log.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    server.stop();
    assert_eq!(place.lines("a", &raw), served);
}

#[test]
fn a_server_syncs_with_another() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let ann = place.serve("a");
    place.line("b", &["init"]);
    let bob = place.serve("b");
    let ticket = place.line("a", &["invite", "notes"]);
    let joined = place.json("b", &["join", &ticket, "--via", "iroh", "--json"]);
    assert_eq!(joined["transport"], "iroh");
    place.line("b", &["append", "notes", "from b"]);
    // The servers may have exchanged the entry by themselves already.
    let synced = place.json("b", &["sync", "notes", "--via", "http", "--json"]);
    assert_eq!(
        (&synced["outcome"], &synced["transport"]),
        (&"equal".into(), &"http".into())
    );
    let log = |store| place.lines(store, &["log", "notes"]);
    assert_eq!(log("a"), log("b"));
    ann.stop();
    let said = refusal(&place.run("b", &["sync", "notes", "--via", "http"]), 1);
    assert!(said.contains("eidetica serve"), "{said}");
    bob.stop();
}

#[test]
fn a_server_that_was_killed_leaves_nothing_that_anyone_believes() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let mut server = place.serve("a");
    let socket = place.path("a").join("control").join("socket");
    let folder = fs::metadata(place.path("a").join("control")).expect("it is there");
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    assert!(socket.exists());
    server.kill();
    assert!(socket.exists());
    let said = refusal(&place.run("a", &["ticket", "notes"]), 1);
    assert!(said.contains("no server runs"), "{said}");
    place.line("a", &["append", "notes", "yes"]);
    assert!(!socket.exists());
    let mut server = place.serve("a");
    server.kill();
    let server = place.serve("a");
    place.line("a", &["append", "notes", "and again"]);
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn half_of_the_input_is_not_taken_for_all_of_it() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let tips = place.lines("a", &["tips", "notes"]);
    let server = place.serve("a");
    let mut append = place.command("a", &["append", "notes"]);
    let append = append.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut append = append.expect("it starts");
    let mut stdin = append.stdin.take().expect("it is piped");
    stdin.write_all(&[b'x'; 100_000]).expect("it reads");
    append.kill().expect("it runs");
    append.wait().expect("it ends");
    server.stop();
    assert_eq!(place.lines("a", &["tips", "notes"]), tips);
}

#[test]
fn a_command_that_reads_does_not_hold_up_the_end() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let server = place.serve("a");
    let mut append = place.command("a", &["append", "notes", "--lines"]);
    append
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut append = append.spawn().expect("it starts");
    let mut stdin = append.stdin.take().expect("it is piped");
    stdin.write_all(b"one\n").expect("it reads");
    let mut id = String::new();
    let mut stdout = BufReader::new(append.stdout.take().expect("it is piped"));
    stdout.read_line(&mut id).expect("text");
    server.stop();
    let said = refusal(&append.wait_with_output().expect("it ends"), 1);
    assert!(
        said.contains("the server ended before the command did"),
        "{said}"
    );
    assert_eq!(place.lines("a", &["tips", "notes"]), [id.trim()]);
}

#[test]
fn where_a_socket_cannot_be_made_the_server_goes_without() {
    let place = Place::new();
    let store = "a";
    place.line(store, &["new", "notes"]);
    fs::write(place.path("a").join("control"), "not a folder").expect("room");
    let (server, mut heard) = place.serve_heard(store);
    hear(&mut heard, "must wait until the server ends");
    let said = refusal(
        &place.run(store, &["--wait", "0", "append", "notes", "no"]),
        1,
    );
    assert!(said.contains("is open already"), "{said}");
    assert!(
        said.contains(&format!("process {}", server.child.id())),
        "{said}"
    );
    assert_eq!(place.line(store, &["ticket", "notes"]), server.tickets[0]);
    server.stop();
    place.line(store, &["append", "notes", "yes"]);
}

#[test]
fn what_makes_no_sense_is_not_answered() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let server = place.serve("a");
    let socket = place.path("a").join("control").join("socket");
    for nonsense in [&[0xff; 8][..], &[1, 0, 0, 0, 99], &[0, 0, 0, 0]] {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(nonsense).expect("room");
        let mut answer = Vec::new();
        let _is_reset = stream.read_to_end(&mut answer);
        assert_eq!(answer, [0; 0]);
    }
    server.stop();
    place.line("a", &["ls"]);
}

#[test]
fn commands_beyond_a_number_wait_for_a_place() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let server = place.serve("a");
    let followers: Vec<_> = (0..16)
        .map(|_| {
            let mut follower = place.begin("a", &["log", "notes", "--follow"]);
            hear(&mut follower.stdout(), "notes");
            follower
        })
        .collect();
    let said = refusal(&place.run("a", &["--wait", "0", "ls"]), 1);
    assert!(said.contains("did not start the command"), "{said}");
    let ls = place.begin("a", &["--wait", "60", "ls"]);
    drop(followers);
    assert_eq!(lines(&ls.finish()).len(), 1);
    server.stop();
    place.line("a", &["ls"]);
}

/// Runs many appends at once, and returns their ids in no order.
fn append_at_once(place: &Place, count: usize) -> Vec<String> {
    let begun: Vec<_> = (0..count)
        .map(|n| {
            place.begin(
                "a",
                &["--wait", "120", "append", "notes", &format!("entry {n}")],
            )
        })
        .collect();
    let ids = begun.into_iter().map(|it| lines(&it.finish()).concat());
    ids.collect()
}

#[test]
fn commands_side_by_side_wait_for_each_other() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let mut ids = append_at_once(&place, 12);
    // A command that begins before the server takes commands is carried out all the same.
    let serving = std::thread::scope(|scope| {
        let server = scope.spawn(|| place.serve("a"));
        ids.extend(append_at_once(&place, 24));
        server.join().expect("it starts")
    });
    ids.extend(append_at_once(&place, 24));
    let said = refusal(&place.run("a", &["serve"]), 1);
    assert!(said.contains("is open already"), "{said}");
    serving.stop();
    let log = place.lines("a", &["log", "notes", "--json"]);
    assert_eq!((ids.len(), log.len()), (60, 61));
    for id in ids {
        assert!(log.iter().any(|line| line.contains(&id)), "{id} is lost");
    }
    assert_eq!(place.line("a", &["verify", "notes"]), "ok 61 entries");
    let queue = fs::read_dir(place.path("a").join("queue")).expect("it is there");
    assert_eq!(queue.count(), 0);
}

#[test]
fn a_store_that_stays_open_is_reported_after_the_wait() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let mut reader = place.command("a", &["append", "notes", "--lines"]);
    let reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut reader = reader.expect("it starts");
    let mut stdin = reader.stdin.take().expect("it is piped");
    stdin.write_all(b"one\n").expect("it reads");
    let mut stdout = BufReader::new(reader.stdout.take().expect("it is piped"));
    stdout.read_line(&mut String::new()).expect("text");
    for seconds in ["0", "0.2"] {
        let said = refusal(&place.run("a", &["--wait", seconds, "ls"]), 1);
        assert!(said.contains("is open already"), "{said}");
        assert!(said.contains("--wait SECONDS"), "{said}");
    }
    let waiting = place.begin("a", &["--wait", "60", "ls"]);
    drop(stdin);
    assert!(reader.wait().expect("it ends").success());
    assert_eq!(lines(&waiting.finish()).len(), 1);
    for seconds in ["-1", "NaN", "1e9", "soon"] {
        let wait = format!("--wait={seconds}");
        refusal(&place.run("a", &[&wait, "ls"]), 2);
    }
}
