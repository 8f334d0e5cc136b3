//! Reads commits from the `git` program.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use eidetica_sync::dag::ENTRY_BYTES_MAX;

use crate::output::failure::{Context, Failure, Result};

/// What is imported: every branch and tag, and HEAD. Stashes are private and notes are about
/// commits, so both are left out.
const WHICH: [&str; 3] = ["--exclude=refs/stash", "--exclude=refs/notes/*", "--all"];

/// The fields of each commit, each followed by a zero byte, which no commit contains.
const FORMAT: &str = "--format=tformat:%H%x00%P%x00%at%x00%an <%ae>%x00%aI%x00%B";

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
    /// The author's time in milliseconds since 1970.
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

/// Prepares a git command for this repository.
fn git(repo: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repo).stdin(Stdio::null());
    // Git sets these within a hook, and they override the folder.
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
    ] {
        git.env_remove(name);
    }
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

/// Runs git to completion and returns its output.
fn ask(repo: &Path, args: &[&str], failed: impl Into<String>, hint: &str) -> Result<String> {
    let output = git(repo).args(args).output().map_err(not_started)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(failed).caused_by(said).hint(hint).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Checks that `repo` is a git repository.
pub(crate) fn check_repository(repo: &Path) -> Result<()> {
    let failed = format!("{} is not a git repository", repo.display());
    let hint = "name a folder inside a git work tree, or a bare repository";
    ask(repo, &["rev-parse", "--git-dir"], failed, hint).map(drop)
}

/// Counts the commits, which takes git a while in large repositories.
pub(crate) fn count_commits(repo: &Path) -> Result<u64> {
    let mut args = vec!["rev-list", "--count"];
    args.extend(WHICH);
    let text = ask(
        repo,
        &args,
        "git could not count the commits",
        "run `git fsck` in the repository",
    )?;
    let failed = "git did not print the number of commits";
    Ok(text.parse().context(failed)?)
}

/// The commits of a repository, parents first, as git gives them.
pub(crate) struct Commits {
    git: Child,
    from: BufReader<ChildStdout>,
}

impl Commits {
    /// Begins to read.
    pub(crate) fn read(repo: &Path) -> Result<Self> {
        let mut git = git(repo);
        // Settings of the user must not add to the output.
        git.args(["log", "-z", "--topo-order", "--reverse", "--encoding=UTF-8"]);
        git.args(["--no-show-signature", "--no-patch", "--no-color", FORMAT])
            .args(WHICH);
        let mut git = git.stdout(Stdio::piped()).spawn().map_err(not_started)?;
        let from = git
            .stdout
            .take()
            .ok_or_else(|| Failure::new("git has no output"))?;
        let from = BufReader::new(from);
        Ok(Self { git, from })
    }

    /// Returns the next commit.
    pub(crate) fn next(&mut self) -> Result<Option<Commit>> {
        let Some(id) = self.field(FIELD_BYTES_MAX)? else {
            return Ok(None);
        };
        let parents = self.next_field(FIELD_BYTES_MAX)?;
        let seconds = self.next_field(FIELD_BYTES_MAX)?;
        let author = self.next_field(FIELD_BYTES_MAX)?;
        let date = self.next_field(FIELD_BYTES_MAX)?;
        let message = self.next_field(PAYLOAD_BYTES_MAX)?;

        let id = CommitId::parse(&id.bytes).ok_or_else(garbled)?;
        let parents = parents.bytes.split(|byte| *byte == b' ');
        let parents = parents
            .filter(|digits| !digits.is_empty())
            .map(CommitId::parse);
        let parents = parents.collect::<Option<Vec<_>>>().ok_or_else(garbled)?;
        // Some repositories have dates before 1970, which entries cannot express.
        let seconds = std::str::from_utf8(&seconds.bytes)
            .ok()
            .and_then(|it| it.parse().ok());
        let time_ms = seconds.map_or(0, |seconds: u64| seconds.saturating_mul(1_000));

        let mut payload = format!("commit {id}\nauthor ").into_bytes();
        payload.extend_from_slice(&author.bytes);
        payload.extend_from_slice(b"\ndate ");
        payload.extend_from_slice(&date.bytes);
        payload.extend_from_slice(b"\n\n");
        payload.extend_from_slice(message.bytes.trim_ascii_end());
        let shortened = message.shortened || payload.len() > PAYLOAD_BYTES_MAX;
        payload.truncate(PAYLOAD_BYTES_MAX);
        Ok(Some(Commit {
            id,
            parents,
            time_ms,
            payload,
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
        Err(Failure::new(format!("git log failed ({status})"))
            .hint("run `git fsck` in the repository")
            .into())
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
