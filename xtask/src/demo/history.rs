//! The history that node A begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask_support::output;

use crate::workspace;

/// Fewest commits that make a useful history. A shallow clone often has one.
const COMMITS_MIN: u64 = 10;

/// How many entries are written where there is no real history.
pub const SYNTHETIC_ENTRIES: u64 = 300;

/// Where the history comes from.
pub enum Source {
    /// A git repository.
    Git(PathBuf),
    /// Made up: a chain of lines, because there is no real one.
    Synthetic { why: String },
}

/// What git says about the commits.
#[derive(Debug, Default)]
pub struct Lineage {
    /// The parents of each commit.
    pub parents: BTreeMap<String, Vec<String>>,
    /// The commits that must have been imported.
    pub expected: BTreeSet<String>,
}

impl Source {
    /// Chooses the repository that was given, or this project's own, or none.
    pub fn choose(repo: Option<&Path>) -> Result<Self, String> {
        let repo_or_own = repo.map_or_else(workspace::root, Path::to_path_buf);
        let why = match (commits(&repo_or_own), repo) {
            (Ok(1..), Some(_)) | (Ok(COMMITS_MIN..), None) => {
                return Ok(Self::Git(repo_or_own));
            }
            (Ok(0), Some(repo)) => return Err(format!("{} has no commits", repo.display())),
            (Err(error), Some(_)) => return Err(error),
            (Ok(commits), None) => format!("this repository has only {commits} commits"),
            (Err(error), None) => error,
        };
        Ok(Self::Synthetic { why })
    }
}

/// Asks git for what the program imports of a repository, and of no other.
fn rev_list(repo: &Path, how: &str) -> Result<String, String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(repo).args(["rev-list", how]);
    git.args(["--exclude=refs/stash", "--exclude=refs/notes/*", "--all"]);
    output(&mut git)
}

/// Counts the commits of a repository.
fn commits(repo: &Path) -> Result<u64, String> {
    let text = rev_list(repo, "--count")?;
    text.trim()
        .parse()
        .map_err(|_| format!("git counts {:?} commits", text.trim()))
}

/// Asks git for the parents of every commit.
pub fn parents(repo: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let text = rev_list(repo, "--parents")?;
    let line = |line: &str| {
        let mut ids = line.split_ascii_whitespace().map(str::to_owned);
        Some((ids.next()?, ids.collect()))
    };
    Ok(text.lines().filter_map(line).collect())
}
