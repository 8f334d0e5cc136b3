//! `import dag`: makes entries in the shape of a real history, with generated payloads, for
//! benchmarks.

use std::io::{BufRead, BufReader};

use eidetica_sync::Node;
use eidetica_sync::dag::{Body, Entry, EntryId, SecretKey, TreeId, VerifiedEntry};

use super::{BATCH_BYTES, BATCH_ENTRIES};
use crate::args::{ImportDag, Input};
use crate::commands::session::Session;
use crate::commands::trees::access_of;
use crate::output::failure::{Context, Failure, Hint, Result};
use crate::output::text::count;

/// When the first entry claims to be written, in milliseconds since 1970; each further one claims a
/// second more. The same shape makes the same entries, but for the key and the root.
const FIRST_TIMESTAMP_MS: u64 = 1_700_000_000_000;

/// Begins the sequence from which payloads are made.
const PAYLOAD_SEED: u64 = 0x0065_6964_6574_6963;

pub(crate) async fn run(session: &Session, args: ImportDag) -> Result<()> {
    let console = &session.console;
    let lines = BufReader::new(match args.input() {
        Input::Stdin => console.stdin(),
        Input::File(path) => console.file(path)?,
        Input::Environment(name) => console.variable(name),
    });
    let opened = session.open_or_create()?;
    let node = opened.start();
    let tree = node
        .create_tree(args.name, access_of(args.anyone))
        .await
        .context("could not create the tree")?;
    let mut builder = Builder {
        tree,
        key: opened.key,
        payload_bytes: args.payload_bytes as usize,
        made: Vec::new(),
    };
    let mut progress = console.progress("importing");
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    for (number, line) in lines.lines().take(limit).enumerate() {
        let line = line.context(format!("could not read line {}", number + 1))?;
        let entry = builder.entry(&line)?;
        batch_bytes += entry.get().encoded().len();
        batch.push(entry);
        if batch.len() >= BATCH_ENTRIES || batch_bytes >= BATCH_BYTES {
            store(&node, tree, &mut batch).await?;
            batch_bytes = 0;
            progress.set(builder.made.len() as u64, None);
        }
    }
    store(&node, tree, &mut batch).await?;
    drop(progress);
    let entries = count(builder.made.len() as u64, "entry", "entries");
    console.note(format_args!("imported {entries}"));
    let mut out = console.out();
    out.line(tree)?;
    out.flush()
}

async fn store(node: &Node, tree: TreeId, batch: &mut Vec<VerifiedEntry>) -> Result<()> {
    let stored = node.insert(tree, std::mem::take(batch)).await;
    stored
        .context("could not store the entries")
        .hint("make room on the disk, then import again")?;
    Ok(())
}

/// Makes entries out of lines.
struct Builder {
    tree: TreeId,
    key: SecretKey,
    payload_bytes: usize,
    /// The id and the height of each line's entry.
    made: Vec<(EntryId, u32)>,
}

impl Builder {
    /// Makes the next line's entry. A number says how many lines above it a parent is; the parent of a
    /// line without numbers is the root.
    fn entry(&mut self, line: &str) -> Result<VerifiedEntry> {
        let number = self.made.len();
        let mut parents = Vec::new();
        let mut highest = 0;
        for word in line.split_ascii_whitespace() {
            let back = word.parse::<usize>().ok().filter(|back| *back > 0);
            let place = back.and_then(|back| number.checked_sub(back));
            let Some((id, height)) = place.map(|place| self.made[place]) else {
                let line = number + 1;
                let text = format!("line {line}: {word:?} does not refer to an earlier line");
                return Err(Failure::new(text)
                    .hint("write one line for each entry; a number says how many lines above it a parent is")
                    .into());
            };
            highest = highest.max(height);
            parents.push(id);
        }
        if parents.is_empty() {
            parents.push(self.tree.root());
        }
        parents.sort_unstable();
        parents.dedup();
        let height = highest + 1;
        let entry = Entry {
            tree: Some(self.tree),
            parents,
            height,
            timestamp_ms: FIRST_TIMESTAMP_MS + 1_000 * number as u64,
            author: self.key.public(),
            body: Body::Data(payload(number as u64, self.payload_bytes).into()),
        };
        let entry = VerifiedEntry::sign(entry, &self.key)
            .context(format!("line {} does not fit into an entry", number + 1))?;
        self.made.push((entry.get().id(), height));
        Ok(entry)
    }
}

/// Returns hexadecimal digits without a pattern: like much of what programs write, they can be
/// compressed to a half.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut digits = String::with_capacity(bytes + 16);
    let mut state = PAYLOAD_SEED ^ number.wrapping_mul(0xd134_2543_de82_ef95);
    while digits.len() < bytes {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        digits.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
    }
    digits.truncate(bytes);
    digits.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder {
            tree: TreeId::from_root(EntryId::from_bytes([7; 32])),
            key: SecretKey::from_bytes(&[1; 32]),
            payload_bytes: 20,
            made: Vec::new(),
        }
    }

    #[test]
    fn lines_become_entries_on_their_parents() {
        let mut builder = builder();
        let lines = ["", "1", "", "1 2"];
        let entries = lines.map(|line| builder.entry(line).expect("well formed"));
        let ids = entries.each_ref().map(|entry| entry.get().id());
        let parents = |n: usize| entries[n].get().entry().parents.clone();
        assert_eq!(parents(0), [builder.tree.root()]);
        assert_eq!(parents(1), [ids[0]]);
        assert_eq!(parents(2), [builder.tree.root()]);
        let mut merged = [ids[1], ids[2]];
        merged.sort_unstable();
        assert_eq!(parents(3), merged);
        let heights = entries.each_ref().map(|entry| entry.get().entry().height);
        assert_eq!(heights, [1, 2, 1, 3]);
    }

    #[test]
    fn invalid_lines_are_refused() {
        for line in ["1", "0", "-1", "x"] {
            assert!(builder().entry(line).is_err(), "{line}");
        }
    }

    #[test]
    fn payloads_have_their_length_and_differ() {
        assert_eq!(payload(1, 200).len(), 200);
        assert!(payload(1, 0).is_empty());
        assert_ne!(payload(1, 20), payload(2, 20));
    }
}
