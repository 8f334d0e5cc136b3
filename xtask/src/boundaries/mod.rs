//! The crate boundaries, as checks that can fail.
//!
//! [`rules`] says what each crate may and must not see; [`graph`] holds the dependencies against
//! it, [`sources`] the code, and [`words`] looks for what belongs in no committed file.

mod graph;
mod rules;
mod rust_text;
mod sources;
mod words;

use std::fmt;
use std::fs;

pub use graph::Graph;

use crate::workspace;

/// One broken rule.
#[derive(Debug, PartialEq)]
pub struct Violation {
    /// The boundary that the rule protects.
    pub boundary: String,
    /// Where it is broken, and by what.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  boundary: {}", self.found, self.boundary)
    }
}

/// Returns every broken rule in the workspace. The error says what could not be examined.
pub fn check(graph: &Graph) -> Result<Vec<Violation>, String> {
    let mut violations = graph::check(graph, rules::CRATES);
    for rule in rules::CRATES {
        let folder = workspace::root().join(rule.name).join("src");
        violations.extend(sources::check_folder(rule, &folder)?);
    }
    for file in workspace::files()? {
        // A file that git lists and nobody finds was deleted and not committed yet; a file that is
        // not UTF-8 is data.
        if let Ok(text) = fs::read_to_string(workspace::root().join(&file)) {
            violations.extend(words::check(&file, &text));
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_boundaries() {
        let graph = Graph::load().unwrap();
        let violations: Vec<String> = check(&graph)
            .unwrap()
            .iter()
            .map(Violation::to_string)
            .collect();
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }
}
