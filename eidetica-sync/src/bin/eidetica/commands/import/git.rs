//! Reads commits from the `git` program.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_sync::dag::{ENTRY_BYTES_MAX, PARENTS_MAX};

use super::text::{self, Date};
use crate::output::failure::{Context, Failure, Result};

/// The fields of each commit, each followed by a zero byte, which no commit contains.
///
/// Git never formats the date: it leaves the placeholder of a date that it cannot read, and fails on
/// one that is before 1970 in the author's time zone.
const FORMAT: &str = "--format=tformat:%H%x00%P%x00%at%x00%ad%x00%e%x00%an <%ae>%x00%B";

/// Variables that say how git runs and which settings the user has. Git sets many of the others
/// within a hook, and they name the hook's repository.
const KEPT_VARIABLES: [&str; 7] = [
    "GIT_CEILING_DIRECTORIES",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXEC_PATH",
];

/// The settings that `GIT_CONFIG_COUNT` counts.
const KEPT_PREFIXES: [&str; 2] = ["GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];

/// Longest payload in bytes. It leaves room for the rest of an entry, 256 parents included.
const PAYLOAD_BYTES_MAX: usize = ENTRY_BYTES_MAX - (16 << 10);

/// Longest of the short fields in bytes: more than a thousand parents, or a very long name.
const FIELD_BYTES_MAX: usize = 64 << 10;

/// The hash by which git names a commit: SHA-1, or SHA-256 in newer repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CommitId {
    bytes: [u8; 32],
    is_sha256: bool,
}

/// One commit.
pub(crate) struct Commit {
    pub(crate) id: CommitId,
    pub(crate) parents: Vec<CommitId>,
    /// The author's time in milliseconds since 1970, or 0 if it is unknown.
    pub(crate) time_ms: u64,
    /// What the entry says.
    pub(crate) payload: Vec<u8>,
    /// Whether the message was too long.
    pub(crate) shortened: bool,
}

impl CommitId {
    fn parse(digits: &[u8]) -> Option<Self> {
        let hash = HEXLOWER_PERMISSIVE.decode(digits).ok()?;
        let mut bytes = [0; 32];
        bytes.get_mut(..hash.len())?.copy_from_slice(&hash);
        match hash.len() {
            20 | 32 => Some(Self {
                bytes,
                is_sha256: hash.len() == 32,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = if self.is_sha256 { 32 } else { 20 };
        f.write_str(&HEXLOWER.encode(&self.bytes[..length]))
    }
}

/// Returns whether git may see a variable.
fn is_kept(name: &str) -> bool {
    !name.starts_with("GIT_")
        || KEPT_VARIABLES.contains(&name)
        || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Prepares a git command for this repository.
fn git(repo: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repo).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| !is_kept(name)) {
            git.env_remove(name);
        }
    }
    // The history as it was written: no replaced commits, no grafted parents.
    git.env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_GRAFT_FILE", "");
    // Some messages of git are recognised.
    git.env("LC_ALL", "C");
    git
}

fn not_started(error: io::Error) -> Failure {
    let absent = error.kind() == io::ErrorKind::NotFound;
    let failure = Failure::new("could not run the program `git`").caused_by(error);
    match absent {
        true => failure.hint("install git and make sure that it is in the PATH"),
        false => failure,
    }
}

/// Runs git to completion and returns its output, or what it says about its failure.
fn run(repo: &Path, args: &[&str]) -> Result<Result<String, String>> {
    let output = git(repo).args(args).output().map_err(not_started)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    })
}

/// Runs git and returns its output.
fn ask(repo: &Path, args: &[&str], failed: &str) -> Result<String> {
    let said = run(repo, args)?;
    Ok(said.map_err(|said| {
        let hint = "run `git fsck` in the repository";
        Failure::new(failed).caused_by(said).hint(hint)
    })?)
}

/// Checks that `repo` is a git repository that git may read.
pub(crate) fn check_repository(repo: &Path) -> Result<()> {
    let Err(said) = run(repo, &["rev-parse", "--git-dir"])? else {
        return Ok(());
    };
    let shown = repo.display();
    let (text, hint) = if said.contains("safe.directory") {
        let full = repo.canonicalize().unwrap_or_else(|_| repo.to_owned());
        (
            format!("git refuses to read {shown}: it belongs to another user"),
            format!(
                "import as its owner, or, if you trust it, run \
                 `git config --global --add safe.directory {}`",
                full.display()
            ),
        )
    } else {
        (
            format!("{shown} is not a git repository"),
            "name a folder inside a git work tree, or a bare repository".to_owned(),
        )
    };
    Err(Failure::new(text).caused_by(said).hint(hint).into())
}

/// Returns whether commits have parents that are not in the repository.
pub(crate) fn is_shallow(repo: &Path) -> Result<bool> {
    let args = ["rev-parse", "--is-shallow-repository"];
    let failed = "git could not tell whether the clone is shallow";
    Ok(ask(repo, &args, failed)? == "true")
}

/// The commits from which a history is read. Fixed, because refs can move while it is read.
pub(crate) struct Start {
    ids: Vec<String>,
}

impl Start {
    /// Finds the commits of HEAD, the branches and the tags, or of the refs with these names.
    ///
    /// In other refs, tools keep what was removed from the branches and private work.
    pub(crate) fn find(repo: &Path, names: &[String]) -> Result<Self> {
        let mut ids = Vec::new();
        for name in names {
            let commit = commit_of(repo, name)?;
            ids.push(commit.ok_or_else(|| {
                let text = format!("{name:?} is not a branch, a tag or another ref of a commit");
                Failure::new(text).hint("run `git show-ref` in the repository to list its refs")
            })?);
        }
        if names.is_empty() {
            // HEAD may refer to a branch without commits.
            ids.extend(commit_of(repo, "HEAD")?);
            let args = ["rev-parse", "--branches", "--remotes", "--tags"];
            let all = ask(repo, &args, "git could not list the branches and tags")?;
            ids.extend(all.lines().map(str::to_owned));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(Self { ids })
    }

    /// Runs git with the commits on its stdin: there may be more than fit on a command line.
    fn spawn(&self, mut git: Command) -> Result<Commits> {
        git.arg("--stdin");
        git.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut git = git.spawn().map_err(not_started)?;
        let (Some(mut stdin), Some(stdout)) = (git.stdin.take(), git.stdout.take()) else {
            return Err(Failure::new("git has no input and output").into());
        };
        // Git reads everything before it writes. If it ends early, its exit status says so.
        let _is_read = stdin.write_all((self.ids.join("\n") + "\n").as_bytes());
        let from = BufReader::new(stdout);
        Ok(Commits { git, from })
    }
}

/// Returns the id of the commit to which a name refers.
fn commit_of(repo: &Path, name: &str) -> Result<Option<String>> {
    // A name with a dash in front is an option to git.
    if name.starts_with('-') {
        return Ok(None);
    }
    let name = format!("{name}^{{commit}}");
    Ok(run(repo, &["rev-parse", "--verify", "--quiet", &name])?.ok())
}

/// Counts up to `limit` commits, and checks that each of them fits into an entry.
///
/// Reads the whole history, so that a damaged one is found before anything is written.
pub(crate) fn check_commits(repo: &Path, start: &Start, limit: u64) -> Result<u64> {
    if start.ids.is_empty() {
        return Ok(0);
    }
    let mut git = git(repo);
    git.args(["rev-list", "--topo-order", "--reverse", "--parents"]);
    let mut commits = start.spawn(git)?;
    let mut line = Vec::new();
    for found in 0..limit {
        line.clear();
        let read = commits.from.read_until(b'\n', &mut line);
        if read.context("could not read the output of git")? == 0 {
            commits.finish()?;
            return Ok(found);
        }
        let mut ids = line.trim_ascii_end().split(|byte| *byte == b' ');
        let id = String::from_utf8_lossy(ids.next().unwrap_or_default());
        let parents = ids.collect::<BTreeSet<_>>().len();
        if parents > PARENTS_MAX {
            let text = format!(
                "commit {id} has {parents} parents, and an entry has at most {PARENTS_MAX}; \
                 nothing was imported"
            );
            return Err(Failure::new(text)
                .hint("use --ref to choose branches without it, or --limit to stop before it")
                .into());
        }
    }
    Ok(limit)
}

/// The commits of a repository, parents first, as git gives them.
pub(crate) struct Commits {
    git: Child,
    from: BufReader<ChildStdout>,
}

impl Commits {
    /// Begins to read.
    pub(crate) fn read(repo: &Path, start: &Start) -> Result<Self> {
        let mut git = git(repo);
        // Settings of the user must not add to the output.
        git.args(["log", "-z", "--topo-order", "--reverse", "--encoding=UTF-8"]);
        git.args(["--no-show-signature", "--no-patch", "--no-color"]);
        git.args(["--date=raw", FORMAT]);
        start.spawn(git)
    }

    /// Returns the next commit.
    pub(crate) fn next(&mut self) -> Result<Option<Commit>> {
        let Some(id) = self.field(FIELD_BYTES_MAX)? else {
            return Ok(None);
        };
        let parents = self.next_field(FIELD_BYTES_MAX)?;
        let seconds = self.next_field(FIELD_BYTES_MAX)?;
        let raw_date = self.next_field(FIELD_BYTES_MAX)?;
        let encoding = self.next_field(FIELD_BYTES_MAX)?.bytes;
        let author = self.next_field(FIELD_BYTES_MAX)?;
        let mut message = self.next_field(PAYLOAD_BYTES_MAX)?;

        let id = CommitId::parse(&id.bytes).ok_or_else(garbled)?;
        let parents = parents.bytes.split(|byte| *byte == b' ');
        let parents = parents
            .filter(|digits| !digits.is_empty())
            .map(CommitId::parse);
        let parents = parents.collect::<Option<Vec<_>>>().ok_or_else(garbled)?;

        // Git has converted to UTF-8 what it could, and left the rest as it is.
        let author = match &author.bytes[..] {
            b" <>" => "unknown".to_owned(),
            bytes => text::decode(bytes, &encoding),
        };
        let date = Date::read(&seconds.bytes, &raw_date.bytes);
        let time_ms = date.as_ref().map_or(0, |date| date.time_ms);
        let date = date.map_or_else(|| "unknown".to_owned(), |date| date.text);
        if message.shortened {
            text::drop_cut_character(&mut message.bytes);
        }
        let body = text::decode(message.bytes.trim_ascii_end(), &encoding);
        let mut payload = format!("commit {id}\nauthor {author}\ndate {date}\n\n{body}");
        let shortened = text::shorten(&mut payload, PAYLOAD_BYTES_MAX) || message.shortened;
        Ok(Some(Commit {
            id,
            parents,
            time_ms,
            payload: payload.into_bytes(),
            shortened,
        }))
    }

    /// Waits for git's end after the last commit.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let status = self.git.wait().context("could not wait for git")?;
        if status.success() {
            return Ok(());
        }
        // Git has printed the reason to stderr.
        Err(
            Failure::new(format!("git could not read the commits ({status})"))
                .hint("run `git fsck` in the repository")
                .into(),
        )
    }

    fn next_field(&mut self, bytes_max: usize) -> Result<Field> {
        self.field(bytes_max)?.ok_or_else(|| garbled().into())
    }

    fn field(&mut self, bytes_max: usize) -> Result<Option<Field>> {
        let field = read_field(&mut self.from, bytes_max);
        Ok(field.context("could not read the output of git")?)
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        // Usually git has ended. If a limit was reached, it still has output to write.
        let _has_ended = self.git.kill();
        let _has_ended = self.git.wait();
    }
}

fn garbled() -> Failure {
    Failure::new("git printed commits in an unknown format").hint("update git")
}

/// Bytes up to a zero byte.
struct Field {
    bytes: Vec<u8>,
    shortened: bool,
}

/// Reads a field and keeps up to `bytes_max` bytes of it. `None` at the end.
fn read_field(from: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Field>> {
    let mut bytes = Vec::new();
    let mut limited = from.take(bytes_max as u64 + 1);
    if limited.read_until(0, &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.ends_with(&[0]) {
        bytes.pop();
        return Ok(Some(Field {
            bytes,
            shortened: false,
        }));
    }
    if bytes.len() <= bytes_max {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(bytes_max);
    from.skip_until(0)?;
    Ok(Some(Field {
        bytes,
        shortened: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bounded_and_complete() {
        let mut from = io::Cursor::new(b"one\0\0exactly8\0much too long\0two\0cut");
        let mut read =
            || read_field(&mut from, 8).map(|field| field.map(|it| (it.bytes, it.shortened)));
        for (text, shortened) in [
            ("one", false),
            ("", false),
            ("exactly8", false),
            ("much too", true),
            ("two", false),
        ] {
            let expected = Some((text.as_bytes().to_vec(), shortened));
            assert_eq!(read().expect("complete"), expected);
        }
        assert!(read().is_err(), "the last field has no end");
        assert_eq!(read().expect("the end"), None);
    }

    #[test]
    fn ids_of_both_kinds_are_read() {
        for digits in [
            "0123456789abcdef0123456789abcdef01234567".to_owned(),
            "ab".repeat(32),
        ] {
            let id = CommitId::parse(digits.as_bytes()).expect("a hash");
            assert_eq!(id.to_string(), digits);
        }
        for other in ["", "abc", "zz", &"ab".repeat(33)] {
            assert_eq!(CommitId::parse(other.as_bytes()), None);
        }
    }
}
