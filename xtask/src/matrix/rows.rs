//! The rows of the matrix, and the calls of cargo that make up each of them.
//!
//! Rows go from small to large, so that most mistakes show within seconds. Packages are built one at
//! a time because cargo unites the features of everything that it builds at once: a crate that
//! forgot to ask for a feature of tokio would borrow it from its neighbour.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use xtask_support::output;

use crate::workspace;

/// One row of the matrix.
pub struct Row {
    /// What `--row` takes and the log file carries.
    pub name: String,
    /// Run in this order, up to the first that fails.
    pub steps: Vec<Step>,
    /// Why the row cannot run on this machine.
    pub skipped: Option<&'static str>,
}

/// One step of a row; the text holds arguments of cargo.
#[derive(Debug, PartialEq)]
pub enum Step {
    Cargo(String),
    /// The tests of a selection of packages and features.
    Tests(String),
    /// The ignored tests of a selection whose names contain a text: what they need is not everywhere.
    IgnoredTests(String, &'static str),
    /// The same for tests in documentation.
    DocTests(String),
    /// The rules of the `boundaries` module.
    Boundaries,
}

/// What a row does with a package and a set of features.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Lints the library as users build it, and its tests if they need further features.
    Lint,
    /// Lints the library and runs its tests. The last row of the workspace lints the tests.
    Test,
    /// The same, with the tests in its documentation.
    TestDocs,
    /// Runs the tests of a crate that is not published. The last row lints it.
    Program,
}
use Work::{Lint, Program, Test, TestDocs};

/// Every package with every meaningful set of features: the package, the features, and the features
/// that its tests need in addition.
///
/// Tests run only with the sets that add tests: a smaller set runs a part of the same tests on the
/// same code, at the cost of another build of every dependency.
const PACKAGES: &[(&str, &str, &str, Work)] = &[
    ("xtask-support", "", "", Program),
    ("xtask", "", "", Program),
    ("eidetica-dag", "", "", Lint),
    ("eidetica-dag", "test-utils", "", TestDocs),
    ("eidetica-proto", "", "test-utils", Lint),
    // Its tests compare both decoders.
    ("eidetica-proto", "zstd", "test-utils", TestDocs),
    ("eidetica-transport-http", "", "", Lint),
    ("eidetica-transport-http", "tls", "", TestDocs),
    ("eidetica-sync", "http", "test-utils", Lint),
    ("eidetica-sync", "tls", "test-utils", Lint),
    ("eidetica-sync", "redb", "test-utils", Lint),
    ("eidetica-sync", "postgres", "test-utils", Lint),
    ("eidetica-sync", "metrics", "test-utils", Lint),
    ("eidetica-sync", "", "test-utils", Test),
    ("eidetica-transport-iroh", "", "", Lint),
    ("eidetica-transport-iroh", "mdns", "", TestDocs),
    ("eidetica-sync", "iroh", "test-utils", Lint),
    ("eidetica-sync", "mdns", "test-utils", Lint),
    ("eidetica-sync", "http,iroh", "test-utils", Lint),
    // `cli` enables the others: with the test helpers, this is everything.
    ("eidetica-sync", "cli", "test-utils", TestDocs),
    ("eidetica-replicas", "", "", Program),
    ("eidetica-bench", "", "", Program),
    ("eidetica-sim", "", "", Program),
];

/// The row of tests that start PostgreSQL. It reuses the build of the row with everything.
const POSTGRES: &str = "postgres";

/// A platform without threads, clocks or files.
const WASM: &str = "wasm32-unknown-unknown";

/// Duplicates are decided by dependencies and only warned of: they would hide errors.
const DENY: &str = "deny --locked --offline --log-level error check";

/// Returns every row, in the order they run.
pub fn rows() -> Vec<Row> {
    let cargo = |name: &str, line: String| row(name, vec![Step::Cargo(line)]);
    let pure = "--lib -p eidetica-dag -p eidetica-proto";
    let everything = "--locked --workspace --all-targets --all-features";
    let mut rows = vec![
        cargo("fmt", "fmt --all --check".into()),
        row("boundaries", vec![Step::Boundaries]),
        cargo("dependencies", format!("{DENY} bans licenses sources")),
        cargo("advisories", format!("{DENY} --disable-fetch advisories")),
        cargo("wasm", format!("check --locked --target {WASM} {pure}")),
    ];
    for package in PACKAGES {
        rows.push(package_row(package));
        if package.1 == "cli" {
            let everything = "-p eidetica-sync --features cli,test-utils".into();
            rows.push(row(
                POSTGRES,
                vec![Step::IgnoredTests(everything, POSTGRES)],
            ));
        }
    }
    rows.push(cargo(
        "clippy",
        format!("clippy {everything} -- -D warnings"),
    ));
    rows.push(cargo(
        "docs",
        "doc --locked --workspace --all-features --no-deps".into(),
    ));

    let has_deny = output(workspace::cargo().args(["deny", "--version"])).is_ok();
    // It reads the crates of every platform; a build downloads those of its own platform only.
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    let has_crates = output(&mut metadata).is_ok();
    // Only from a copy that is there: the matrix must not depend on the network.
    let has_advisories = env::home_dir().is_some_and(|it| it.join(".cargo/advisory-dbs").is_dir());
    for row in &mut rows {
        row.skipped = match row.name.as_str() {
            "dependencies" | "advisories" if !has_deny => {
                Some("cargo-deny is not installed; run `cargo install --locked cargo-deny`")
            }
            "dependencies" | "advisories" if !has_crates => {
                Some("crates of other platforms are not here; run `cargo fetch --locked`")
            }
            "advisories" if !has_advisories => Some("no local copy; run `cargo deny fetch`"),
            POSTGRES if !has_postgres() => Some(
                "PostgreSQL or PgBouncer is not installed; run `apt-get install postgresql pgbouncer`",
            ),
            "wasm" if !workspace::has_target(WASM) => {
                Some("no standard library; run `rustup target add wasm32-unknown-unknown`")
            }
            _ => None,
        };
    }
    rows
}

/// Tells whether the programs of a PostgreSQL server and of PgBouncer are where the tests look for them.
fn has_postgres() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut servers = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .chain(folders.iter().cloned());
    let mut poolers = folders.iter().cloned().chain(["/usr/sbin".into()]);
    servers.any(|folder| folder.join("initdb").is_file())
        && poolers.any(|folder| folder.join("pgbouncer").is_file())
}

fn row(name: &str, steps: Vec<Step>) -> Row {
    let (name, skipped) = (name.into(), None);
    Row {
        name,
        steps,
        skipped,
    }
}

fn package_row(&(package, features, test_features, work): &(&str, &str, &str, Work)) -> Row {
    let with = |features: &str| match features {
        "" => format!("-p {package}"),
        features => format!("-p {package} --features {features}"),
    };
    let all = match features {
        "" => test_features.into(),
        features => format!("{features},{test_features}"),
    };
    let all = with(all.trim_end_matches(','));
    let clippy = |selection: &str, targets: &str| {
        Step::Cargo(format!(
            "clippy --locked {selection} {targets} -- -D warnings"
        ))
    };
    // Linting tests alone would not do: their dev-dependencies enable features that hide a missing
    // `cfg` or a missing feature of a dependency.
    let lib = clippy(
        &with(features),
        if features == "cli" {
            "--lib --bins"
        } else {
            "--lib"
        },
    );
    let steps = match work {
        Lint if test_features.is_empty() => vec![lib],
        Lint => vec![lib, clippy(&all, "--tests")],
        Test => vec![lib, Step::Tests(all)],
        TestDocs => vec![lib, Step::Tests(all.clone()), Step::DocTests(all)],
        Program => vec![Step::Tests(all)],
    };
    match (work, features) {
        (Program, _) => row(package, steps),
        (_, "") => row(&format!("{package}:none"), steps),
        (_, features) => row(&format!("{package}:{}", features.replace(',', "+")), steps),
    }
}

impl Step {
    /// Returns the arguments of cargo, or `None` for a step that is not a call of cargo.
    pub fn line(&self, nextest: bool) -> Option<String> {
        Some(match self {
            Self::Boundaries => return None,
            Self::Cargo(line) => line.clone(),
            // A package without tests is fine in itself; the whole run must count some.
            Self::Tests(selection) if nextest => {
                format!("nextest run --locked --no-fail-fast --no-tests=pass {selection}")
            }
            Self::Tests(selection) => {
                format!("test --locked --no-fail-fast --lib --bins --tests {selection}")
            }
            Self::IgnoredTests(selection, name) if nextest => {
                format!(
                    "nextest run --locked --no-fail-fast --run-ignored only -E test({name}) {selection}"
                )
            }
            Self::IgnoredTests(selection, name) => {
                format!(
                    "test --locked --no-fail-fast --lib --bins --tests {selection} -- --ignored {name}"
                )
            }
            Self::DocTests(selection) => format!("test --locked --doc {selection}"),
        })
    }

    /// Returns whether the output ends in a count of tests.
    pub fn counts(&self) -> bool {
        matches!(
            self,
            Self::Tests(_) | Self::IgnoredTests(..) | Self::DocTests(_)
        )
    }
}

/// Returns the members of the workspace, and their features, that no row covers.
pub fn gaps(members: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let mut gaps = vec![];
    for (member, features) in members {
        let rows: Vec<_> = PACKAGES.iter().filter(|row| row.0 == *member).collect();
        if rows.is_empty() {
            gaps.push(format!("no row covers {member}"));
        }
        for feature in features {
            let has = |row: &&(_, &str, &str, _)| format!("{},{}", row.1, row.2);
            if !rows
                .iter()
                .any(|row| has(row).split(',').any(|it| it == *feature))
            {
                gaps.push(format!("no row covers {member} with {feature}"));
            }
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_features_without_a_row_are_reported() {
        let members = [
            ("eidetica-dag", ["fast", "test-utils"].into()),
            ("other", [].into()),
        ];
        let expected = [
            "no row covers eidetica-dag with fast",
            "no row covers other",
        ];
        assert_eq!(gaps(&members.into()), expected);
    }
}
