//! Who can use a store's files, and where secrets are given.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use super::place::{Place, lines, refusal};

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn files_and_folders_are_the_owners_whatever_they_were() {
    let place = Place::new();
    let folder = place.path("a");
    fs::create_dir(&folder).expect("room");
    set_mode(&folder, 0o777);
    place.line("a", &["new", "notes"]);
    let server = place.serve_with("a", &["--no-iroh"]);
    let check = || {
        assert_eq!(mode(&folder), 0o700);
        for file in fs::read_dir(&folder).expect("it is there") {
            let file = file.expect("it is there").path();
            let wanted = if file.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&file), wanted, "{}", file.display());
        }
    };
    check();
    server.stop();
    set_mode(&folder, 0o755);
    for name in ["key", "eidetica.redb"] {
        set_mode(&folder.join(name), 0o644);
    }
    place.line("a", &["ls"]);
    check();
    // A folder with files of others is not a store yet, and stays as it is.
    let shared = place.path("shared");
    fs::create_dir(&shared).expect("room");
    fs::write(shared.join("other"), "").expect("room");
    set_mode(&shared, 0o755);
    refusal(&place.run("shared", &["ls"]), 1);
    assert_eq!(mode(&shared), 0o755);
}

#[test]
fn a_parent_that_others_can_write_is_reported() {
    let place = Place::new();
    let parent = place.path("open");
    fs::create_dir(&parent).expect("room");
    set_mode(&parent, 0o777);
    let output = place.run("open/a", &["init"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("others can replace the store"),
        "{said}"
    );
    set_mode(&parent, 0o1777);
    let output = place.run("open/a", &["init"]);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_link_of_another_user_is_not_followed() {
    use std::os::unix::fs::{lchown, symlink};
    let place = Place::new();
    place.line("a", &["new", "notes"]);
    let (key, target) = (place.path("a").join("key"), place.path("target"));
    fs::rename(&key, &target).expect("room");
    symlink(&target, &key).expect("room");
    place.line("a", &["ls"]);
    // Only the administrator can make a link of another user's.
    if lchown(&key, Some(12_345), None).is_err() {
        return;
    }
    let said = refusal(&place.run("a", &["ls"]), 1);
    assert!(said.contains("another user has placed"), "{said}");
}

#[test]
fn a_ticket_need_not_be_on_the_command_line() {
    let place = Place::new();
    let tree = place.line("a", &["new", "notes", "--anyone", "read"]);
    let server = place.serve_with("a", &["--no-iroh"]);
    let ticket = format!("{}\n", server.tickets[0]);
    let file = place.path("ticket");
    fs::write(&file, &ticket).expect("room");
    let by_file = ["join", "--ticket-file", file.to_str().expect("text")];
    for is_served in [false, true] {
        let served = is_served.then(|| {
            place.line("b", &["init"]);
            place.serve_with("b", &["--no-iroh"])
        });
        let from_stdin = place.run_with("b", &["join", "-"], ticket.as_bytes());
        assert_eq!(lines(&from_stdin), [&tree[..]]);
        assert_eq!(place.line("b", &by_file), tree);
        let mut by_variable = place.command("b", &["join"]);
        by_variable
            .env("EIDETICA_TICKET", &ticket)
            .stdin(Stdio::null());
        assert_eq!(
            lines(&by_variable.output().expect("it starts")),
            [&tree[..]]
        );
        let said = refusal(&place.run("b", &["join"]), 1);
        assert!(said.contains("EIDETICA_TICKET"), "{said}");
        let said = refusal(&place.run_with("b", &["join", "-"], b"nonsense"), 1);
        assert!(said.contains("a ticket begins with"), "{said}");
        drop(served);
    }
    refusal(&place.run("b", &["join", "-", "--ticket-file", "x"]), 2);
    server.stop();
}
