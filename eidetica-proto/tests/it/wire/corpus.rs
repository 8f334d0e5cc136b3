//! The fuzz targets on the inputs that are kept: seeds, what fuzzers found interesting, and what
//! once broke a promise.

use std::fs;
use std::path::Path;

use eidetica_dag::testing::Random;
use eidetica_dag::testing::fuzz::{CorpusFile, Input, replay};
use eidetica_proto::testing::fuzz::TARGETS;

#[expect(clippy::disallowed_methods, reason = "the corpus is a folder of files")]
fn corpus() -> Vec<CorpusFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("the folder of the corpora");
        let entry = |entry: Result<fs::DirEntry, _>| entry.expect("an entry of a folder");
        let mut entries: Vec<_> = entries.map(entry).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        entries
    };
    let text = |name: std::ffi::OsString| name.into_string().expect("a name in UTF-8");
    let mut files = Vec::new();
    for folder in list(&root) {
        for file in list(&folder.path()) {
            files.push(CorpusFile {
                target: text(folder.file_name()),
                name: text(file.file_name()),
                bytes: fs::read(file.path()).expect("a file of a corpus"),
            });
        }
    }
    files
}

#[test]
fn every_target_holds_on_its_corpus() {
    replay(TARGETS, &corpus());
}

#[test]
fn what_seeds_are_made_from_is_understood() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            assert!((target.check)(seed), "{}, seed {number}", target.name);
        }
    }
}

/// A small fuzzer, for machines without one: genuine inputs with a few edits, the same ones each
/// time.
#[test]
fn every_target_holds_on_edited_seeds() {
    const EDITED: u32 = 40;
    for target in TARGETS {
        let mut random = Random::new(target.name.len() as u64);
        for seed in (target.seeds)() {
            for _ in 0..EDITED {
                let edits: Vec<u8> = (0..12).map(|_| random.next_u64() as u8).collect();
                let mut edited = seed.clone();
                Input::new(&edits).edit(&mut edited);
                (target.check)(&edited);
            }
        }
    }
}
