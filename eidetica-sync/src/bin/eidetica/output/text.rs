//! Text for people: safe for a terminal, counted, dated.

use std::borrow::Cow;
use std::path::Path;

use jiff::Timestamp;

/// Returns text from elsewhere on one line, without anything that would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// Tells whether a character changes what the text around it looks like, or cannot be seen: control
/// characters, those that break a line or turn the direction of text, and those without a width, with
/// which one name imitates another.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a path on one line, without anything that would steer a terminal.
pub(crate) fn path(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Returns one line of text from elsewhere, at most `chars_max` characters of it.
pub(crate) fn first_line(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(chars_max).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    one_line(&cut)
}

/// Leaves out the middle of text that has more than `chars_max` characters.
pub(crate) fn shorten(text: &str, chars_max: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= chars_max {
        return text.into();
    }
    let half = chars_max / 2;
    let start = text.chars().take(half);
    let end = text.chars().skip(count - half);
    start.chain(['…']).chain(end).collect::<String>().into()
}

/// Returns a number of things: `1 entry`, `2 entries`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Returns a number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// Returns a time in milliseconds since 1970 as date and time of day in UTC.
pub(crate) fn utc(timestamp_ms: u64) -> String {
    let ms = i64::try_from(timestamp_ms).ok();
    let time = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time.strftime("%F %T").to_string(),
        // Authors claim any time they like; this takes as much room in a column as a date.
        None => "after the year 9999".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date -u -d … '+%F %T'` gives them.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_790_000_000, "2026-09-21 14:13:20"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1_000 + 999), text);
        }
        for beyond in [253_402_300_800_000, u64::MAX] {
            assert_eq!(utc(beyond), "after the year 9999");
        }
    }

    #[test]
    fn nothing_from_elsewhere_steers_a_terminal() {
        let text = "a\u{1b}[2J\r\nb\u{85}\u{202e}c\u{2028}ü";
        let line = "a\\u{1b}[2J\\r\\nb\\u{85}\\u{202e}c\\u{2028}ü";
        assert_eq!(one_line(text), line);
        for hidden in "\u{ad}\u{200b}\u{200d}\u{2060}\u{feff}\u{e0041}\u{fe0f}\u{9b}".chars() {
            let shown = one_line(&format!("notes{hidden}"));
            assert!(
                shown.is_ascii() && shown.starts_with("notes\\u{"),
                "{shown}"
            );
        }
        for plain in ["naïve", "日本語", "a\\b", "👍", "\u{301}"] {
            assert_eq!(one_line(plain), plain);
        }
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        assert_eq!(first_line("grün\nrot", 4), "grün");
        assert_eq!(first_line("grüner", 4), "grün…");
        assert_eq!(first_line("a\tb\r\nc", 9), "a\\tb");
        assert_eq!(first_line("", 9), "");
    }
}
