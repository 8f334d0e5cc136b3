//! The rows of the matrix, and the commands that each of them runs.
//!
//! Rows go from small to large, so that most mistakes show within seconds. Packages are built one at
//! a time because cargo unites the features of everything that it builds at once: a crate that
//! forgot to ask for a feature of tokio would borrow it from its neighbour.
//!
//! Each set of features is linted, which compiles the library as users build it. Tests run only with
//! the sets that add tests: a smaller set runs a part of the same tests on the same code, at the cost
//! of another build of every dependency.

use cargo_metadata::Metadata;

use crate::workspace;

/// One row: a name, and what it does.
pub struct Row {
    /// What `--row` takes and the log file carries.
    pub name: String,
    pub work: Work,
    /// The package and the features that the row covers, if it is about one.
    covers: Option<(&'static str, Vec<&'static str>)>,
}

/// What a row does.
pub enum Work {
    /// Checks the rules of the `boundaries` module, and that rows cover every feature.
    Boundaries,
    /// Checks licences, sources and bans.
    Dependencies,
    /// Calls cargo, in this order.
    Steps(Vec<Step>),
    /// Cannot run here, and why.
    Skip(&'static str),
}

/// One call of cargo.
#[derive(Debug, PartialEq)]
pub enum Step {
    Plain(String),
    /// Rustdoc with warnings denied.
    Doc(String),
    /// The tests of a package: its selection and features.
    Tests(String),
    /// The same for tests in documentation.
    DocTests(String),
}

/// Returns every row, in the order they run.
pub fn rows() -> Vec<Row> {
    vec![
        plain("fmt", "fmt --all --check"),
        row("boundaries", Work::Boundaries),
        row("dependencies", Work::Dependencies),
        program("xtask-support"),
        program("xtask"),
        lint("eidetica-dag", &[], &[]),
        test("eidetica-dag", &["test-utils"], &[], true),
        lint("eidetica-proto", &[], &[]),
        test("eidetica-proto", &["test-utils"], &[], true),
        test("eidetica-proto", &["zstd"], &["test-utils"], false),
        wasm(),
        lint("eidetica-transport-http", &[], &[]),
        test("eidetica-transport-http", &["tls"], &[], false),
        lint("eidetica-sync", &["http"], &["test-utils"]),
        lint("eidetica-sync", &["tls"], &["test-utils"]),
        lint("eidetica-sync", &["redb"], &["test-utils"]),
        test("eidetica-sync", &[], &["test-utils"], false),
        test("eidetica-transport-iroh", &[], &[], true),
        lint("eidetica-sync", &["iroh"], &["test-utils"]),
        lint("eidetica-sync", &["http", "iroh"], &["test-utils"]),
        // `cli` enables the other four: with the test helpers, this is everything.
        test("eidetica-sync", &["cli"], &["test-utils"], true),
        program("eidetica-replicas"),
        program("eidetica-bench"),
        plain(
            "clippy",
            "clippy --locked --workspace --all-targets --all-features -- -D warnings",
        ),
        row(
            "docs",
            Work::Steps(vec![Step::Doc(
                "doc --locked --workspace --all-features --no-deps".into(),
            )]),
        ),
    ]
}

fn row(name: &str, work: Work) -> Row {
    Row {
        name: name.into(),
        work,
        covers: None,
    }
}

fn plain(name: &str, line: &str) -> Row {
    row(name, Work::Steps(vec![Step::Plain(line.into())]))
}

/// A crate that is not published: the workspace's row lints it, so this one only tests it.
fn program(package: &'static str) -> Row {
    let steps = vec![Step::Tests(format!("-p {package}"))];
    Row {
        name: package.into(),
        work: Work::Steps(steps),
        covers: Some((package, vec![])),
    }
}

/// Lints a library as users build it, and its tests with the features that they need in addition.
///
/// Tests alone would not do: their dev-dependencies enable features that hide a missing `cfg` or a
/// missing feature of a dependency.
fn lint(package: &'static str, features: &[&'static str], test_features: &[&'static str]) -> Row {
    let name = match features {
        [] => format!("{package}:none"),
        features => format!("{package}:{}", features.join("+")),
    };
    let clippy = |targets: &str, features: &[&str]| {
        let features = feature_args(features);
        Step::Plain(format!(
            "clippy --locked -p {package} {targets}{features} -- -D warnings"
        ))
    };
    let bins = if features.contains(&"cli") {
        "--lib --bins"
    } else {
        "--lib"
    };
    let mut steps = vec![clippy(bins, features)];
    let all = [features, test_features].concat();
    if !test_features.is_empty() {
        steps.push(clippy("--tests", &all));
    }
    Row {
        name,
        work: Work::Steps(steps),
        covers: Some((package, all)),
    }
}

/// Lints a library, and runs its tests. The last row of the workspace lints the tests.
fn test(
    package: &'static str,
    features: &[&'static str],
    test_features: &[&'static str],
    doc_tests: bool,
) -> Row {
    let mut row = lint(package, features, &[]);
    let all = [features, test_features].concat();
    let selection = format!("-p {package}{}", feature_args(&all));
    if let Work::Steps(steps) = &mut row.work {
        steps.push(Step::Tests(selection.clone()));
        if doc_tests {
            steps.push(Step::DocTests(selection));
        }
    }
    Row {
        covers: Some((package, all)),
        ..row
    }
}

/// Checks the pure crates for a platform without threads, clocks or files.
fn wasm() -> Row {
    const TARGET: &str = "wasm32-unknown-unknown";
    let check = format!("check --locked --target {TARGET} --lib -p eidetica-dag -p eidetica-proto");
    let work = match workspace::has_target(TARGET) {
        true => Work::Steps(vec![Step::Plain(check)]),
        false => Work::Skip("run `rustup target add wasm32-unknown-unknown` to check for it"),
    };
    row("wasm", work)
}

fn feature_args(features: &[&str]) -> String {
    match features {
        [] => String::new(),
        features => format!(" --features {}", features.join(",")),
    }
}

impl Step {
    /// Returns the arguments of cargo.
    pub fn line(&self, nextest: bool) -> String {
        match self {
            Self::Plain(line) | Self::Doc(line) => line.clone(),
            // A package without tests is fine in itself; the whole run must count some.
            Self::Tests(selection) if nextest => {
                format!("nextest run --locked --no-fail-fast --no-tests=pass {selection}")
            }
            Self::Tests(selection) => {
                format!("test --locked --no-fail-fast --lib --bins --tests {selection}")
            }
            Self::DocTests(selection) => format!("test --locked --doc {selection}"),
        }
    }

    /// Returns whether the output ends in a count of tests.
    pub fn counts(&self) -> bool {
        matches!(self, Self::Tests(_) | Self::DocTests(_))
    }
}

/// Returns the members of the workspace and their features that no row covers.
pub fn gaps(metadata: &Metadata) -> Vec<String> {
    let covered: Vec<_> = rows().into_iter().filter_map(|row| row.covers).collect();
    let mut gaps = vec![];
    for member in metadata.workspace_packages() {
        let of: Vec<_> = covered
            .iter()
            .filter(|(name, _)| *name == member.name.as_str())
            .collect();
        if of.is_empty() {
            gaps.push(format!("no row covers {}", member.name));
        }
        for feature in member
            .features
            .keys()
            .filter(|feature| *feature != "default")
        {
            if !of
                .iter()
                .any(|(_, features)| features.contains(&feature.as_str()))
            {
                gaps.push(format!("no row covers {} with {feature}", member.name));
            }
        }
    }
    let is_member = |name: &str| {
        metadata
            .workspace_packages()
            .iter()
            .any(|it| it.name.as_str() == name)
    };
    let strangers = covered.iter().filter(|(name, _)| !is_member(name));
    gaps.extend(strangers.map(|(name, _)| format!("{name} has a row and is no member")));
    gaps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::boundaries;

    fn lines(name: &str, nextest: bool) -> Vec<String> {
        let row = rows()
            .into_iter()
            .find(|row| row.name == name)
            .expect("a row of the matrix");
        match row.work {
            Work::Steps(steps) => steps.iter().map(|step| step.line(nextest)).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<String> = rows().into_iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().len());
    }

    #[test]
    fn a_set_of_features_is_linted_and_the_largest_is_tested() {
        assert_eq!(
            lines("eidetica-sync:http+iroh", true),
            [
                "clippy --locked -p eidetica-sync --lib --features http,iroh -- -D warnings",
                "clippy --locked -p eidetica-sync --tests --features http,iroh,test-utils -- -D warnings",
            ]
        );
        let all = [
            "clippy --locked -p eidetica-sync --lib --bins --features cli -- -D warnings",
            "nextest run --locked --no-fail-fast --no-tests=pass -p eidetica-sync --features cli,test-utils",
            "test --locked --doc -p eidetica-sync --features cli,test-utils",
        ];
        assert_eq!(lines("eidetica-sync:cli", true), all);
        assert!(lines("eidetica-sync:cli", false)[1].starts_with("test --locked --no-fail-fast"));
    }

    #[test]
    fn members_and_features_without_a_row_are_reported() {
        let features = json!({"eidetica-dag": {"default": [], "fast": []}});
        let metadata = boundaries::tests::draw(&["eidetica-dag -> serde"], features);
        assert_eq!(gaps(&metadata), ["no row covers eidetica-dag with fast"]);
        let mut metadata = metadata;
        let is_serde = |it: &&cargo_metadata::Package| it.name.as_str() == "serde";
        let serde = metadata
            .packages
            .iter()
            .find(is_serde)
            .expect("it was drawn")
            .id
            .clone();
        metadata.workspace_members = vec![serde];
        let gaps = gaps(&metadata);
        assert!(gaps.contains(&"no row covers serde".into()), "{gaps:?}");
        assert!(
            gaps.contains(&"xtask has a row and is no member".into()),
            "{gaps:?}"
        );
    }

    #[test]
    fn every_member_and_each_of_its_features_has_a_row() {
        assert_eq!(gaps(&workspace::metadata().unwrap()), [""; 0]);
    }
}
