//! The history that node A begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask_support::output;

use crate::workspace;

/// Fewest commits that make a useful history. A shallow clone often has one.
const COMMITS_MIN: u64 = 10;

/// How many entries are written where there is no real history, unless told otherwise.
const SYNTHETIC_ENTRIES: u64 = 300;

/// What is imported of a repository: what the program imports, asked for independently.
const WHICH: [&str; 3] = ["--exclude=refs/stash", "--exclude=refs/notes/*", "--all"];

/// Where the history comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A git repository.
    Git {
        /// Its folder.
        repo: PathBuf,
        /// Commits that are to be imported.
        limit: Option<u64>,
    },
    /// Made up: a chain of lines.
    Synthetic {
        /// How many.
        entries: u64,
        /// Why there is no real one.
        why: String,
    },
}

/// What git says of the commits.
#[derive(Debug, Default, PartialEq)]
pub struct Lineage {
    /// The parents of each commit.
    pub parents: BTreeMap<String, Vec<String>>,
    /// The commits that must have been imported.
    pub expected: BTreeSet<String>,
}

impl Source {
    /// Chooses the repository that was given, or this project's own, or none.
    pub fn choose(repo: Option<&Path>, limit: Option<u64>) -> Result<Self, String> {
        if let Some(repo) = repo {
            let repo = repo.to_path_buf();
            return match commits(&repo)? {
                0 => Err(format!("{} has no commits", repo.display())),
                _ => Ok(Self::Git { repo, limit }),
            };
        }
        let repo = workspace::root();
        let why = match commits(&repo) {
            Ok(commits) if commits >= COMMITS_MIN => return Ok(Self::Git { repo, limit }),
            Ok(commits) => format!("this repository has only {commits} of them"),
            Err(error) => error,
        };
        let entries = limit.unwrap_or(SYNTHETIC_ENTRIES);
        Ok(Self::Synthetic { entries, why })
    }
}

/// Asks git for commits of a repository, and of no other.
fn rev_list(repo: &Path, how: &str) -> Result<String, String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(repo).args(["rev-list", how]).args(WHICH);
    // Set within a hook, and stronger than the folder.
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
    ] {
        git.env_remove(name);
    }
    output(&mut git)
}

/// Counts the commits of a repository.
fn commits(repo: &Path) -> Result<u64, String> {
    let text = rev_list(repo, "--count")?;
    let error = |_| format!("git counts {:?} commits", text.trim());
    text.trim().parse().map_err(error)
}

/// Asks git for the parents of every commit.
pub fn parents(repo: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    Ok(parse_parents(&rev_list(repo, "--parents")?))
}

fn parse_parents(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let mut ids = line.split_ascii_whitespace().map(str::to_owned);
        Some((ids.next()?, ids.collect()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read() {
        let parents = parse_parents("c a b\na\n");
        assert_eq!(parents["c"], ["a", "b"]);
        assert!(parents["a"].is_empty());
        assert_eq!(parents.len(), 2);
    }

    #[test]
    fn a_folder_that_was_named_and_is_no_repository_is_an_error() {
        let nowhere = Path::new("/nowhere/at/all");
        assert!(Source::choose(Some(nowhere), None).is_err());
    }
}
