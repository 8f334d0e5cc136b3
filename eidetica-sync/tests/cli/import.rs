//! `import git`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::place::{Place, lines, refusal};

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
