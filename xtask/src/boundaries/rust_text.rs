//! Just enough of Rust's grammar to tell code from comments, literals and tests, and to list the
//! paths that the code names.

use std::collections::BTreeSet;

/// Rust source with comments, the contents of literals and test-only items replaced by spaces.
/// Lines stay where they are.
pub struct Code {
    chars: Vec<char>,
    /// Names of modules in other files that exist in tests only.
    pub test_modules: BTreeSet<String>,
    /// Whether the whole file exists in tests only.
    pub tests_only: bool,
}

/// A path in the code, such as `std::fs::File`, and the line it starts on.
#[derive(Debug, PartialEq)]
pub struct NamedPath {
    pub line: usize,
    pub segments: Vec<String>,
}

impl Code {
    /// Reads one source file.
    pub fn new(source: &str) -> Code {
        let mut chars: Vec<char> = source.chars().collect();
        blank_comments_and_literals(&mut chars);
        let mut code = Code {
            chars,
            test_modules: BTreeSet::new(),
            tests_only: false,
        };
        code.blank_tests();
        code
    }

    /// Returns every path that the code names. Those of a `use` are spelled out one by one, since
    /// `use std::{fs, net}` names `std::fs` as well.
    pub fn paths(&self) -> Vec<NamedPath> {
        let mut paths = vec![];
        let mut at = 0;
        let mut line = 1;
        let mut counted = 0;
        while at < self.chars.len() {
            if !starts_word(&self.chars, at) {
                at += 1;
                continue;
            }
            line += self.chars[counted..at]
                .iter()
                .filter(|c| **c == '\n')
                .count();
            counted = at;
            let (segments, next) = read_path(&self.chars, at);
            at = next;
            if segments == ["use"] {
                let end = position(&self.chars, at, |c| c == ';');
                let mut spelled = vec![];
                spell_use(&self.chars[at..end], &[], &mut spelled);
                paths.extend(
                    spelled
                        .into_iter()
                        .map(|segments| NamedPath { line, segments }),
                );
                at = end;
            } else {
                paths.push(NamedPath { line, segments });
            }
        }
        paths
    }

    fn blank_tests(&mut self) {
        let mut at = 0;
        while at < self.chars.len() {
            if self.chars[at] != '#' {
                at += 1;
                continue;
            }
            let inner = self.chars.get(at + 1) == Some(&'!');
            let open = at + 1 + usize::from(inner);
            if self.chars.get(open) != Some(&'[') {
                at += 1;
                continue;
            }
            let close = matching(&self.chars, open);
            let attribute: String = self.chars[open..close]
                .iter()
                .filter(|c| !c.is_whitespace())
                .collect();
            let for_tests =
                attribute.starts_with("[cfg(test)]") || attribute.starts_with("[cfg(all(test,");
            if for_tests && inner {
                self.tests_only = true;
            } else if for_tests {
                let end = item_end(&self.chars, close);
                self.note_test_module(close, end);
                blank(&mut self.chars[at..end]);
                at = end;
                continue;
            }
            at = close;
        }
    }

    /// Notes the name if the item is `mod name;`.
    fn note_test_module(&mut self, from: usize, to: usize) {
        let item: String = self.chars[from..to].iter().collect();
        let Some(head) = item.trim_end().strip_suffix(';') else {
            return;
        };
        let mut words = head.split_whitespace().rev();
        if let (Some(name), Some("mod")) = (words.next(), words.next()) {
            self.test_modules.insert(name.into());
        }
    }
}

fn blank(chars: &mut [char]) {
    for c in chars.iter_mut().filter(|c| **c != '\n') {
        *c = ' ';
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts_word(chars: &[char], at: usize) -> bool {
    let first = chars[at];
    (first.is_alphabetic() || first == '_') && !(at > 0 && is_word(chars[at - 1]))
}

/// Returns the first position from `at` that `wanted` accepts, or the end.
fn position(chars: &[char], at: usize, wanted: impl Fn(char) -> bool) -> usize {
    let found = chars
        .get(at..)
        .and_then(|rest| rest.iter().position(|c| wanted(*c)));
    found.map_or(chars.len(), |offset| at + offset)
}

/// Returns the position behind the bracket that closes the one at `open`.
fn matching(chars: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in chars[open..].iter().enumerate() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    chars.len()
}

/// Returns where the item that starts at `at` ends: behind its block or its semicolon. Something
/// smaller, such as a field or an argument, ends before the next comma or closing bracket.
fn item_end(chars: &[char], mut at: usize) -> usize {
    const ITEMS: &[&str] = &[
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "pub",
        "static",
        "struct",
        "trait",
        "type",
        "union",
        "unsafe",
        "use",
    ];
    let mut item = None;
    while at < chars.len() {
        if item.is_none() && starts_word(chars, at) {
            let word: String = chars[at..position(chars, at, |c| !is_word(c))]
                .iter()
                .collect();
            item = Some(ITEMS.contains(&word.as_str()));
        }
        match chars[at] {
            ';' => return at + 1,
            '{' if item.is_some() => {
                let end = matching(chars, at);
                // `use a::{b, c};` and `const A: B = B { … };` go on behind the block.
                let next = position(chars, end, |c| !c.is_whitespace());
                return if chars.get(next) == Some(&';') {
                    next + 1
                } else {
                    end
                };
            }
            '(' | '[' => {
                at = matching(chars, at);
                continue;
            }
            ',' if item == Some(false) => return at,
            ')' | ']' | '}' => return at,
            _ => at += 1,
        }
    }
    at
}

/// Reads the path that starts at `at`, and returns its segments and the position behind it.
fn read_path(chars: &[char], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![];
    loop {
        let end = position(chars, at, |c| !is_word(c));
        segments.push(chars[at..end].iter().collect());
        let goes_on = chars.get(end) == Some(&':')
            && chars.get(end + 1) == Some(&':')
            && end + 2 < chars.len()
            && starts_word(chars, end + 2);
        if !goes_on {
            return (segments, end);
        }
        at = end + 2;
    }
}

/// Spells out the paths of a `use` tree.
fn spell_use(tree: &[char], prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut branch: Vec<String> = prefix.to_vec();
    let mut spelled = false;
    let mut at = 0;
    while at < tree.len() {
        if tree[at] == '{' {
            let end = matching(tree, at);
            spell_use(&tree[at + 1..end.saturating_sub(1)], &branch, paths);
            spelled = true;
            at = end;
        } else if tree[at] == ',' {
            if !spelled {
                paths.push(branch);
            }
            branch = prefix.to_vec();
            spelled = false;
            at += 1;
        } else if starts_word(tree, at) {
            let (segments, end) = read_path(tree, at);
            at = end;
            if segments == ["as"] {
                // The name behind it is a local one.
                at = position(tree, at, |c| c == ',' || c == '}');
            } else if segments != ["self"] || branch.is_empty() {
                branch.extend(segments);
            }
        } else {
            at += 1;
        }
    }
    if !spelled && branch.len() > prefix.len() {
        paths.push(branch);
    }
}

fn blank_comments_and_literals(chars: &mut [char]) {
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => position(chars, at, |c| c == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(chars, at),
            '"' => string_end(chars, at),
            '\'' => char_end(chars, at),
            'r' => raw_string_end(chars, at),
            _ => at,
        };
        blank(&mut chars[at..end]);
        at = end.max(at + 1);
    }
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], open: usize) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Returns the end of a character literal, or `open` for a lifetime.
fn char_end(chars: &[char], open: usize) -> usize {
    if chars.get(open + 1) == Some(&'\\') {
        return (position(chars, open + 3, |c| c == '\'') + 1).min(chars.len());
    }
    if chars.get(open + 2) == Some(&'\'') {
        open + 3
    } else {
        open
    }
}

/// Returns the end of a raw string, or `start` if none starts there.
fn raw_string_end(chars: &[char], start: usize) -> usize {
    // In `br"…"` and `cr"…"` a letter stands before it; in `for"` or `var` it is a word's end.
    let before = |back: usize| start.checked_sub(back).map(|at| chars[at]);
    let prefix = matches!(before(1), Some('b' | 'c')) && !before(2).is_some_and(is_word);
    if before(1).is_some_and(is_word) && !prefix {
        return start;
    }
    let quote = position(chars, start + 1, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return start;
    }
    let hashes = quote - start - 1;
    let mut at = quote + 1;
    loop {
        at = position(chars, at, |c| c == '"');
        let closing = chars.iter().skip(at + 1).take_while(|c| **c == '#').count();
        if closing >= hashes || at >= chars.len() {
            return (at + 1 + hashes).min(chars.len());
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        Code::new(source)
            .paths()
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let source = r##"
            // std::fs
            /* a /* nested */ std::fs */
            /// std::fs
            x("std::fs \" std::fs", r#"std::fs " std::fs"#, b"std::fs", br"\", 'c', '"', '\'', 'a');
            fn f<'a>(y: &'a str) {}
        "##;
        assert_eq!(
            paths(source),
            ["x", "b", "b", "fn", "f", "a", "y", "a", "str"]
        );
    }

    #[test]
    fn use_trees_are_spelled_out() {
        assert_eq!(
            paths("pub use std::{fs::{self, File as F}, net::TcpStream, io};\nuse a as b;\nx::y()"),
            [
                "pub",
                "std::fs",
                "std::fs::File",
                "std::net::TcpStream",
                "std::io",
                "a",
                "x::y"
            ]
        );
        assert_eq!(paths("use {std::fs, tokio::*};"), ["std::fs", "tokio"]);
    }

    #[test]
    fn lines_are_counted() {
        let found = Code::new("a\n/* \n */ b::c\n\nuse d::{\n    e,\n};\nf").paths();
        let lines: Vec<usize> = found.iter().map(|path| path.line).collect();
        assert_eq!(lines, [1, 3, 5, 8]);
    }

    #[test]
    fn test_only_code_is_left_out_and_nothing_else() {
        let source = "
            #[cfg(test)]
            #[expect(x)]
            mod tests { use a::{b}; fn c() { d } }
            #[cfg(test)]
            use e::{f, g};
            #[cfg(all(test, unix))]
            fn h(i: [u8; 3]) -> J { k }
            struct L { #[cfg(test)] m: N, o: P }
            #[cfg(any(test, feature = \"q\"))]
            fn r() {}
        ";
        assert_eq!(
            paths(source),
            [
                "struct", "L", "o", "P", "cfg", "any", "test", "feature", "fn", "r"
            ]
        );
    }

    #[test]
    fn test_modules_in_other_files_are_noted() {
        let code = Code::new("#[cfg(test)]\npub(crate) mod oracle;\nmod real;\n");
        assert_eq!(code.test_modules, BTreeSet::from(["oracle".to_string()]));
        assert!(!code.tests_only);
        assert!(Code::new("//! Oracles.\n#![cfg(test)]\n").tests_only);
    }
}
