//! `import git`: turns every commit into an entry with the same parents. `import dag` is in [`dag`].

pub(crate) mod dag;
mod git;
mod text;

use std::collections::HashMap;
use std::path::Path;

use eidetica_sync::Node;
use eidetica_sync::dag::{Body, Entry, EntryId, SecretKey, TreeId, VerifiedEntry};

use self::git::{Commit, CommitId, Commits, Start};
use crate::args::ImportGit;
use crate::commands::session::Session;
use crate::commands::trees::access_of;
use crate::output::failure::{Context, Failure, Hint, Result};
use crate::output::progress::Progress;
use crate::output::text::count;
use crate::store::{imported, trees};

/// How many commits are stored in one step: enough to make the cost of a durable write negligible.
const BATCH_ENTRIES: usize = 4_096;

/// How many bytes of commits are stored in one step. It bounds memory where messages are long.
const BATCH_BYTES: usize = 8 << 20;

pub(crate) async fn git(session: &Session, args: ImportGit) -> Result<()> {
    let repo = session.path(&args.repo);
    git::check_repository(&repo)?;
    let console = &session.console;
    let is_shallow = git::is_shallow(&repo)?;
    if is_shallow && !args.shallow {
        let text = format!("{} is a shallow clone: its history is cut", repo.display());
        return Err(Failure::new(text)
            .hint("run `git fetch --unshallow` in it, or use --shallow to import what is there")
            .into());
    }
    let start = Start::find(&repo, &args.refs)?;
    let limit = args.limit.map_or(u64::MAX, u64::from);
    let commits = git::check_commits(&repo, &start, limit)?;
    if commits == 0 {
        let text = format!("there are no commits in {}", repo.display());
        return Err(Failure::new(text)
            .hint("make a commit first, or name another repository")
            .into());
    }
    if is_shallow {
        console.note("the clone is shallow: the imported history is cut");
    }
    let name = args.name.unwrap_or_else(|| name_of(&repo));

    let opened = session.open_or_create()?;
    let node = opened.start();
    // The same device makes the same entry of a commit again, so what is there is not stored twice.
    let before = match args.new {
        true => None,
        false => imported::load(&*opened.store, &repo, &args.refs)?,
    };
    let here = trees::all(&*opened.store)?.into_iter();
    let before = here.filter(|it| Some(it.tree) == before && it.name == name);
    let tree = match before.map(|it| it.tree).next() {
        Some(tree) => {
            console.note(format_args!("continuing the tree {tree}"));
            tree
        }
        None => {
            let created = node.create_tree(name, access_of(args.anyone)).await;
            let tree = created
                .context("could not create the tree")
                .hint("choose a shorter --name, or make room on the disk")?;
            imported::remember(&*opened.store, &repo, &args.refs, tree)?;
            tree
        }
    };
    let mut import = Importer {
        node,
        tree,
        key: opened.key,
        places: HashMap::new(),
        batch: Vec::new(),
        batch_bytes: 0,
        shortened: 0,
        stored: 0,
    };
    let progress = console.progress("importing");
    let result = import.run(&repo, &start, commits, progress).await;
    if result.is_err() {
        let stored = count(import.stored, "commit", "commits");
        console.note(format_args!(
            "{stored} were added to the tree {tree}; the same command goes on from there"
        ));
    }
    result?;
    let stored = count(import.stored, "commit", "commits");
    match import.shortened {
        0 => console.note(format_args!("imported {stored}")),
        n => console.note(format_args!(
            "imported {stored}; {} too long for an entry and truncated",
            count(n, "message was", "messages were")
        )),
    }
    let mut out = console.out();
    out.line(tree)?;
    out.flush()
}

/// Names a tree after the folder of the repository.
fn name_of(repo: &Path) -> String {
    let full = repo.canonicalize().unwrap_or_else(|_| repo.to_owned());
    let folder = match full.file_name() {
        Some(name) if name == ".git" => full.parent().and_then(Path::file_name),
        name => name,
    };
    let name = folder.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    name.strip_suffix(".git").unwrap_or(&name).to_owned()
}

struct Importer {
    node: Node,
    tree: TreeId,
    key: SecretKey,
    /// The entry and the height of each commit: 68 bytes for each.
    places: HashMap<CommitId, (EntryId, u32)>,
    batch: Vec<VerifiedEntry>,
    batch_bytes: usize,
    /// How many messages were truncated.
    shortened: u64,
    stored: u64,
}

impl Importer {
    async fn run(
        &mut self,
        repo: &Path,
        start: &Start,
        total: u64,
        mut progress: Progress,
    ) -> Result<()> {
        let mut commits = Commits::read(repo, start)?;
        progress.set(0, Some(total));
        let mut taken = 0;
        while taken < total {
            let Some(commit) = commits.next()? else {
                commits.finish()?;
                break;
            };
            taken += 1;
            self.add(commit)?;
            if self.batch.len() >= BATCH_ENTRIES || self.batch_bytes >= BATCH_BYTES {
                self.store().await?;
                progress.set(self.stored, Some(total));
            }
        }
        self.store().await
    }

    /// Makes the entry of a commit. The entries of its parents must exist.
    fn add(&mut self, commit: Commit) -> Result<()> {
        let mut parents = Vec::with_capacity(commit.parents.len());
        let mut highest = 0;
        for parent in &commit.parents {
            let (id, height) = self.places.get(parent).ok_or_else(|| {
                Failure::new(format!(
                    "git listed commit {} before its parent {parent}",
                    commit.id
                ))
                .hint("run `git fsck` in the repository")
            })?;
            highest = highest.max(*height);
            parents.push(*id);
        }
        if parents.is_empty() {
            parents.push(self.tree.root());
        }
        parents.sort_unstable();
        parents.dedup();
        let height = highest + 1;
        self.shortened += u64::from(commit.shortened);
        let entry = Entry {
            tree: Some(self.tree),
            parents,
            height,
            timestamp_ms: commit.time_ms,
            author: self.key.public(),
            body: Body::Data(commit.payload.into()),
        };
        let entry = VerifiedEntry::sign(entry, &self.key)
            .context(format!("commit {} does not fit into an entry", commit.id))
            .hint("use --limit to import only the commits before it")?;
        self.places.insert(commit.id, (entry.get().id(), height));
        self.batch_bytes += entry.get().encoded().len();
        self.batch.push(entry);
        Ok(())
    }

    async fn store(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let stored = self.node.insert(self.tree, batch).await;
        let stored = stored
            .context("could not store the commits")
            .hint("make room on the disk, then import again")?;
        self.stored += stored.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_named_after_the_repositorys_folder() {
        for (repo, name) in [
            ("/a/work", "work"),
            ("/a/work.git", "work"),
            ("/a/work/.git", "work"),
        ] {
            assert_eq!(name_of(Path::new(repo)), name);
        }
    }
}
