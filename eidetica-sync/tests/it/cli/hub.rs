//! Servers on a PostgreSQL database.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use eidetica_sync::store::conformance::postgres;

use super::place::{Place, Server, refusal};

/// Returns the status of a health check.
fn health(server: &Server, which: &str) -> u16 {
    let address = server.address("http:").trim_start_matches("http:");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request =
        format!("GET /health/{which} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer[9..12].parse().expect("a status")
}

#[test]
#[ignore = "needs PostgreSQL"]
fn postgres_holds_the_trees_of_several_servers() {
    let place = Place::new();
    let database = postgres::Server::start();
    let url = database.url();
    let on = |args: &[&'static str]| [&["--postgres", &url][..], args].concat();
    let key = place.line("one", &on(&["init"]));
    let tree = place.line("one", &on(&["new", "notes"]));
    let entry = place.line("one", &on(&["append", "notes", "hello"]));
    assert!(!place.path("one").join("eidetica.redb").exists());

    // Another server needs the same key.
    let said = refusal(&place.run("two", &on(&["init"])), 1);
    assert!(said.contains("key is missing"), "{said}");
    place.line("stranger", &["init"]);
    let said = refusal(&place.run("stranger", &on(&["ls"])), 1);
    assert!(
        said.contains("another key") && said.contains("copy"),
        "{said}"
    );
    let file = |store: &str| place.path(store).join("key");
    fs::copy(file("one"), file("two")).expect("room");
    assert_eq!(place.line("two", &on(&["init"])), key);
    assert_eq!(place.line("two", &on(&["tips", "notes"])), entry);

    let cache = place.path("views");
    let serve = [&on(&[])[..], &["--cache", cache.to_str().expect("text")]].concat();
    let servers = ["one", "two"].map(|store| place.serve_with(store, &serve));
    let ticket = place.line("two", &["invite", "notes"]);
    assert_eq!(
        place.line("guest", &["join", &ticket, "--via", "http"]),
        tree
    );
    let more = place.line("one", &["append", "notes", "more"]);
    assert_eq!(
        place.line("two", &["tips", "notes"]),
        place.line("one", &["tips", "notes"])
    );
    place.line("guest", &["sync", "notes", "--json", "--via", "http"]);
    assert_eq!(place.lines("guest", &["tips", "notes"]), [more]);

    // What they say of themselves is true.
    let states = |server: &Server| ["live", "ready"].map(|which| health(server, which));
    assert_eq!(states(&servers[0]), [200, 200]);
    database.stop();
    assert_eq!(states(&servers[0]), [200, 503]);
    database.run();
    assert_eq!(states(&servers[1]), [200, 200]);

    for mut server in servers {
        let pid = server.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill is there").success());
        assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn postgres_takes_a_whole_store_and_gives_it_back() {
    let place = Place::new();
    let database = postgres::Server::start();
    let url = database.url();
    let key = place.line("a", &["init"]);
    for name in ["notes", "more"] {
        place.line("a", &["new", name]);
        let text = "a line\n".repeat(500);
        place.run_with("a", &["append", name, "--lines"], text.as_bytes());
    }
    let said = place.line("a", &["move", "--to", &url]);
    assert_eq!(said, "copied and compared 2 trees with 1002 entries");
    let on = ["--postgres", &url];
    let back = place.path("back");
    let to = ["move", "--to", back.to_str().expect("text")];
    let moved = place.line("a", &[&on[..], &to].concat());
    assert_eq!(moved, said);
    assert_eq!(place.line("back", &["init"]), key);
    let log = |store: &str, on: &[&str]| {
        place.lines(store, &[on, &["log", "notes", "--json", "--raw"]].concat())
    };
    assert_eq!(log("a", &on), log("a", &[]));
    assert_eq!(log("back", &[]), log("a", &[]));
    let said = refusal(&place.run("a", &to), 1);
    assert!(said.contains("exists already"), "{said}");
    let again = place.run("a", &["move", "--to", &url]);
    assert!(again.status.success(), "what is there is not copied twice");
}

#[test]
fn a_password_on_the_command_line_is_refused() {
    let place = Place::new();
    let url = "postgres://ada:secret@localhost/trees";
    let said = refusal(&place.run("a", &["--postgres", url, "init"]), 1);
    assert!(
        said.contains("EIDETICA_POSTGRES") && !said.contains("secret"),
        "{said}"
    );
    let nowhere = "postgres://ada@%2Fnowhere/trees";
    let mut command = place.command("a", &["init"]);
    command.env("EIDETICA_POSTGRES", nowhere.replace("ada", "ada:secret"));
    let said = refusal(&command.output().expect("it runs"), 1);
    assert!(
        said.contains("cannot be reached") && !said.contains("secret"),
        "{said}"
    );
}
