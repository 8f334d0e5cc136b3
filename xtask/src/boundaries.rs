//! The boundaries between crates that cargo-deny cannot express; `deny.toml` holds the others.
//!
//! A rule that stops a change asks for a decision: change it together with its reason in
//! ARCHITECTURE.md. Each crate's `clippy.toml` says what its code must not call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Node, NodeDep, Package, PackageId};

use crate::matrix::gaps;

/// What must not be below a crate at any depth, and why. Names may end in `*`, for any ending.
const RULES: &[(&str, &[&str], &str)] = &[
    (
        "eidetica-dag",
        IO,
        "it is pure: time, randomness and identity are arguments",
    ),
    (
        "eidetica-dag",
        &["async-*", "eidetica-*", "futures*"],
        "it is the lowest layer, not async",
    ),
    (
        "eidetica-proto",
        IO,
        "it decides and does no I/O: a driver feeds it",
    ),
    (
        "eidetica-proto",
        &["eidetica-sync", "eidetica-transport-*"],
        "it does not know its users",
    ),
    (
        "eidetica-transport-http",
        &["eidetica-sync", "eidetica-transport-iroh", "iroh*", "redb"],
        "transports know neither stores nor each other",
    ),
    (
        "eidetica-transport-iroh",
        &["eidetica-sync", "eidetica-transport-http", "redb"],
        "transports know neither stores nor each other",
    ),
];

/// What brings threads, sockets, clocks, randomness or files.
const IO: &[&str] = &[
    "getrandom",
    "hyper*",
    "iroh*",
    "mio",
    "noq*",
    "rand",
    "redb",
    "tokio*",
];

/// The packages that each package depends on, by name, or `name@version` where there are several.
type Edges<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Returns every broken rule, with the reason for it.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    let mut broken = vec![];
    for member in &members {
        if member
            .features
            .get("default")
            .is_some_and(|features| !features.is_empty())
        {
            let name = &member.name;
            broken.push(format!(
                "{name} has default features: users pay for what they ask for"
            ));
        }
    }
    let features = members.iter().map(|it| {
        let features = it.features.keys().map(String::as_str);
        (
            it.name.as_str(),
            features.filter(|it| *it != "default").collect(),
        )
    });
    broken.extend(gaps(&features.collect()));

    let names = labels(metadata);
    // Build scripts run on the machine that builds, not in programs.
    let is_built = |dep: &&NodeDep| {
        dep.dep_kinds
            .iter()
            .any(|kind| kind.kind == DependencyKind::Normal)
    };
    let mut below = Edges::new();
    for Node { id, deps, .. } in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
        let deps = deps
            .iter()
            .filter(is_built)
            .map(|dep| names[&dep.pkg].as_str());
        below.entry(names[id].as_str()).or_default().extend(deps);
    }
    let own_tests = members.iter().map(|it| {
        let tests = it
            .dependencies
            .iter()
            .filter(|it| it.kind == DependencyKind::Development);
        let tests = tests.map(|it| it.name.as_str());
        let own = tests.filter(|name| name.starts_with("eidetica-") && *name != it.name.as_str());
        (it.name.as_str(), own.collect())
    });
    broken.extend(check_rules(&below, &own_tests.collect()));
    broken
}

/// Returns the name of each package, with its version where there are several: what one version
/// depends on says nothing about another.
fn labels(metadata: &Metadata) -> BTreeMap<&PackageId, String> {
    let mut versions = BTreeMap::<&str, usize>::new();
    for package in &metadata.packages {
        *versions.entry(package.name.as_str()).or_default() += 1;
    }
    let label = |it: &Package| match versions[it.name.as_str()] {
        1 => it.name.to_string(),
        _ => format!("{}@{}", it.name, it.version),
    };
    let packages = metadata.packages.iter();
    packages.map(|it| (&it.id, label(it))).collect()
}

/// Checks what packages are built from, and the workspace's crates that their tests depend on.
fn check_rules(below: &Edges<'_>, own_tests: &Edges<'_>) -> Vec<String> {
    let mut broken = vec![];
    for (package, never, why) in RULES {
        let tests = own_tests.get(package).into_iter().flatten();
        let tests = tests.filter(|name| fits(never, name));
        let paths = tests.map(|name| format!("the tests of {package} → {name}"));
        let paths = paths.chain(path_down(below, package, never));
        broken.extend(paths.map(|path| format!("{path}, but {why}")));
    }
    broken
}

/// Returns a shortest path from a package down to one of those that must not be there.
fn path_down(below: &Edges<'_>, from: &str, never: &[&str]) -> Option<String> {
    let mut seen = BTreeSet::from([from]);
    let mut queue = VecDeque::from([(from, from.to_owned())]);
    while let Some((name, path)) = queue.pop_front() {
        if name != from && fits(never, name) {
            return Some(path);
        }
        for next in below.get(name).into_iter().flatten() {
            if seen.insert(next) {
                queue.push_back((next, format!("{path} → {next}")));
            }
        }
    }
    None
}

fn fits(patterns: &[&str], label: &str) -> bool {
    let name = label.split('@').next().unwrap_or(label);
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_workspace_keeps_its_boundaries() {
        assert_eq!(check(&workspace::metadata().unwrap()), [""; 0]);
    }

    /// Clippy reads one file for each crate, so the strict ones repeat the common rules.
    #[test]
    fn strict_clippy_files_contain_the_common_rules() {
        let rules = |folder: &str| -> BTreeSet<String> {
            let file = workspace::root().join(folder).join("clippy.toml");
            let text = std::fs::read_to_string(file).unwrap();
            text.lines()
                .filter(|line| line.contains("{ path"))
                .map(str::to_owned)
                .collect()
        };
        let (common, dag, proto) = (rules(""), rules("eidetica-dag"), rules("eidetica-proto"));
        assert!(!common.is_empty() && common.is_subset(&dag));
        assert_eq!(dag, proto);
    }

    #[test]
    fn rules_can_be_kept_and_broken() {
        let edges = |edges: &[(&'static str, &'static str)]| {
            let mut map = Edges::new();
            for (from, to) in edges {
                map.entry(from).or_default().insert(to);
            }
            map
        };
        let fine = edges(&[("eidetica-dag", "postcard"), ("eidetica-sync", "tokio")]);
        assert_eq!(
            check_rules(&fine, &edges(&[("eidetica-dag", "proptest")])),
            [""; 0]
        );
        let deep = edges(&[
            ("eidetica-dag", "serde"),
            ("serde", "deep"),
            ("deep", "tokio-util"),
            ("serde", "tokio-util"),
        ]);
        let expected = "eidetica-dag → serde → tokio-util, but it is pure";
        assert!(check_rules(&deep, &fine)[0].starts_with(expected));
        let tests = edges(&[("eidetica-transport-iroh", "eidetica-transport-http")]);
        let expected = "the tests of eidetica-transport-iroh → eidetica-transport-http, but";
        assert!(check_rules(&fine, &tests)[0].starts_with(expected));
    }
}
