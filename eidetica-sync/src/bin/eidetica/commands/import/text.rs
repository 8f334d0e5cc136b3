//! Texts and dates of commits, as they are rather than as they should be.

use encoding_rs::Encoding;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Returns the text of bytes that are UTF-8 or in the encoding that the commit names.
///
/// What cannot be decoded becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8], label: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let encoding = Encoding::for_label(label).unwrap_or(encoding_rs::UTF_8);
    let (text, _has_errors) = encoding.decode_without_bom_handling(bytes);
    text.into_owned()
}

/// Drops the first bytes of a character whose other bytes have been cut off.
pub(crate) fn drop_cut_character(bytes: &mut Vec<u8>) {
    let last = bytes.utf8_chunks().last();
    let rest = last.map_or(&[][..], |chunk| chunk.invalid());
    let is_cut = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
    if is_cut {
        bytes.truncate(bytes.len() - rest.len());
    }
}

/// Shortens a text to at most `bytes_max` bytes, at a character. Returns whether it was longer.
pub(crate) fn shorten(text: &mut String, bytes_max: usize) -> bool {
    let is_longer = text.len() > bytes_max;
    text.truncate(text.floor_char_boundary(bytes_max));
    is_longer
}

/// A date that an entry and ISO 8601 can express.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// Milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// The date in the author's time zone.
    pub(crate) text: String,
}

impl Date {
    /// Reads the seconds since 1970, and git's raw date for the time zone (`1700000000 +0100`).
    ///
    /// `None` if the date is absent, before 1970, or after the year 9999. A time zone that does not
    /// exist counts as UTC.
    pub(crate) fn read(seconds: &[u8], raw: &[u8]) -> Option<Self> {
        let seconds: u64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
        let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
        let zone = TimeZone::fixed(offset(raw).unwrap_or(Offset::UTC));
        let text = time.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z");
        Some(Self {
            time_ms: seconds * 1_000,
            text: text.to_string(),
        })
    }
}

/// Reads a time zone as git writes it: hours and minutes in one number.
fn offset(raw: &[u8]) -> Option<Offset> {
    let digits = std::str::from_utf8(raw).ok()?.split_once(' ')?.1;
    let number: i32 = digits.parse().ok()?;
    let minutes = (number / 100).checked_mul(60)?.checked_add(number % 100)?;
    Offset::from_seconds(minutes.checked_mul(60)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_by_its_encoding_or_lossily() {
        for (bytes, label, text) in [
            (&b"plain"[..], "", "plain"),
            ("größe".as_bytes(), "ISO-8859-1", "größe"),
            (b"gr\xf6\xdfe", "ISO-8859-1", "größe"),
            (b"\x83e\x83X\x83g", "Shift_JIS", "テスト"),
            (b"gr\xf6\xdfe", "", "gr\u{fffd}\u{fffd}e"),
            (b"gr\xf6\xdfe", "no such encoding", "gr\u{fffd}\u{fffd}e"),
        ] {
            assert_eq!(decode(bytes, label.as_bytes()), text);
        }
    }

    #[test]
    fn text_is_cut_at_a_character() {
        for (bytes, left) in [
            (&b"ab\xc3"[..], &b"ab"[..]),
            (b"ab\xf0\x9f\x98", b"ab"),
            (b"ab\xc3\xa4", b"ab\xc3\xa4"),
            (b"a\xff\xe2\x82", b"a\xff"),
            (b"ab\xff", b"ab\xff"),
            (b"", b""),
        ] {
            let mut bytes = bytes.to_vec();
            drop_cut_character(&mut bytes);
            assert_eq!(bytes, left);
        }
        let mut text = "abä".to_owned();
        assert!(shorten(&mut text, 3));
        assert_eq!(text, "ab");
        assert!(!shorten(&mut text, 2));
    }

    #[test]
    fn dates_are_read_or_unknown() {
        let read = |seconds: &str, raw: &str| Date::read(seconds.as_bytes(), raw.as_bytes());
        for (seconds, zone, text) in [
            ("1790000000", "+0200", "2026-09-21T16:13:20+02:00"),
            ("1790000000", "-0330", "2026-09-21T10:43:20-03:30"),
            ("0", "-0500", "1969-12-31T19:00:00-05:00"),
            ("0", "+51800", "1970-01-01T00:00:00+00:00"),
        ] {
            let date = read(seconds, &format!("{seconds} {zone}")).expect("a date");
            assert_eq!(date.text, text);
            let expected = seconds.parse::<u64>().expect("a number") * 1_000;
            assert_eq!(date.time_ms, expected);
        }
        for seconds in ["", "-1", "x", "999999999999999", "99999999999999999999"] {
            assert_eq!(read(seconds, "0 +0000"), None, "{seconds}");
        }
    }
}
