//! How large a request may be at an address.
//!
//! A proxy before a server can limit the bodies of requests, often to 1 MiB. It then answers with a
//! status that says so, or cuts the connection. Entries that are sent are therefore split into requests
//! that fit. Each request is complete in itself, and what it brings is durable once it is acknowledged.

/// The first limit that is tried in bytes: below the limit of common proxies, 1 MiB, with room for what a
/// body has beside entries.
pub const BODY_BYTES_FIRST: u32 = 768 << 10;

/// The lowest limit in bytes: a proxy that takes less is not made for uploads, and each request costs a
/// round trip and a commit.
pub const BODY_BYTES_MIN: u32 = 48 << 10;

/// How many times in a row a request is cut before a limit is assumed. A connection breaks at random
/// places; a limit cuts the same request every time.
const CUTS_MAX: u32 = 2;

/// Finds how large a request with entries may be at one address.
///
/// Split entries by [`BodyLimit::bytes_max`] and report what happens to each request with one of the
/// `handle_…` methods. Remember the limit for the address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodyLimit {
    bytes_max: Option<u32>,
    cuts: u32,
}

/// What to do about a request that did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyVerdict {
    /// Send the same request once more.
    SendAgain,
    /// Split the entries by the new limit, and go on with the first piece.
    Split,
    /// A smaller request does not help.
    GiveUp,
}

impl BodyLimit {
    /// Makes the limit that was remembered, or none.
    pub fn remembered(bytes_max: Option<u32>) -> Self {
        let bytes_max = bytes_max.map(|it| it.clamp(BODY_BYTES_MIN, BODY_BYTES_FIRST));
        Self { bytes_max, cuts: 0 }
    }

    /// Returns the most bytes of entries for one request, if there is a limit.
    pub fn bytes_max(&self) -> Option<u32> {
        self.bytes_max
    }

    /// Takes that a request got through.
    pub fn handle_taken(&mut self) {
        self.cuts = 0;
    }

    /// Takes that a request was refused for its size.
    pub fn handle_too_large(&mut self) -> BodyVerdict {
        self.cuts = 0;
        match self.bytes_max {
            None => self.bytes_max = Some(BODY_BYTES_FIRST),
            Some(bytes) if bytes / 2 >= BODY_BYTES_MIN => self.bytes_max = Some(bytes / 2),
            Some(_) => return BodyVerdict::GiveUp,
        }
        BodyVerdict::Split
    }

    /// Takes that the connection was lost before a request with at least [`BODY_BYTES_MIN`] was
    /// answered.
    pub fn handle_cut(&mut self) -> BodyVerdict {
        self.cuts += 1;
        match self.cuts < CUTS_MAX {
            true => BodyVerdict::SendAgain,
            false => self.handle_too_large(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_halved_down_to_a_minimum() {
        let mut limit = BodyLimit::default();
        let mut tried = Vec::new();
        while limit.handle_too_large() == BodyVerdict::Split {
            tried.extend(limit.bytes_max());
        }
        assert_eq!(tried, [768, 384, 192, 96, 48].map(|kib| kib << 10));
        assert_eq!(limit.bytes_max(), Some(BODY_BYTES_MIN));
    }

    #[test]
    fn only_a_request_that_is_cut_twice_in_a_row_is_split() {
        let mut limit = BodyLimit::default();
        for _ in 0..3 {
            assert_eq!(limit.handle_cut(), BodyVerdict::SendAgain);
            assert_eq!(limit.bytes_max(), None);
            limit.handle_taken();
        }
        assert_eq!(limit.handle_cut(), BodyVerdict::SendAgain);
        assert_eq!(limit.handle_cut(), BodyVerdict::Split);
        assert_eq!(limit.bytes_max(), Some(BODY_BYTES_FIRST));
    }

    #[test]
    fn a_remembered_limit_is_one_that_could_be_found() {
        for (stored, used) in [
            (0, BODY_BYTES_MIN),
            (u32::MAX, BODY_BYTES_FIRST),
            (96 << 10, 96 << 10),
        ] {
            assert_eq!(BodyLimit::remembered(Some(stored)).bytes_max(), Some(used));
        }
        assert_eq!(BodyLimit::remembered(None), BodyLimit::default());
    }
}
