//! Chooses few inputs that reach much.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What libFuzzer learns about inputs while it merges them.
#[derive(Debug, Default, PartialEq)]
pub struct Reached {
    /// What is reached by inputs that stay anyway.
    fixed: BTreeSet<u64>,
    /// The other inputs, each with what it reaches.
    others: Vec<(PathBuf, BTreeSet<u64>)>,
}

impl Reached {
    /// Reads libFuzzer's control file of a merge: the number of inputs, how many of them stay, their
    /// files, and then, in lines `FT <input> <feature>…`, what each reaches.
    pub fn read(control: &str) -> Option<Self> {
        let mut lines = control.lines();
        let count: usize = lines.next()?.parse().ok()?;
        let fixed_count: usize = lines.next()?.parse().ok()?;
        let files: Vec<&str> = lines.by_ref().take(count).collect();
        if files.len() < count || fixed_count > count {
            return None;
        }
        let mut features = vec![BTreeSet::new(); count];
        for line in lines.filter_map(|line| line.strip_prefix("FT ")) {
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let input = usize::try_from(numbers.next()?.ok()?).ok()?;
            let reached: BTreeSet<u64> = numbers.collect::<Result<_, _>>().ok()?;
            features.get_mut(input)?.extend(reached);
        }
        let others = features.split_off(fixed_count);
        let files = files.into_iter().skip(fixed_count).map(PathBuf::from);
        Some(Self {
            fixed: features.into_iter().flatten().collect(),
            others: files.zip(others).collect(),
        })
    }

    /// Chooses up to `most` inputs, each the one that reaches most of what is left.
    pub fn choose(mut self, most: usize) -> Vec<PathBuf> {
        let mut chosen = vec![];
        while chosen.len() < most {
            for (_, reached) in &mut self.others {
                reached.retain(|feature| !self.fixed.contains(feature));
            }
            // The first of equals, so that the choice does not depend on anything else.
            let best = self.others.iter().enumerate().rev();
            let best = best.max_by_key(|(_, (_, reached))| reached.len());
            let Some(place) = best.map(|(place, _)| place) else {
                break;
            };
            let (file, reached) = self.others.swap_remove(place);
            if reached.is_empty() {
                break;
            }
            self.fixed.extend(reached);
            chosen.push(file);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "\
4
1
kept/seed
found/a
found/b
found/c
STARTED 0 9
FT 0 1 2
COV 0 7
FT 1 1 3
FT 2 1 2
FT 3 3 4 5
";

    #[test]
    fn inputs_are_chosen_by_what_they_add() {
        let chosen = |most| Reached::read(CONTROL).unwrap().choose(most);
        assert_eq!(chosen(9), [PathBuf::from("found/c")], "a and b add nothing");
        assert!(chosen(0).is_empty());
        let more = format!("{CONTROL}FT 1 6\n");
        let chosen = Reached::read(&more).unwrap().choose(9);
        assert_eq!(chosen, [PathBuf::from("found/c"), PathBuf::from("found/a")]);
    }

    #[test]
    fn a_control_file_that_is_cut_is_no_control_file() {
        assert_eq!(Reached::read("4\n1\nkept/seed\n"), None);
        assert_eq!(Reached::read(""), None);
        assert_eq!(Reached::read("1\n0\na\nFT 7 1\n"), None);
    }
}
