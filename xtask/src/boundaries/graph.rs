//! The dependency graph, and the rules that it can break.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::Violation;
use super::rules::{CrateRule, DEFAULT_BOUNDARY, MEMBER_BOUNDARY, TOPS};
use crate::workspace;

/// The workspace's packages and everything they are built from.
#[derive(Default)]
pub struct Graph {
    /// By cargo's package id.
    packages: BTreeMap<String, Package>,
}

/// One package.
#[derive(Default)]
pub struct Package {
    pub name: String,
    pub member: bool,
    pub library: bool,
    /// The names of its features.
    pub features: Vec<String>,
    pub default_features: Vec<String>,
    declared: Vec<Declared>,
    /// Ids of the packages that it is built from; those of its tests are left out.
    built_from: Vec<String>,
}

/// A dependency as the manifest declares it, on whatever platform.
struct Declared {
    name: String,
    optional: bool,
    for_tests: bool,
}

impl Graph {
    /// Asks cargo for the graph of this workspace.
    pub fn load() -> Result<Graph, String> {
        Graph::from_metadata(&workspace::metadata()?)
    }

    /// Reads the output of `cargo metadata`.
    pub fn from_metadata(metadata: &Value) -> Result<Graph, String> {
        let members: BTreeSet<&str> = array(metadata, "workspace_members")?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let mut graph = Graph::default();
        for package in array(metadata, "packages")? {
            let id = text(package, "id")?;
            let package = read_package(package, members.contains(id))?;
            graph.packages.insert(id.into(), package);
        }
        for node in array(&metadata["resolve"], "nodes")? {
            let id = text(node, "id")?;
            let package = graph
                .packages
                .get_mut(id)
                .ok_or_else(|| format!("cargo metadata resolves {id} without describing it"))?;
            for dependency in array(node, "deps")? {
                let kinds = array(dependency, "dep_kinds")?;
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    package.built_from.push(text(dependency, "pkg")?.into());
                }
            }
        }
        Ok(graph)
    }

    /// Iterates over the workspace's own packages.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.member)
    }

    /// Returns the names on a shortest way from a member down to a package that `found` accepts.
    fn way_down(&self, from: &str, found: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        let (start, _) = self
            .packages
            .iter()
            .find(|(_, p)| p.member && p.name == from)?;
        let mut seen = BTreeSet::from([start.as_str()]);
        let mut queue = VecDeque::from([vec![start.as_str()]]);
        while let Some(way) = queue.pop_front() {
            let last = self.packages.get(*way.last()?)?;
            if way.len() > 1 && found(&last.name) {
                return Some(
                    way.iter()
                        .map(|id| self.packages[*id].name.as_str())
                        .collect(),
                );
            }
            for next in &last.built_from {
                if self.packages.contains_key(next) && seen.insert(next) {
                    queue.push_back(way.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

fn read_package(package: &Value, member: bool) -> Result<Package, String> {
    let features = package["features"]
        .as_object()
        .ok_or("a package without features")?;
    let default_features = match features.get("default") {
        Some(default) => strings(default),
        None => vec![],
    };
    let declared = array(package, "dependencies")?
        .iter()
        .map(|dependency| {
            Ok(Declared {
                name: text(dependency, "name")?.into(),
                optional: dependency["optional"] == true,
                for_tests: dependency["kind"] == "dev",
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(Package {
        name: text(package, "name")?.into(),
        member,
        library: array(package, "targets")?
            .iter()
            .any(|target| strings(&target["kind"]).iter().any(|kind| kind == "lib")),
        features: features.keys().cloned().collect(),
        default_features,
        declared,
        built_from: vec![],
    })
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key]
        .as_array()
        .ok_or_else(|| format!("cargo metadata has no list {key:?}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key]
        .as_str()
        .ok_or_else(|| format!("cargo metadata has no text {key:?}"))
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Returns every rule that the graph breaks.
pub fn check(graph: &Graph, rules: &[CrateRule]) -> Vec<Violation> {
    let mut violations = vec![];
    for member in graph.members() {
        let mut report = |boundary: &str, found: String| {
            violations.push(Violation {
                boundary: boundary.into(),
                found,
            });
        };
        if member.library && !member.default_features.is_empty() {
            let defaults = member.default_features.join(", ");
            report(
                DEFAULT_BOUNDARY,
                format!("{} has default features: {defaults}", member.name),
            );
        }
        for top in TOPS {
            let excepted = top.except.contains(&member.name.as_str());
            let depends = member.declared.iter().any(|d| d.name == top.name);
            if depends && !excepted {
                report(
                    top.boundary,
                    format!("{} depends on {}", member.name, top.name),
                );
            }
        }
        match rules.iter().find(|rule| rule.name == member.name) {
            None => report(MEMBER_BOUNDARY, format!("{} has no rules", member.name)),
            Some(rule) => {
                for found in broken(graph, member, rule) {
                    report(rule.boundary, found);
                }
            }
        }
    }
    for rule in rules {
        if !graph.members().any(|member| member.name == rule.name) {
            let found = format!("{} has rules and is no member of the workspace", rule.name);
            violations.push(Violation {
                boundary: MEMBER_BOUNDARY.into(),
                found,
            });
        }
    }
    violations
}

fn broken(graph: &Graph, member: &Package, rule: &CrateRule) -> Vec<String> {
    let mut found = vec![];
    for declared in member
        .declared
        .iter()
        .filter(|declared| !declared.for_tests)
    {
        let name = &declared.name;
        if rule.direct.iter().any(|pattern| fits(pattern, name)) {
            continue;
        }
        if !rule.optional.iter().any(|pattern| fits(pattern, name)) {
            found.push(format!("{} may not depend on {name}", member.name));
        } else if !declared.optional {
            found.push(format!(
                "{} may depend on {name} only behind a feature",
                member.name
            ));
        }
    }
    for pattern in rule.never {
        if let Some(way) = graph.way_down(&member.name, |name| fits(pattern, name)) {
            found.push(format!(
                "{pattern} must not be under {}: {}",
                member.name,
                way.join(" → ")
            ));
        }
        // Tests may use what they like, the workspace's own forbidden crates apart. A crate that
        // names itself switches its own test helpers on.
        let tested_with = member.declared.iter().find(|declared| {
            declared.for_tests
                && declared.name.starts_with("eidetica-")
                && declared.name != member.name
                && fits(pattern, &declared.name)
        });
        if let Some(declared) = tested_with {
            found.push(format!(
                "the tests of {} depend on {}",
                member.name, declared.name
            ));
        }
    }
    found
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::CRATES;
    use super::*;

    /// Draws a graph: `a -> b` is a dependency, `a ?> b` an optional one, `a ~> b` one of tests.
    /// All members of the workspace are in it anyway.
    fn draw(edges: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for rule in CRATES {
            let library = !matches!(rule.name, "xtask" | "eidetica-bench");
            let package = Package {
                name: rule.name.into(),
                member: true,
                library,
                ..Package::default()
            };
            graph.packages.insert(rule.name.into(), package);
        }
        for edge in edges {
            let [from, arrow, to] = edge.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{edge:?} is no edge")
            };
            for name in [from, to] {
                let package = Package {
                    name: name.into(),
                    ..Package::default()
                };
                graph.packages.entry(name.into()).or_insert(package);
            }
            let package = graph.packages.get_mut(from).expect("inserted above");
            let (optional, for_tests) = (arrow == "?>", arrow == "~>");
            package.declared.push(Declared {
                name: to.into(),
                optional,
                for_tests,
            });
            if !for_tests {
                package.built_from.push(to.into());
            }
        }
        graph
    }

    fn found(graph: &Graph) -> Vec<String> {
        check(graph, CRATES)
            .into_iter()
            .map(|violation| violation.found)
            .collect()
    }

    #[track_caller]
    fn assert_breaks(edges: &[&str], expected: &str) {
        assert_eq!(found(&draw(edges)), [expected]);
    }

    #[test]
    fn what_the_rules_allow_passes() {
        let graph = draw(&[
            "eidetica-dag -> postcard",
            "eidetica-dag ~> proptest",
            "proptest -> tokio",
            "eidetica-proto -> eidetica-dag",
            "eidetica-proto ?> futures",
            "eidetica-transport-http -> eidetica-proto",
            "eidetica-transport-http -> tokio",
            "eidetica-sync ?> eidetica-transport-http",
            "xtask -> serde_json",
        ]);
        assert_eq!(found(&graph), [""; 0]);
    }

    #[test]
    fn runtimes_are_found_under_the_pure_crates_at_any_depth() {
        for member in ["eidetica-dag", "eidetica-proto"] {
            for (name, pattern) in [
                ("tokio", "tokio*"),
                ("hyper-util", "hyper*"),
                ("iroh-base", "iroh*"),
            ] {
                let edges = [
                    format!("{member} -> postcard"),
                    format!("postcard -> {name}"),
                ];
                assert_breaks(
                    &[&edges[0], &edges[1]],
                    &format!("{pattern} must not be under {member}: {member} → postcard → {name}"),
                );
            }
        }
    }

    #[test]
    fn a_shortest_way_is_told() {
        assert_breaks(
            &[
                "eidetica-dag -> serde",
                "serde -> deep",
                "deep -> tokio",
                "eidetica-dag -> sha2",
                "sha2 -> tokio",
            ],
            "tokio* must not be under eidetica-dag: eidetica-dag → sha2 → tokio",
        );
    }

    #[test]
    fn direct_dependencies_must_be_listed() {
        assert_breaks(
            &["eidetica-dag -> getrandom"],
            "eidetica-dag may not depend on getrandom",
        );
        assert_breaks(
            &["eidetica-proto ?> rand"],
            "eidetica-proto may not depend on rand",
        );
        assert_breaks(
            &["eidetica-transport-http -> eidetica-dag"],
            "eidetica-transport-http may not depend on eidetica-dag",
        );
        assert_breaks(
            &["eidetica-sync -> hyper"],
            "eidetica-sync may not depend on hyper",
        );
        assert_breaks(&["xtask -> clap"], "xtask may not depend on clap");
    }

    #[test]
    fn the_dag_sees_no_async_at_any_depth() {
        assert_breaks(
            &["eidetica-dag -> bytes", "bytes -> futures-core"],
            "futures* must not be under eidetica-dag: eidetica-dag → bytes → futures-core",
        );
    }

    #[test]
    fn transports_stand_behind_features() {
        assert_breaks(
            &["eidetica-sync -> eidetica-transport-iroh"],
            "eidetica-sync may depend on eidetica-transport-iroh only behind a feature",
        );
    }

    #[test]
    fn transports_know_nothing_of_each_other_not_even_in_tests() {
        assert_breaks(
            &["eidetica-transport-http -> hyper", "hyper -> iroh"],
            "iroh* must not be under eidetica-transport-http: \
             eidetica-transport-http → hyper → iroh",
        );
        assert_breaks(
            &["eidetica-transport-iroh ~> eidetica-transport-http"],
            "the tests of eidetica-transport-iroh depend on eidetica-transport-http",
        );
    }

    #[test]
    fn nothing_depends_on_the_top_crates_but_the_benchmarks() {
        for (edge, top) in [
            ("xtask ~> eidetica-sync", &TOPS[0]),
            ("eidetica-sync ~> eidetica-bench", &TOPS[1]),
        ] {
            let violations = check(&draw(&[edge]), CRATES);
            let broken = |violation: &Violation| violation.boundary == top.boundary;
            assert!(violations.iter().any(broken), "{edge}");
        }
        let measured = draw(&["eidetica-bench -> eidetica-sync", "eidetica-bench ~> divan"]);
        assert_eq!(found(&measured), [""; 0]);
    }

    #[test]
    fn xtask_depends_on_no_crate_of_the_workspace() {
        assert_breaks(
            &["xtask -> serde_json", "serde_json -> eidetica-dag"],
            "eidetica-* must not be under xtask: xtask → serde_json → eidetica-dag",
        );
    }

    #[test]
    fn libraries_have_no_default_features() {
        let mut graph = draw(&[]);
        let sync = graph.packages.get_mut("eidetica-sync").unwrap();
        sync.default_features = vec!["http".into()];
        assert_eq!(found(&graph), ["eidetica-sync has default features: http"]);
    }

    #[test]
    fn members_and_rules_match() {
        let mut graph = draw(&[]);
        graph.packages.remove("eidetica-dag");
        let stranger = Package {
            name: "extra".into(),
            member: true,
            ..Package::default()
        };
        graph.packages.insert("extra".into(), stranger);
        assert_eq!(
            found(&graph),
            [
                "extra has no rules",
                "eidetica-dag has rules and is no member of the workspace"
            ]
        );
    }

    /// The smallest metadata with every kind of edge: a violation two levels down, by way of a
    /// build dependency, beside one of tests that does not count.
    #[test]
    fn metadata_is_read_with_its_kinds_of_dependencies() {
        let metadata = serde_json::json!({
            "workspace_members": ["dag#1"],
            "packages": [
                {
                    "id": "dag#1", "name": "eidetica-dag",
                    "targets": [{"kind": ["lib"]}, {"kind": ["test"]}],
                    "features": {"default": ["std"], "std": []},
                    "dependencies": [
                        {"name": "sha2", "kind": null, "optional": false},
                        {"name": "proptest", "kind": "dev", "optional": false},
                    ],
                },
                {"id": "sha2#1", "name": "sha2", "targets": [], "features": {},
                 "dependencies": []},
                {"id": "tokio#1", "name": "tokio", "targets": [], "features": {},
                 "dependencies": []},
                {"id": "iroh#1", "name": "iroh", "targets": [], "features": {},
                 "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "dag#1", "deps": [
                    {"pkg": "sha2#1", "dep_kinds": [{"kind": null}, {"kind": "dev"}]},
                    {"pkg": "iroh#1", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "sha2#1", "deps": [{"pkg": "tokio#1", "dep_kinds": [{"kind": "build"}]}]},
                {"id": "tokio#1", "deps": []},
                {"id": "iroh#1", "deps": []},
            ]},
        });
        let graph = Graph::from_metadata(&metadata).unwrap();
        assert_eq!(
            found(&graph)[..2],
            [
                "eidetica-dag has default features: std",
                "tokio* must not be under eidetica-dag: eidetica-dag → sha2 → tokio",
            ]
        );
        assert!(!found(&graph).iter().any(|found| found.contains("iroh*")));
        assert!(Graph::from_metadata(&serde_json::json!({})).is_err());
    }
}
