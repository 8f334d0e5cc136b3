//! Histories to measure on: text that a few authors wrote at the same time.

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Random, key, open_genesis};
use eidetica_dag::{Body, TreeId, VerifiedEntry};

/// Different words in the payloads.
const WORDS: usize = 8_192;

/// Authors who write at the same time, each on top of its own entries.
const AUTHORS: usize = 3;

/// Entries that each author writes until one of them merges all.
const RUN: usize = 100;

/// The shape of a history. The same shape is the same history, to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Shape {
    /// Entries, the root included
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub entries: usize,
    /// Bytes of text in each
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub payload_bytes: usize,
}

/// A signed history.
pub struct History {
    pub tree: TreeId,
    /// Parents before children.
    pub entries: Vec<VerifiedEntry>,
    /// Bytes of all canonical encodings, signatures included.
    pub raw_bytes: usize,
}

impl History {
    /// Writes and signs a history. Anyone may write to the tree.
    pub fn sign(shape: Shape) -> Self {
        let mut text = Text::new();
        let mut timestamp_ms = 1_790_000_000_000;
        let root = sign_on_top(None, [], &key(0), timestamp_ms, open_genesis("benchmark"));
        let tree = root.get().tree();
        let mut entries = vec![root];
        let mut write = |parents: &[usize], author: usize| {
            timestamp_ms += u64::from(text.random.below(5_000));
            let body = Body::Data(text.line(shape.payload_bytes));
            let parents = parents.iter().map(|at| &entries[*at]);
            let entry = sign_on_top(Some(tree), parents, &key(author as u32), timestamp_ms, body);
            entries.push(entry);
            entries.len() - 1
        };
        let mut tips = [0; AUTHORS];
        while tips[0] + 1 < shape.entries {
            for turn in 0..RUN * AUTHORS {
                let author = turn % AUTHORS;
                tips[author] = write(&[tips[author]], author);
            }
            let merge = write(&tips, 0);
            tips.fill(merge);
        }
        entries.truncate(shape.entries);
        let raw_bytes = entries.iter().map(|e| e.get().encoded().len()).sum();
        Self {
            tree,
            entries,
            raw_bytes,
        }
    }

    /// Returns the entries in steps of at least so many bytes, the last one excepted.
    pub fn steps(&self, step_bytes: usize) -> Vec<&[VerifiedEntry]> {
        let (mut steps, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            bytes += entry.get().encoded().len();
            if bytes >= step_bytes || index + 1 == self.entries.len() {
                steps.push(&self.entries[start..=index]);
                (start, bytes) = (index + 1, 0);
            }
        }
        steps
    }
}

/// Lines that compress as prose does: made-up words of which few are frequent and many are rare,
/// and a number now and then.
pub struct Text {
    random: Random,
    words: Vec<String>,
}

impl Text {
    pub fn new() -> Self {
        const STARTS: &[u8] = b"bcdfghklmnprstvwz";
        const VOWELS: &[u8] = b"aeiouy";
        let mut random = Random::new(7);
        let mut letter = |of: &[u8]| char::from(of[random.below(of.len() as u32) as usize]);
        // Frequent words are short, as in every language.
        let syllables = |rank: usize| 1 + rank.checked_ilog2().unwrap_or(0) / 4;
        let mut syllable = |_| [letter(STARTS), letter(VOWELS), letter(STARTS)];
        let words = (0..WORDS).map(|rank| (0..syllables(rank)).flat_map(&mut syllable).collect());
        let words = words.collect();
        Self { random, words }
    }

    /// Returns a line of exactly so many bytes.
    pub fn line(&mut self, bytes: usize) -> Bytes {
        let mut line = String::with_capacity(bytes + 32);
        while line.len() < bytes {
            if self.random.one_in(12) {
                line.push_str(&self.random.below(10_000).to_string());
            } else {
                // Evenly spread over the orders of magnitude of ranks: Zipf's law.
                let magnitude = self.random.below(WORDS.ilog2());
                let rank = (1 << magnitude) + self.random.below(1 << magnitude);
                line.push_str(&self.words[rank as usize]);
            }
            line.push(' ');
        }
        line.truncate(bytes);
        line.into()
    }
}
