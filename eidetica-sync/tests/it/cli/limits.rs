//! Limits and places of the system that are not as the program would have them.

use std::fs;
use std::process::{Command, Output};

use super::place::{Place, refusal};

/// Appends a file, by a process whose files may have so many blocks of at least 512 bytes.
fn append_within(place: &Place, blocks: u32, file: &str) -> Output {
    let append = place.command("a", &["append", "notes", "--file", file]);
    let limited = format!("ulimit -f {blocks} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limited]).arg(append.get_program());
    command.args(append.get_args());
    command.env_remove("EIDETICA_POSTGRES");
    command.output().expect("the program ends")
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error() {
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let payload = place.path("payload");
    fs::write(&payload, vec![7; 900_000]).expect("room");
    let payload = payload.to_str().expect("text");
    let mut count = 1;
    let output = loop {
        let output = append_within(&place, 16_384, payload);
        if !output.status.success() {
            break output;
        }
        count += 1;
        assert!(count < 100, "there is no limit");
    };
    let said = refusal(&output, 1);
    assert!(said.contains("nothing was stored"), "{said}");
    assert_eq!(place.lines("a", &["log", "notes"]).len(), count);
    place.line("a", &["append", "notes", "--file", payload]);
    assert_eq!(place.lines("a", &["log", "notes"]).len(), count + 1);
    assert!(place.run("a", &["verify", "--all"]).status.success());
}

#[test]
fn what_is_no_store_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "text").expect("room");
    let said = refusal(&place.run("file", &["init"]), 1);
    assert!(said.contains("is not a folder"), "{said}");
    fs::create_dir_all(place.path("a").join("eidetica.redb")).expect("room");
    let said = refusal(&place.run("a", &["init"]), 1);
    assert!(said.contains("eidetica.redb is not a file"), "{said}");
}

#[test]
fn a_long_name_is_not_repeated_whole() {
    let place = Place::new();
    place.line("a", &["init"]);
    let said = refusal(&place.run("a", &["log", &"n".repeat(100_000)]), 1);
    assert!(said.len() < 10_000, "{} bytes", said.len());
}
