//! The rules that a crate's code can break by what it names.

use std::fs;
use std::path::{Path, PathBuf};

use super::Violation;
use super::rules::{CrateRule, Pattern};
use super::rust_text::{Code, NamedPath};
use crate::workspace;

/// Returns every rule that the code in a crate's source folder breaks, tests apart.
pub fn check_folder(rule: &CrateRule, folder: &Path) -> Result<Vec<Violation>, String> {
    let mut files = vec![];
    collect(folder, &mut files)?;
    files.sort();
    let sources: Vec<(PathBuf, Code)> = files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            let shown = file
                .strip_prefix(workspace::root())
                .unwrap_or(&file)
                .to_path_buf();
            Ok((shown, Code::new(&text)))
        })
        .collect::<Result<_, String>>()?;
    if sources.is_empty() {
        return Err(format!("{} holds no sources", folder.display()));
    }
    Ok(check(rule, &sources))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let wrong = |error| format!("cannot list {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check(rule: &CrateRule, sources: &[(PathBuf, Code)]) -> Vec<Violation> {
    // What belongs to a test-only module, without extension: `src/oracle` also covers its folder.
    let test_modules: Vec<PathBuf> = sources
        .iter()
        .flat_map(|(file, code)| {
            code.test_modules
                .iter()
                .map(|name| submodules_folder(file).join(name))
        })
        .collect();
    let mut violations = vec![];
    for (file, code) in sources {
        let module = file.with_extension("");
        if code.tests_only || test_modules.iter().any(|tests| module.starts_with(tests)) {
            continue;
        }
        for path in code.paths() {
            for pattern in rule.unnamed.iter().filter(|pattern| pattern.is_in(&path)) {
                let found = format!(
                    "{}:{}: {} must not name {}",
                    file.display(),
                    path.line,
                    rule.name,
                    pattern.shown()
                );
                violations.push(Violation {
                    boundary: rule.boundary.into(),
                    found,
                });
            }
        }
    }
    violations
}

/// Returns the folder in which a module's submodules lie.
fn submodules_folder(file: &Path) -> PathBuf {
    let own_folder = file
        .file_stem()
        .is_some_and(|stem| ["lib", "main", "mod"].iter().any(|root| stem == *root));
    if own_folder {
        file.with_file_name("")
    } else {
        file.with_extension("")
    }
}

impl Pattern {
    fn is_in(&self, path: &NamedPath) -> bool {
        match self {
            Pattern::Segments(segments) => {
                let wanted: Vec<&str> = segments.split("::").collect();
                path.segments
                    .windows(wanted.len())
                    .any(|window| window == wanted)
            }
            Pattern::Crate(name) => path.segments.len() > 1 && path.segments[0] == *name,
        }
    }

    fn shown(&self) -> String {
        match self {
            Pattern::Segments(segments) => (*segments).into(),
            Pattern::Crate(name) => format!("{name}::"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::CRATES;
    use super::*;

    fn found(package: &str, sources: &[(&str, &str)]) -> Vec<String> {
        let rule = CRATES.iter().find(|rule| rule.name == package).unwrap();
        let sources: Vec<_> = sources
            .iter()
            .map(|(file, text)| (PathBuf::from(file), Code::new(text)))
            .collect();
        check(rule, &sources)
            .into_iter()
            .map(|violation| violation.found)
            .collect()
    }

    #[track_caller]
    fn assert_names(package: &str, line: &str, what: &str) {
        let expected = format!("src/a.rs:2: {package} must not name {what}");
        assert_eq!(
            found(package, &[("src/a.rs", &format!("\n{line}"))]),
            [expected]
        );
    }

    #[test]
    fn clocks_random_sources_files_and_sockets_are_found_in_the_pure_crates() {
        for package in ["eidetica-dag", "eidetica-proto"] {
            assert_names(
                package,
                "use std::time::{Duration, SystemTime};",
                "SystemTime",
            );
            assert_names(
                package,
                "let t = std::time::Instant::now();",
                "Instant::now",
            );
            assert_names(package, "let t = Instant::now();", "Instant::now");
            assert_names(package, "use std::{fs, io};", "std::fs");
            assert_names(
                package,
                "let s = std::net::TcpStream::connect(a);",
                "std::net",
            );
            assert_names(package, "std::thread::spawn(f);", "std::thread");
            assert_names(package, "use std::process;", "std::process");
            assert_names(package, "std::env::var(x)", "std::env");
            assert_names(package, "getrandom::fill(&mut seed);", "getrandom::");
            assert_names(package, "use rand::Rng;", "rand::");
            assert_names(package, "let key = new(&mut OsRng);", "OsRng");
        }
    }

    #[test]
    fn async_code_is_found_in_the_dag_and_allowed_above_it() {
        assert_names("eidetica-dag", "async fn f() {}", "async");
        assert_names("eidetica-dag", "let x = f().await;", "await");
        assert_eq!(
            found("eidetica-proto", &[("src/a.rs", "async fn f() {}")]),
            [""; 0]
        );
    }

    #[test]
    fn entries_are_found_in_the_transports() {
        for package in ["eidetica-transport-http", "eidetica-transport-iroh"] {
            assert_names(
                package,
                "use eidetica_proto::eidetica_dag::Entry;",
                "eidetica_dag",
            );
        }
    }

    #[test]
    fn network_libraries_are_found_in_the_top_crate() {
        let package = "eidetica-sync";
        assert_names(
            package,
            "pub fn f(request: hyper::Request<()>) {}",
            "hyper::",
        );
        assert_names(package, "use hyper_util::rt::TokioIo;", "hyper_util::");
        assert_names(package, "pub fn f(endpoint: iroh::Endpoint) {}", "iroh::");
        assert_names(package, "use iroh_tickets::Ticket;", "iroh_tickets::");
        let hidden = "use eidetica_transport_http::hyper::Uri;";
        assert_names(package, hidden, "eidetica_transport_http::hyper");
        let hidden = "pub use eidetica_transport_iroh::{IrohTransport, iroh::Endpoint};";
        assert_names(package, hidden, "eidetica_transport_iroh::iroh");
        let fine = "use eidetica_transport_iroh::IrohTransport; fn iroh(self) { self.iroh }";
        assert_eq!(found(package, &[("src/a.rs", fine)]), [""; 0]);
    }

    #[test]
    fn test_modules_are_left_out_with_everything_under_them() {
        let sources = [
            ("src/lib.rs", "#[cfg(test)] mod oracle; mod real;"),
            ("src/oracle.rs", "use std::fs;"),
            ("src/oracle/deep.rs", "use std::fs;"),
            ("src/real.rs", "#[cfg(test)] mod tests;"),
            ("src/real/tests.rs", "use std::fs;"),
            ("src/real/oracle.rs", "use std::fs;"),
            ("src/whole.rs", "#![cfg(test)]\nuse std::fs;"),
        ];
        let expected = "src/real/oracle.rs:1: eidetica-dag must not name std::fs";
        assert_eq!(found("eidetica-dag", &sources), [expected]);
    }
}
