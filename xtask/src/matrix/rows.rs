//! The rows of the matrix, and the commands that each of them runs.
//!
//! Rows go from small to large, so that most mistakes show within seconds. Packages are built one
//! at a time because cargo unites the features of everything it builds at once: a crate that
//! forgot to ask for a feature of tokio would borrow it from its neighbour.

use crate::boundaries::Graph;

/// Every row, in the order they run.
pub const ROWS: &[Row] = &[
    Row::Format,
    Row::Boundaries,
    Row::Package(program("xtask", &[])),
    Row::Package(library("eidetica-dag", &[])),
    Row::Package(library("eidetica-dag", &["test-utils"])),
    Row::Package(library("eidetica-proto", &[])),
    Row::Package(library("eidetica-proto", &["test-utils"])),
    Row::Package(library("eidetica-sync", &[]).tested_with("test-utils")),
    Row::Package(library("eidetica-transport-http", &[])),
    Row::Package(library("eidetica-transport-http", &["tls"])),
    Row::Package(library("eidetica-sync", &["http"]).tested_with("test-utils")),
    Row::Package(library("eidetica-sync", &["tls"]).tested_with("test-utils")),
    Row::Package(library("eidetica-sync", &["redb"]).tested_with("test-utils")),
    Row::Package(library("eidetica-transport-iroh", &[])),
    Row::Package(library("eidetica-sync", &["iroh"]).tested_with("test-utils")),
    Row::Package(library("eidetica-sync", &["http", "iroh"]).tested_with("test-utils")),
    // `cli` implies the other four: with the test helpers, this is everything.
    Row::Package(library_and_program("eidetica-sync", &["cli"]).tested_with("test-utils")),
    // Behind everything that it measures.
    Row::Package(program("eidetica-bench", &[])),
    Row::Clippy,
    Row::Docs,
];

/// One row of the matrix.
#[derive(Debug)]
pub enum Row {
    /// Every file is formatted as rustfmt would.
    Format,
    /// The rules of the `boundaries` module.
    Boundaries,
    /// One package with one set of features.
    Package(PackageRow),
    /// Clippy on everything at once, tests included.
    Clippy,
    /// Rustdoc on everything at once.
    Docs,
}

/// One package with one set of features.
#[derive(Debug)]
pub struct PackageRow {
    pub package: &'static str,
    pub features: &'static [&'static str],
    /// A feature with helpers that the tests need and users do not get: the check goes without.
    pub test_feature: Option<&'static str>,
    pub targets: Targets,
}

/// What a package consists of, beside its tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets {
    Library,
    Program,
    LibraryAndProgram,
}

const fn library(package: &'static str, features: &'static [&'static str]) -> PackageRow {
    PackageRow {
        package,
        features,
        test_feature: None,
        targets: Targets::Library,
    }
}

const fn program(package: &'static str, features: &'static [&'static str]) -> PackageRow {
    PackageRow {
        targets: Targets::Program,
        ..library(package, features)
    }
}

const fn library_and_program(
    package: &'static str,
    features: &'static [&'static str],
) -> PackageRow {
    PackageRow {
        targets: Targets::LibraryAndProgram,
        ..library(package, features)
    }
}

impl PackageRow {
    const fn tested_with(self, feature: &'static str) -> PackageRow {
        PackageRow {
            test_feature: Some(feature),
            ..self
        }
    }
}

/// What runs the tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Harness {
    Nextest,
    CargoTest,
}

/// One call of cargo.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub args: Vec<String>,
    /// A variable to set beside what the environment holds.
    pub env: Option<(&'static str, &'static str)>,
    /// Whether the output ends in a count of tests.
    pub tests: bool,
}

impl Step {
    fn new(line: &str) -> Step {
        let args = line.split_whitespace().map(str::to_owned).collect();
        Step {
            args,
            env: None,
            tests: false,
        }
    }
}

impl Row {
    /// Returns the row's name, which `--row` takes and the log file carries.
    pub fn name(&self) -> String {
        match self {
            Row::Format => "fmt".into(),
            Row::Boundaries => "boundaries".into(),
            Row::Package(PackageRow {
                targets: Targets::Program,
                package,
                ..
            }) => (*package).into(),
            Row::Package(PackageRow {
                package,
                features: [],
                ..
            }) => format!("{package}:none"),
            Row::Package(PackageRow {
                package, features, ..
            }) => {
                format!("{package}:{}", features.join("+"))
            }
            Row::Clippy => "clippy".into(),
            Row::Docs => "docs".into(),
        }
    }

    /// Returns the calls of cargo that make up the row, in order. The boundaries have none: this
    /// program checks them itself.
    ///
    /// No step sets `RUSTFLAGS`: another value means another build of every dependency. Warnings
    /// are denied by arguments that reach only clippy and rustdoc.
    pub fn steps(&self, harness: Harness) -> Vec<Step> {
        match self {
            Row::Format => vec![Step::new("fmt --all --check")],
            Row::Boundaries => vec![],
            Row::Package(row) => row.steps(harness),
            Row::Clippy => vec![Step::new(
                "clippy --locked --workspace --all-targets --all-features -- -D warnings",
            )],
            Row::Docs => vec![Step {
                env: Some(("RUSTDOCFLAGS", "-D warnings")),
                ..Step::new("doc --locked --workspace --all-features --no-deps")
            }],
        }
    }
}

impl PackageRow {
    fn steps(&self, harness: Harness) -> Vec<Step> {
        let package = self.package;
        let targets = match self.targets {
            Targets::Library => "--lib",
            Targets::Program => "--bins",
            Targets::LibraryAndProgram => "--lib --bins",
        };
        let features = feature_args(self.features.to_vec());
        let test_features = feature_args(
            self.features
                .iter()
                .copied()
                .chain(self.test_feature)
                .collect(),
        );
        let tests = |line: String| Step {
            tests: true,
            ..Step::new(&line)
        };

        // The check sees what users build. Tests alone would not do: their dev-dependencies switch
        // on features that hide a missing `cfg` or a missing feature of a dependency.
        let mut steps = vec![
            Step::new(&format!("check --locked -p {package} {targets} {features}")),
            // Cheap behind the check, and it denies warnings such as an import that only another
            // feature uses.
            Step::new(&format!(
                "clippy --locked -p {package} {targets} {features} -- -D warnings"
            )),
        ];
        match harness {
            Harness::CargoTest => {
                let line = format!("test --locked --no-fail-fast -p {package} {test_features}");
                steps.push(tests(line));
            }
            Harness::Nextest => {
                // A package without tests is fine in itself; the whole run must count some.
                let line = format!(
                    "nextest run --locked --no-fail-fast --no-tests=pass -p {package} \
                     {test_features}"
                );
                steps.push(tests(line));
                if self.targets != Targets::Program {
                    let line = format!("test --locked --doc -p {package} {test_features}");
                    steps.push(tests(line));
                }
            }
        }
        steps
    }
}

fn feature_args(features: Vec<&str>) -> String {
    if features.is_empty() {
        String::new()
    } else {
        format!("--features {}", features.join(","))
    }
}

/// Returns what the matrix leaves out: members of the workspace, and features of theirs.
pub fn gaps(graph: &Graph) -> Vec<String> {
    let packages: Vec<&PackageRow> = ROWS
        .iter()
        .filter_map(|row| match row {
            Row::Package(package) => Some(package),
            _ => None,
        })
        .collect();
    let mut gaps = vec![];
    for member in graph.members() {
        let rows: Vec<_> = packages
            .iter()
            .filter(|row| row.package == member.name)
            .collect();
        if rows.is_empty() {
            gaps.push(format!("no row tests {}", member.name));
            continue;
        }
        for feature in member
            .features
            .iter()
            .filter(|feature| *feature != "default")
        {
            let tested = rows.iter().any(|row| {
                row.features
                    .iter()
                    .chain(&row.test_feature)
                    .any(|tested| tested == feature)
            });
            if !tested {
                gaps.push(format!("no row tests {} with {feature}", member.name));
            }
        }
    }
    for row in packages {
        if !graph.members().any(|member| member.name == row.package) {
            gaps.push(format!("{} has a row and is no member", row.package));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn lines(row: &Row, harness: Harness) -> Vec<String> {
        row.steps(harness)
            .iter()
            .map(|step| step.args.join(" "))
            .collect()
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter()
            .find(|row| row.name() == name)
            .expect("the test names a row of the matrix")
    }

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<String> = ROWS.iter().map(Row::name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn a_library_is_checked_linted_and_tested_with_its_features() {
        let iroh = row("eidetica-sync:http+iroh");
        assert_eq!(
            lines(iroh, Harness::Nextest),
            [
                "check --locked -p eidetica-sync --lib --features http,iroh",
                "clippy --locked -p eidetica-sync --lib --features http,iroh -- -D warnings",
                "nextest run --locked --no-fail-fast --no-tests=pass -p eidetica-sync \
                 --features http,iroh,test-utils",
                "test --locked --doc -p eidetica-sync --features http,iroh,test-utils",
            ]
        );
        let counted: Vec<bool> = iroh
            .steps(Harness::Nextest)
            .iter()
            .map(|s| s.tests)
            .collect();
        assert_eq!(counted, [false, false, true, true]);
        assert_eq!(
            lines(iroh, Harness::CargoTest)[2],
            "test --locked --no-fail-fast -p eidetica-sync --features http,iroh,test-utils"
        );
    }

    #[test]
    fn programs_are_checked_where_their_features_are_on() {
        let check = &lines(row("eidetica-sync:cli"), Harness::Nextest)[0];
        assert_eq!(
            check,
            "check --locked -p eidetica-sync --lib --bins --features cli"
        );
    }

    #[test]
    fn a_program_without_a_library_has_no_doc_tests() {
        assert!(
            !lines(row("xtask"), Harness::Nextest)
                .iter()
                .any(|line| line.contains("--doc"))
        );
    }

    #[test]
    fn members_and_features_without_a_row_are_told() {
        let package = |name: &str, features: serde_json::Value| {
            serde_json::json!({
                "id": name, "name": name, "targets": [], "dependencies": [], "features": features,
            })
        };
        let metadata = serde_json::json!({
            "workspace_members": ["eidetica-dag", "extra"],
            "packages": [
                package("eidetica-dag", serde_json::json!({"default": [], "fast": []})),
                package("extra", serde_json::json!({})),
                package("serde", serde_json::json!({"derive": []})),
            ],
            "resolve": {"nodes": []},
        });
        let gaps = gaps(&Graph::from_metadata(&metadata).unwrap());
        assert!(
            gaps.contains(&"no row tests eidetica-dag with fast".into()),
            "{gaps:?}"
        );
        assert!(gaps.contains(&"no row tests extra".into()), "{gaps:?}");
        assert!(
            gaps.contains(&"xtask has a row and is no member".into()),
            "{gaps:?}"
        );
        assert!(!gaps.iter().any(|gap| gap.contains("serde")), "{gaps:?}");
    }

    #[test]
    fn every_member_and_each_of_its_features_stands_in_a_row() {
        assert_eq!(gaps(&Graph::load().unwrap()), [""; 0]);
    }
}
