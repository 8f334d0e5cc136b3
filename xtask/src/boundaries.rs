//! The boundaries between crates, as checks that can fail.
//!
//! A rule that stops a change is not wrong for that reason: it asks for a decision. Change it
//! together with the reason in ARCHITECTURE.md. What code itself must not call stands in each
//! crate's `clippy.toml`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

/// What one crate must not depend on. Names may end in `*`, for any ending.
struct Rule {
    package: &'static str,
    why: &'static str,
    /// What must not be below it at any depth. The workspace's own crates not for its tests either.
    never: &'static [&'static str],
    /// What it may depend on only behind a feature.
    optional: &'static [&'static str],
}

const TRANSPORT: &str = "a transport carries opaque frames: it knows neither entries nor stores nor \
                         the other transport, so that each can be used, replaced and tested alone";

const RULES: &[Rule] = &[
    Rule {
        package: "eidetica-dag",
        why: "eidetica-dag is pure and synchronous: time, randomness and identity are arguments",
        never: &[
            "async-*",
            "eidetica-*",
            "futures*",
            "getrandom",
            "hyper*",
            "iroh*",
            "mio",
            "noq*",
            "rand",
            "redb",
            "tokio*",
        ],
        optional: &["flate2"],
    },
    Rule {
        package: "eidetica-proto",
        why: "eidetica-proto decides and does no I/O: a driver feeds it",
        never: &[
            "eidetica-sync",
            "eidetica-transport-*",
            "getrandom",
            "hyper*",
            "iroh*",
            "mio",
            "noq*",
            "rand",
            "redb",
            "tokio*",
        ],
        optional: &["futures"],
    },
    Rule {
        package: "eidetica-transport-http",
        why: TRANSPORT,
        never: &[
            "aws-lc-*",
            "eidetica-sync",
            "eidetica-transport-iroh",
            "iroh*",
            "redb",
        ],
        optional: &["rcgen", "rustls*", "tokio-rustls"],
    },
    Rule {
        package: "eidetica-transport-iroh",
        why: TRANSPORT,
        never: &[
            "aws-lc-*",
            "eidetica-sync",
            "eidetica-transport-http",
            "redb",
        ],
        optional: &["iroh-mdns-*", "iroh-relay"],
    },
    Rule {
        package: "eidetica-sync",
        why: "eidetica-sync does what eidetica-proto decides: transports, stores and the program are \
              optional",
        never: &["eidetica-bench", "xtask*"],
        optional: &[
            "clap*",
            "eidetica-transport-*",
            "redb",
            "serde_json",
            "tracing-subscriber",
        ],
    },
    Rule {
        package: "xtask",
        why: "xtask starts quickly and judges the other crates from outside",
        never: &["async-*", "eidetica-*", "futures*", "tokio*"],
        optional: &[],
    },
    Rule {
        package: "xtask-support",
        why: "xtask starts quickly and judges the other crates from outside",
        never: &["eidetica-*", "tokio*"],
        optional: &[],
    },
    Rule {
        package: "eidetica-replicas",
        why: "the comparison with other protocols builds it without transports and stores",
        never: &["eidetica-sync", "eidetica-transport-*", "tokio*"],
        optional: &[],
    },
    Rule {
        package: "eidetica-bench",
        why: "benchmarks may use anything",
        never: &["xtask"],
        optional: &[],
    },
];

/// The tops of the stack: nothing else depends on them, so that programs on a lower layer never
/// build the upper one.
const TOPS: &[(&str, &[&str])] = &[
    ("eidetica-sync", &["eidetica-bench"]),
    ("eidetica-bench", &[]),
];

/// A package and the packages that it is built from, without those of its tests.
struct Node<'a> {
    package: &'a Package,
    below: Vec<&'a PackageId>,
}

/// Returns every broken rule, with the reason for it.
pub fn check(metadata: &Metadata) -> Result<Vec<String>, String> {
    let graph = graph(metadata)?;
    let mut broken = vec![];
    for member in metadata.workspace_packages() {
        let defaults = member.features.get("default").map_or(0, Vec::len);
        if defaults > 0 {
            broken.push(format!(
                "{} has default features: users pay for what they ask for",
                member.name
            ));
        }
        for (top, except) in TOPS {
            let depends = member.dependencies.iter().any(|it| it.name == *top);
            if depends && !except.contains(&member.name.as_str()) {
                broken.push(format!(
                    "{} depends on {top}, a top of the stack",
                    member.name
                ));
            }
        }
        match RULES
            .iter()
            .find(|rule| rule.package == member.name.as_str())
        {
            None => broken.push(format!("{} has no rules", member.name)),
            Some(rule) => {
                let found = check_rule(rule, member, &graph);
                broken.extend(found.map(|found| format!("{found}\n  because {}", rule.why)));
            }
        }
    }
    Ok(broken)
}

fn graph(metadata: &Metadata) -> Result<BTreeMap<&PackageId, Node<'_>>, String> {
    let resolve = metadata
        .resolve
        .as_ref()
        .ok_or("cargo metadata resolves nothing")?;
    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|it| (&it.id, it)).collect();
    let nodes = resolve.nodes.iter().map(|node| {
        let package = packages.get(&node.id);
        let package =
            package.ok_or_else(|| format!("cargo metadata does not describe {}", node.id))?;
        // Build scripts run on the machine that builds, not in programs.
        let is_built = |dep: &&cargo_metadata::NodeDep| {
            dep.dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        };
        let below = node
            .deps
            .iter()
            .filter(is_built)
            .map(|dep| &dep.pkg)
            .collect();
        Ok((&node.id, Node { package, below }))
    });
    nodes.collect()
}

fn check_rule<'a>(
    rule: &'a Rule,
    member: &'a Package,
    graph: &'a BTreeMap<&PackageId, Node<'_>>,
) -> impl Iterator<Item = String> + 'a {
    let never = rule.never.iter().filter_map(|pattern| {
        let path = path_down(graph, &member.id, |name| fits(pattern, name))?;
        Some(format!(
            "{pattern} must not be below {}: {}",
            member.name,
            path.join(" → ")
        ))
    });
    let declared = member
        .dependencies
        .iter()
        .filter(|it| it.name != member.name.as_str());
    let declared = declared.filter_map(|it| {
        let of = |patterns: &[&str]| patterns.iter().any(|pattern| fits(pattern, &it.name));
        let is_own = it.name.starts_with("eidetica-");
        if it.kind == DependencyKind::Development && is_own && of(rule.never) {
            Some(format!(
                "the tests of {} depend on {}",
                member.name, it.name
            ))
        } else if it.kind == DependencyKind::Normal && !it.optional && of(rule.optional) {
            Some(format!(
                "{} may depend on {} only behind a feature",
                member.name, it.name
            ))
        } else {
            None
        }
    });
    never.chain(declared)
}

/// Returns the names on a shortest path from a package down to one that `found` accepts.
fn path_down<'a>(
    graph: &'a BTreeMap<&PackageId, Node<'_>>,
    from: &'a PackageId,
    found: impl Fn(&str) -> bool,
) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut queue = VecDeque::from([vec![from]]);
    while let Some(path) = queue.pop_front() {
        let last = graph.get(path.last()?)?;
        if path.len() > 1 && found(&last.package.name) {
            return Some(
                path.iter()
                    .map(|id| graph[id].package.name.as_str())
                    .collect(),
            );
        }
        for next in &last.below {
            if seen.insert(next) {
                queue.push_back(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns metadata of members with drawn dependencies: `a -> b`, `a ?> b` where it is optional,
    /// `a ~> b` of tests, `a => b` of build scripts.
    pub(crate) fn draw(edges: &[&str], features: Value) -> Metadata {
        let edges: Vec<[&str; 3]> = edges
            .iter()
            .map(|edge| {
                edge.split(' ')
                    .collect::<Vec<_>>()
                    .try_into()
                    .expect("an edge")
            })
            .collect();
        let members = RULES.iter().map(|rule| rule.package);
        let mut names: BTreeSet<&str> = members.clone().collect();
        names.extend(edges.iter().flat_map(|[from, _, to]| [*from, *to]));
        let kind = |arrow: &str| match arrow {
            "~>" => json!("dev"),
            "=>" => json!("build"),
            _ => Value::Null,
        };
        let of = |name: &str| {
            edges
                .iter()
                .filter(|[from, ..]| *from == name)
                .collect::<Vec<_>>()
        };
        let package = |name: &&str| {
            let dependencies = of(name).into_iter().map(|[_, arrow, to]| {
                json!({
                    "name": to, "req": "*", "kind": kind(arrow), "optional": *arrow == "?>",
                    "uses_default_features": true, "features": [], "source": null,
                })
            });
            json!({
                "name": name, "version": "1.0.0", "id": name, "targets": [], "manifest_path": "/",
                "dependencies": dependencies.collect::<Vec<_>>(), "features": features.get(name).unwrap_or(&json!({})),
            })
        };
        let node = |name: &&str| {
            let deps = of(name).into_iter().map(|[_, arrow, to]| {
                json!({"name": to, "pkg": to, "dep_kinds": [{"kind": kind(arrow), "target": null}]})
            });
            json!({"id": name, "deps": deps.collect::<Vec<_>>(), "dependencies": [], "features": []})
        };
        let metadata = json!({
            "packages": names.iter().map(package).collect::<Vec<_>>(),
            "workspace_members": members.collect::<Vec<_>>(),
            "resolve": {"nodes": names.iter().map(node).collect::<Vec<_>>(), "root": null},
            "target_directory": "/", "workspace_root": "/", "version": 1,
        });
        serde_json::from_value(metadata).expect("the metadata has cargo's form")
    }

    fn broken(edges: &[&str]) -> Vec<String> {
        let broken = check(&draw(edges, json!({}))).unwrap();
        broken
            .iter()
            .map(|it| it.split('\n').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_workspace_keeps_its_boundaries() {
        let metadata = crate::workspace::metadata().unwrap();
        assert_eq!(check(&metadata).unwrap(), [""; 0]);
    }

    /// Clippy reads one file for each crate, so the strict ones repeat the common rules.
    #[test]
    fn strict_clippy_files_contain_the_common_rules() {
        let rules = |folder: &str| -> BTreeSet<String> {
            let file = crate::workspace::root().join(folder).join("clippy.toml");
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
    fn what_the_rules_allow_passes() {
        let fine = [
            "eidetica-dag -> postcard",
            "eidetica-dag ?> flate2",
            "eidetica-dag ~> proptest",
            "proptest -> getrandom",
            "eidetica-proto -> zstd-sys",
            "zstd-sys => getrandom",
            "eidetica-transport-http -> tokio",
            "eidetica-sync ?> eidetica-transport-http",
            "eidetica-bench -> eidetica-sync",
        ];
        assert_eq!(broken(&fine), [""; 0]);
    }

    #[test]
    fn every_rule_can_be_broken() {
        for (edges, expected) in [
            (
                &[
                    "eidetica-dag -> serde",
                    "serde -> deep",
                    "deep -> tokio",
                    "serde -> tokio",
                ][..],
                "tokio* must not be below eidetica-dag: eidetica-dag → serde → tokio",
            ),
            (
                &["eidetica-proto ?> futures", "futures -> getrandom"],
                "getrandom must not be below eidetica-proto: eidetica-proto → futures → getrandom",
            ),
            (
                &["eidetica-transport-http -> hyper", "hyper -> iroh"],
                "iroh* must not be below eidetica-transport-http: eidetica-transport-http → hyper → iroh",
            ),
            (
                &["eidetica-transport-iroh ~> eidetica-transport-http"],
                "the tests of eidetica-transport-iroh depend on eidetica-transport-http",
            ),
            (
                &["eidetica-sync -> redb"],
                "eidetica-sync may depend on redb only behind a feature",
            ),
            (
                &[
                    "eidetica-bench ~> xtask-support",
                    "eidetica-sync ~> eidetica-bench",
                ],
                "eidetica-sync depends on eidetica-bench, a top of the stack",
            ),
        ] {
            assert!(
                broken(edges).iter().any(|it| it == expected),
                "{:?}",
                broken(edges)
            );
        }
        let features = json!({"eidetica-sync": {"default": ["http"], "http": []}});
        assert!(check(&draw(&[], features)).unwrap()[0].contains("has default features"));
    }
}
