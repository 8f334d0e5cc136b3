//! The shape of a real, merge-heavy history, to walk and to sync.

use std::io::Read;

/// The commit graph of git's own repository at one of its commits: 81,966 entries, 21,215 of them
/// merges, 7 roots, at most 10 parents. Compressed with gzip; [`parse_dag_text`] reads its format.
pub const GIT_HISTORY_GZ: &[u8] = include_bytes!("../../testdata/git-history.dag.gz");

/// Returns the parents of each entry of the real history.
pub fn git_history() -> Vec<Vec<u32>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(GIT_HISTORY_GZ)
        .read_to_string(&mut text)
        .expect("the committed file is intact");
    parse_dag_text(&text)
}

/// Reads a shape from its text: one line for each entry, parents before children. A number says how
/// many lines further up a parent is; an empty line is a root.
///
/// # Panics
/// If the text is something else.
pub fn parse_dag_text(text: &str) -> Vec<Vec<u32>> {
    let parents_in = |(number, line): (usize, &str)| {
        let mut parents: Vec<u32> = line
            .split_ascii_whitespace()
            .map(|word| {
                let back = word.parse::<u32>().ok().filter(|back| *back > 0);
                let parent = back.and_then(|back| (number as u32).checked_sub(back));
                parent.unwrap_or_else(|| panic!("line {}: no parent at {word:?}", number + 1))
            })
            .collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    };
    text.lines().enumerate().map(parents_in).collect()
}
