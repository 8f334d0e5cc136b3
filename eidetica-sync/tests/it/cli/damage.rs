//! A store with damaged bytes is repaired from a peer.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::place::{Place, lines};

/// Returns the path of a store's database.
fn database(place: &Place, store: &str) -> PathBuf {
    let files = fs::read_dir(place.path(store)).expect("a folder");
    files
        .map(|file| file.expect("it can be listed").path())
        .find(|path| path.extension().is_some_and(|it| it == "redb"))
        .expect("a database")
}

/// Changes one bit of each of these texts in a store's database.
fn damage(place: &Place, store: &str, texts: &[&str]) {
    let database = database(place, store);
    let mut bytes = fs::read(&database).expect("it can be read");
    for text in texts {
        let places: Vec<usize> = (0..bytes.len() - text.len())
            .filter(|at| bytes[*at..].starts_with(text.as_bytes()))
            .collect();
        assert!(!places.is_empty(), "{text} is stored");
        // Older pages may have it too.
        for at in places {
            bytes[at] ^= 1;
        }
    }
    fs::write(&database, bytes).expect("it can be written");
}

/// What a command that found damage says on stdout and stderr.
fn failed(output: &Output) -> (String, String) {
    assert_eq!(output.status.code(), Some(1));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn damaged_entries_are_fetched_again() {
    let place = Place::new();
    place.line("a", &["new", "notes", "--anyone", "read"]);
    let entries: Vec<String> = ["the first note", "the second note", "the third note"]
        .map(|text| place.line("a", &["append", "notes", text]))
        .into();
    let server = place.serve("a");
    place.line("b", &["join", &server.tickets[0]]);
    let written = place.lines("b", &["log", "notes", "--json", "--raw"]);
    assert!(place.line("b", &["repair", "notes"]).starts_with("ok"));

    damage(&place, "b", &["the first note", "the third note"]);
    let (_, said) = failed(&place.run("b", &["verify", "notes"]));
    assert!(said.contains("eidetica repair"), "{said}");
    let address = server.address("http").to_owned();
    server.stop();
    let (listed, said) = failed(&place.run("b", &["repair", "notes"]));
    assert!(said.contains("2 entries are still damaged"), "{said}");
    for entry in [&entries[0], &entries[2]] {
        assert!(listed.contains(entry), "{listed}");
    }

    let port = address.rsplit(':').next().expect("a port");
    let server = place.serve_at("a", &format!("127.0.0.1:{port}"));
    let said = lines(&place.run("b", &["repair", "--all"]));
    assert!(
        said[0].starts_with("2 entries put back, 0 still damaged"),
        "{said:?}"
    );
    assert_eq!(place.line("b", &["verify", "notes"]), "ok 4 entries");
    assert_eq!(
        place.lines("b", &["log", "notes", "--json", "--raw"]),
        written
    );
    server.stop();
}

/// The target of a move that fails goes away, so that the next one finds room.
#[test]
fn a_move_that_fails_leaves_nothing() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    place.line("a", &["append", "notes", "the only note"]);
    let to = place.path("b");
    let to = ["move", "--to", to.to_str().expect("text")];
    let whole = fs::read(database(&place, "a")).expect("it can be read");
    damage(&place, "a", &["the only note"]);
    let (_, said) = failed(&place.run("a", &to));
    assert!(said.contains("could not copy the tree"), "{said}");
    assert!(!place.path("b").exists());
    fs::write(database(&place, "a"), whole).expect("it can be written");
    place.line("a", &to);
    assert_eq!(
        place.lines("b", &["log", "notes", "--json", "--raw"]),
        place.lines("a", &["log", "notes", "--json", "--raw"])
    );
}
