//! `import git`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::place::{Place, lines, refusal};

/// A git repository in a folder of its own, untouched by the settings of the machine.
struct Repository(PathBuf);

impl Repository {
    fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.0).args(args);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(name);
        }
        for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
            git.env(name, "/dev/null");
        }
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "Ann Ünger");
            git.env(format!("GIT_{who}_EMAIL"), "ann@example.org");
            git.env(format!("GIT_{who}_DATE"), "1790000000 +0200");
        }
        lines(&git.output().expect("git is there")).join("\n")
    }

    fn commit(&self, message: &str) {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }
}

/// Makes two roots, a merge of them, and two branches on top.
fn repository(path: &Path) -> Repository {
    fs::create_dir(path).expect("room");
    let repo = Repository(path.to_owned());
    repo.git(&["init", "--quiet", "--initial-branch", "main"]);
    repo.commit("first\n\nwith a body");
    repo.commit("second");
    repo.git(&["checkout", "--quiet", "--orphan", "other"]);
    repo.commit("another root");
    repo.git(&["checkout", "--quiet", "main"]);
    let unrelated = "--allow-unrelated-histories";
    repo.git(&[
        "merge",
        "--quiet",
        "--no-edit",
        "-m",
        "merge",
        unrelated,
        "other",
    ]);
    repo.git(&["branch", "side"]);
    repo.commit("on main");
    repo.git(&["checkout", "--quiet", "side"]);
    repo.commit("on the side");
    repo
}

#[test]
fn commits_become_entries_with_the_same_parents() {
    let place = Place::new();
    let repo = repository(&place.path("work"));
    let path = repo.0.to_str().expect("text");
    let tree = place.line("a", &["import", "git", path, "--anyone", "read"]);
    assert_eq!(place.json("a", &["ls", "--json"])["name"], "work");
    assert_eq!(place.line("a", &["verify", &tree]), "ok 7 entries");
    assert_eq!(place.lines("a", &["tips", &tree]).len(), 2);

    let mut commit_of = BTreeMap::from([(tree.clone(), String::new())]);
    let mut parents = BTreeMap::new();
    for line in place.lines("a", &["log", "work", "--json"]).iter().skip(1) {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let text = entry["text"].as_str().expect("a text").to_owned();
        let commit = text
            .lines()
            .next()
            .and_then(|it| it.strip_prefix("commit "));
        let commit = commit.expect("its id comes first").to_owned();
        commit_of.insert(
            entry["id"].as_str().expect("an id").to_owned(),
            commit.clone(),
        );
        let mut of = Vec::new();
        for parent in entry["parents"].as_array().expect("a list") {
            // The log is in an order in which parents come first.
            of.push(commit_of[parent.as_str().expect("an id")].clone());
        }
        of.sort();
        parents.insert(commit, (of, text));
    }
    let mut commits = 0;
    for line in repo.git(&["rev-list", "--all", "--parents"]).lines() {
        let mut ids = line.split(' ').map(str::to_owned);
        let id = ids.next().expect("an id");
        let mut expected: Vec<String> = ids.collect();
        expected.sort();
        if expected.is_empty() {
            expected.push(String::new());
        }
        assert_eq!(parents[&id].0, expected);
        commits += 1;
    }
    assert_eq!(commits, parents.len());
    let first = repo.git(&["rev-list", "--max-parents=0", "main~2"]);
    let text = format!(
        "commit {first}\nauthor Ann Ünger <ann@example.org>\ndate 2026-09-21T16:13:20+02:00\n\n\
         first\n\nwith a body"
    );
    assert_eq!(parents[&first].1, text);

    let limited = ["import", "git", path, "--limit", "2", "--name", "two"];
    let tree = place.line("a", &limited);
    assert_eq!(place.line("a", &["verify", &tree]), "ok 3 entries");
}

#[test]
fn an_import_goes_on_where_the_last_one_ended() {
    let place = Place::new();
    let repo = repository(&place.path("work"));
    let path = repo.0.to_str().expect("text");
    let cut = ["import", "git", path, "--limit", "3"];
    let tree = place.line("a", &cut);
    assert_eq!(place.line("a", &["verify", &tree]), "ok 4 entries");
    for _ in 0..2 {
        assert_eq!(place.line("a", &["import", "git", path]), tree);
        assert_eq!(place.line("a", &["verify", &tree]), "ok 7 entries");
    }
    repo.commit("later");
    assert_eq!(place.line("a", &["import", "git", path]), tree);
    assert_eq!(place.line("a", &["verify", &tree]), "ok 8 entries");
    // Only where it is asked for, or the name says so, another one begins.
    for more in [&["--new"][..], &["--name", "other"]] {
        let again = [&["import", "git", path], more].concat();
        assert_ne!(place.line("a", &again), tree);
    }
}

#[test]
fn an_import_says_what_it_lacks() {
    let place = Place::new();
    let empty = place.path("empty");
    fs::create_dir(&empty).expect("room");
    let empty = empty.to_str().expect("text");
    let said = refusal(&place.run("a", &["import", "git", empty]), 1);
    assert!(said.contains("is not a git repository"), "{said}");
    Repository(empty.into()).git(&["init", "--quiet"]);
    let said = refusal(&place.run("a", &["import", "git", empty]), 1);
    assert!(said.contains("there are no commits"), "{said}");
    let without_git = place
        .command("a", &["import", "git", empty])
        .env("PATH", empty)
        .output();
    let said = refusal(&without_git.expect("it starts"), 1);
    assert!(said.contains("install git"), "{said}");
    assert!(!place.path("a").exists(), "nothing was made for nothing");
}

impl Repository {
    fn empty(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("room");
        let repo = Self(path);
        repo.git(&["init", "--quiet", "--initial-branch", "main"]);
        repo
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }

    /// Stores a commit with these bytes, whatever they are, and points a branch at it.
    fn raw_commit(&self, branch: &str, after_tree: &[u8]) -> String {
        self.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let file = self.0.join("raw");
        let mut bytes = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n".to_vec();
        bytes.extend_from_slice(after_tree);
        fs::write(&file, bytes).expect("room");
        let id = self.git(&["hash-object", "-t", "commit", "-w", "--literally", "raw"]);
        // `update-ref` checks nothing but that the object exists.
        self.git(&["update-ref", &format!("refs/heads/{branch}"), &id]);
        id
    }
}

/// The texts of a tree's commits.
fn texts(place: &Place, tree: &str) -> Vec<String> {
    let log = place.lines("a", &["log", tree, "--json"]);
    let text = |line: &String| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        entry["text"].as_str().expect("a text").to_owned()
    };
    log.iter().skip(1).map(text).collect()
}

fn import(place: &Place, repo: &Repository, options: &[&str]) -> Vec<String> {
    let mut args = vec!["import", "git", repo.path()];
    args.extend(options);
    let tree = place.line("a", &args);
    let mut texts = texts(place, &tree);
    texts.sort_by_key(|text| text.lines().last().map(str::to_owned));
    texts
}

fn ends(texts: &[String]) -> Vec<&str> {
    let end = |text: &'_ String| text.rfind('\n').map_or(0, |at| at + 1);
    texts.iter().map(|text| &text[end(text)..]).collect()
}

#[test]
fn only_branches_tags_and_head_are_imported() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    repo.commit("public");
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    for name in [
        "refs/original/refs/heads/main",
        "refs/stash",
        "refs/notes/commits",
        "refs/wip/main",
        "refs/bisect/bad",
        "refs/pull/1/head",
        "refs/remotes/origin/b remote",
        "refs/tags/c tag",
    ] {
        let (name, message) = name.split_once(' ').unwrap_or((name, "removed"));
        let id = repo.git(&["commit-tree", &tree, "-m", message]);
        repo.git(&["update-ref", name, &id]);
    }
    // A tag of what is not a commit.
    repo.git(&["tag", "of-a-tree", &tree]);
    let detached = repo.git(&["commit-tree", &tree, "-m", "a detached"]);
    repo.git(&["checkout", "--quiet", "--detach", &detached]);
    let all = import(&place, &repo, &[]);
    assert_eq!(ends(&all), ["a detached", "public", "remote", "tag"]);

    let chosen = ["--ref", "main", "--ref", "refs/pull/1/head"];
    let chosen = import(&place, &repo, &chosen);
    assert_eq!(ends(&chosen), ["public", "removed"]);
    for name in ["absent", "-all", "--all", "of-a-tree"] {
        let name = format!("--ref={name}");
        let said = refusal(&place.run("a", &["import", "git", repo.path(), &name]), 1);
        assert!(
            said.contains("is not a branch, a tag or another ref"),
            "{said}"
        );
    }
}

#[test]
fn a_shallow_clone_is_imported_on_purpose_only() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    for message in ["1", "2", "3"] {
        repo.commit(message);
    }
    let shallow = Repository(place.path("shallow"));
    let from = format!("file://{}", repo.path());
    repo.git(&["clone", "--quiet", "--depth", "2", &from, shallow.path()]);
    let said = refusal(&place.run("a", &["import", "git", shallow.path()]), 1);
    assert!(
        said.contains("shallow clone") && said.contains("--unshallow"),
        "{said}"
    );
    assert!(!place.path("a").exists(), "nothing was made");
    assert_eq!(ends(&import(&place, &shallow, &["--shallow"])), ["2", "3"]);
}

#[test]
fn what_git_sets_for_a_hook_is_not_used() {
    let place = Place::new();
    let (repo, hook) = (
        Repository::empty(place.path("work")),
        Repository::empty(place.path("hook")),
    );
    repo.commit("mine");
    hook.commit("of the hook");
    let folder = hook.0.join(".git");
    let objects = folder.join("objects");
    let mut command = place.command("a", &["import", "git", repo.path()]);
    command
        .env("GIT_DIR", &folder)
        .env("GIT_WORK_TREE", &hook.0);
    command.env("GIT_INDEX_FILE", folder.join("index"));
    command.env("GIT_OBJECT_DIRECTORY", &objects);
    command.env("GIT_QUARANTINE_PATH", &objects);
    command.env("GIT_SHALLOW_FILE", folder.join("HEAD"));
    let tree = lines(&command.output().expect("it starts")).join("\n");
    assert_eq!(ends(&texts(&place, &tree)), ["mine"]);
}

#[test]
fn dates_that_cannot_be_expressed_are_unknown() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    let committer = "committer C <c@x> 1700000000 +0000\n\n";
    let dates = [
        "-1 +0000",
        "never",
        "",
        "99999999999999999999 +0000",
        "999999999999999 +0000",
    ];
    for (n, date) in dates.iter().enumerate() {
        let text = format!("author A <a@x> {date}\n{committer}{n}\n");
        repo.raw_commit(&format!("b{n}"), text.as_bytes());
    }
    repo.raw_commit("none", format!("{committer}5\n").as_bytes());
    let text = format!("author A <a@x> 0 -0500\n{committer}6\n");
    repo.raw_commit("early", text.as_bytes());
    let texts = import(&place, &repo, &[]);
    assert_eq!(ends(&texts), ["0", "1", "2", "3", "4", "5", "6"]);
    let date = |text: &String| text.lines().nth(2).expect("a date").to_owned();
    let dates: Vec<_> = texts.iter().map(date).collect();
    assert_eq!(dates[..6], ["date unknown"; 6]);
    assert_eq!(dates[6], "date 1969-12-31T19:00:00-05:00");
    assert_eq!(texts[0].lines().nth(1), Some("author A <a@x>"));
    assert_eq!(texts[5].lines().nth(1), Some("author unknown"));
}

#[test]
fn text_that_is_not_utf_8_is_decoded() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    let commit = |branch: &str, encoding: &str, message: &[u8]| {
        let mut text = b"author J\xf6rg <j@x> 1700000000 +0000\n".to_vec();
        text.extend_from_slice(b"committer C <c@x> 1700000000 +0000\n");
        text.extend_from_slice(encoding.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(message);
        repo.raw_commit(branch, &text);
    };
    commit("named", "encoding ISO-8859-1\n", b"1 gr\xf6\xdfe");
    commit("unnamed", "", b"2 gr\xf6\xdfe");
    let texts = import(&place, &repo, &[]);
    assert_eq!(ends(&texts), ["1 größe", "2 gr\u{fffd}\u{fffd}e"]);
    assert_eq!(texts[0].lines().nth(1), Some("author Jörg <j@x>"));
    assert_eq!(texts[1].lines().nth(1), Some("author J\u{fffd}rg <j@x>"));
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    let people = "author A <a@x> 1 +0000\ncommitter C <c@x> 1 +0000\n\n";
    for (branch, start) in [("one", ""), ("two", "b"), ("three", "bc")] {
        let text = format!("{people}{start}{}", "€".repeat(400_000));
        repo.raw_commit(branch, text.as_bytes());
    }
    for text in import(&place, &repo, &[]) {
        assert!(text.ends_with('€') && text.len() > 1_000_000);
    }
}

#[test]
fn replaced_commits_are_imported_as_they_were() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    repo.commit("as it was");
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let other = repo.git(&["commit-tree", &tree, "-m", "instead"]);
    repo.git(&["replace", "HEAD", &other]);
    assert_eq!(ends(&import(&place, &repo, &[])), ["as it was"]);
}

#[test]
fn too_many_parents_are_refused_before_anything_is_written() {
    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    repo.commit("first");
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let mut octopus = vec!["commit-tree".to_owned(), tree.clone()];
    octopus.extend(["-m".to_owned(), "octopus".to_owned()]);
    for n in 0..257 {
        let id = repo.git(&["commit-tree", &tree, "-m", &n.to_string()]);
        octopus.extend(["-p".to_owned(), id]);
    }
    let octopus: Vec<_> = octopus.iter().map(String::as_str).collect();
    let id = repo.git(&octopus);
    repo.git(&["update-ref", "refs/heads/octopus", &id]);
    let said = refusal(&place.run("a", &["import", "git", repo.path()]), 1);
    assert!(said.contains(&id) && said.contains("257 parents"), "{said}");
    assert!(!place.path("a").exists(), "nothing was made");
    assert_eq!(ends(&import(&place, &repo, &["--ref", "main"])), ["first"]);
}

#[cfg(unix)]
#[test]
fn a_repository_of_another_user_is_named_as_such() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let repo = Repository::empty(place.path("work"));
    repo.commit("first");
    // Git's own switch for tests, which the program does not pass on.
    let bin = place.path("bin");
    fs::create_dir(&bin).expect("room");
    let path = std::env::var("PATH").expect("a path");
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\nexport GIT_TEST_ASSUME_DIFFERENT_OWNER=1\nexec git \"$@\"\n"
    );
    fs::write(bin.join("git"), script).expect("room");
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).expect("ours");
    let mut command = place.command("a", &["import", "git", repo.path()]);
    let said = refusal(&command.env("PATH", &bin).output().expect("it starts"), 1);
    assert!(said.contains("belongs to another user"), "{said}");
    assert!(said.contains("safe.directory"), "{said}");
}
