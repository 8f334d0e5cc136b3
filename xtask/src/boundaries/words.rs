//! What belongs in no committed file: places that exist on one machine only.

use std::path::Path;

use super::Violation;

const BOUNDARY: &str = "a clone builds anywhere: no committed file names a folder of somebody's \
                        machine or the host of a package registry";

// Spelled in pieces, because these files are examined like all others.
const FOLDERS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("crates-io", ".proxy"),
    concat!("py", "pi.org"),
    concat!("npm", "js.org"),
    concat!("proxy.", "golang.org"),
    concat!("jfr", "og"),
    concat!("artif", "actory"),
];

/// The line by which a lock file names the default registry.
const LOCK_SOURCE: &str = concat!(
    "source = \"registry+https://github.com/rust-lang/crates",
    ".io-index\""
);

/// Returns what must not stand in this file.
pub fn check(file: &Path, text: &str) -> Vec<Violation> {
    let lock = file.file_name().is_some_and(|name| name == "Cargo.lock");
    let mut violations = vec![];
    for (index, line) in text.lines().enumerate() {
        if lock && line == LOCK_SOURCE {
            continue;
        }
        let hosts = HOSTS.iter().filter(|host| line.contains(**host));
        let folders = FOLDERS.iter().filter(|folder| names_folder(line, folder));
        for word in hosts.chain(folders) {
            let found = format!("{}:{}: {word:?}", file.display(), index + 1);
            violations.push(Violation {
                boundary: BOUNDARY.into(),
                found,
            });
        }
    }
    violations
}

/// Tells whether the folder stands at the start of a path, rather than in the middle of one.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~})".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found() {
        for word in FOLDERS.iter().chain(HOSTS) {
            let text = format!("first\nsee {word}x\n");
            let violations = check(Path::new("README.md"), &text);
            let expected = format!("README.md:2: {word:?}");
            assert!(
                violations
                    .iter()
                    .any(|violation| violation.found == expected),
                "{word}"
            );
        }
        let url = concat!("file:///ho", "me/me");
        assert_eq!(check(Path::new("a"), url).len(), 1);
    }

    #[test]
    fn the_middle_of_a_path_is_no_machine_folder() {
        let text = concat!(
            "https://example.com/ho",
            "me/ $HOME/wo",
            "rk/x ../wo",
            "rk/"
        );
        assert_eq!(check(Path::new("README.md"), text), []);
    }

    #[test]
    fn only_lock_files_name_the_registry_and_only_in_their_own_way() {
        assert_eq!(check(Path::new("Cargo.lock"), LOCK_SOURCE), []);
        assert_eq!(check(Path::new("fuzz/Cargo.lock"), LOCK_SOURCE), []);
        assert_eq!(check(Path::new("Cargo.toml"), LOCK_SOURCE).len(), 1);
        let mirror = LOCK_SOURCE.replace("github.com/rust-lang", "mirror.example");
        assert_eq!(check(Path::new("Cargo.lock"), &mirror).len(), 1);
    }
}
