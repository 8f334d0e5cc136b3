//! The date of an answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;

/// The first second after the year 9999, which HTTP cannot write: seconds since 1970.
const YEAR_10000_S: u64 = 253_402_300_800;

/// Returns the present date; see [`date`].
#[expect(
    clippy::disallowed_methods,
    reason = "an answer carries the time of the wall clock"
)]
pub(crate) fn today() -> Option<HeaderValue> {
    date(SystemTime::now())
}

/// Returns a date in the form of HTTP, or `None` if the clock is before 1970 or after 9999: a machine
/// without a battery starts anywhere, and a server without a date is better than none.
fn date(now: SystemTime) -> Option<HeaderValue> {
    let since = now.duration_since(UNIX_EPOCH).ok()?;
    if since >= Duration::from_secs(YEAR_10000_S) {
        return None;
    }
    HeaderValue::try_from(httpdate::fmt_http_date(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dates_that_http_can_write_are_written() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        let written = |seconds| at(seconds).map(|date| date.to_str().expect("text").to_owned());
        assert_eq!(written(0).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        let last = written(YEAR_10000_S - 1);
        assert_eq!(last.as_deref(), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        assert_eq!(at(YEAR_10000_S), None);
        assert_eq!(date(UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
