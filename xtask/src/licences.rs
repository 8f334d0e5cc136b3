//! Licences and sources of every dependency, where cargo-deny is not installed.
//!
//! It reads the same `deny.toml`. cargo-deny also reads licence texts and checks duplicates.

use cargo_metadata::{Metadata, Package};
use spdx::{Expression, ParseMode};

/// The one source that `deny.toml` allows besides the workspace.
const REGISTRY: &str = "registry+https://github.com/rust-lang/";

/// Returns the dependencies whose licence or source `deny.toml` does not allow.
pub fn check(metadata: &Metadata, deny: &str) -> Vec<String> {
    let licences = section(deny, "[licenses]");
    let (allowed, exceptions) = licences.split_once("exceptions").unwrap_or((licences, ""));
    let allowed = quoted(allowed);
    let mut refused = vec![];
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
    {
        let mut allowed = allowed.clone();
        let own = exceptions
            .lines()
            .map(quoted)
            .find(|words| words.first() == Some(&package.name.as_str()));
        allowed.extend(own.into_iter().flatten().skip(1));
        if let Err(why) = allows(package, &allowed) {
            refused.push(format!("{} {}: {why}", package.name, package.version));
        }
        let source = package.source.as_ref().map_or("", |source| &source.repr);
        if !source.starts_with(REGISTRY) {
            refused.push(format!("{} comes from {source}", package.name));
        }
    }
    refused
}

fn allows(package: &Package, allowed: &[&str]) -> Result<(), String> {
    let text = package.license.as_deref().ok_or("it names no licence")?;
    let expression =
        Expression::parse_mode(text, ParseMode::LAX).map_err(|error| error.to_string())?;
    match expression.evaluate(|licence| allowed.contains(&licence.to_string().as_str())) {
        true => Ok(()),
        false => Err(format!("{text} is not allowed")),
    }
}

/// Returns the text from a heading to the next heading.
fn section<'a>(toml: &'a str, heading: &str) -> &'a str {
    let rest = toml.split_once(heading).map_or("", |(_, rest)| rest);
    rest.split_once("\n[").map_or(rest, |(section, _)| section)
}

/// Returns the strings in double quotes, without those in comments.
fn quoted(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    const DENY: &str = "[licenses]\n# \"GPL-3.0\"\nallow = [\n  \"MIT\",\n  \"Apache-2.0 WITH LLVM-exception\",\n]\nexceptions = [\n  { crate = \"data\", allow = [\"Zlib\"] },\n]\n\n[bans]\nskip = [\"ISC\"]\n";

    fn refused(name: &str, licence: &str, source: &str) -> Vec<String> {
        let package = serde_json::json!({
            "name": name, "version": "1.0.0", "id": name, "targets": [], "manifest_path": "/",
            "dependencies": [], "features": {}, "license": licence, "source": source,
        });
        let metadata = serde_json::json!({
            "packages": [package], "workspace_members": [], "resolve": null,
            "target_directory": "/", "workspace_root": "/", "version": 1,
        });
        check(&serde_json::from_value(metadata).unwrap(), DENY)
    }

    #[test]
    fn licences_and_sources_are_held_against_the_list() {
        let registry = format!("{REGISTRY}index");
        for fine in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR ISC) AND MIT",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(refused("any", fine, &registry), [""; 0], "{fine}");
        }
        for wrong in [
            "GPL-3.0",
            "ISC",
            "Zlib",
            "MIT AND ISC",
            "Apache-2.0",
            "no licence at all",
        ] {
            assert_eq!(refused("any", wrong, &registry).len(), 1, "{wrong}");
        }
        assert_eq!(refused("data", "Zlib", &registry), [""; 0]);
        assert_eq!(
            refused("any", "MIT", "git+https://example.com/any").len(),
            1
        );
    }

    #[test]
    fn the_workspace_has_only_what_its_list_allows() {
        let deny = std::fs::read_to_string(workspace::root().join("deny.toml")).unwrap();
        assert_eq!(check(&workspace::metadata().unwrap(), &deny), [""; 0]);
    }
}
