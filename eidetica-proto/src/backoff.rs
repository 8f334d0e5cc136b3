//! When to try again: exponential backoff with jitter, as a machine without a clock.

/// Longest wait after a first failure, in milliseconds: long enough for a restart of a process,
/// short enough that a lost packet goes unnoticed.
pub const BACKOFF_BASE_MS: u64 = 500;

/// By what the longest wait grows with each failure that follows another.
pub const BACKOFF_FACTOR: u64 = 2;

/// Longest wait of all, in milliseconds: five minutes. A peer that comes back is found within this
/// time even if it does not say so, and one that never does costs twelve to twenty-four attempts an
/// hour.
pub const BACKOFF_CAP_MS: u64 = 5 * 60 * 1_000;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Longest wait after a first failure, in milliseconds.
    pub base_ms: u64,
    /// By what the longest wait grows with each failure that follows another.
    pub factor: u64,
    /// Longest wait of all, in milliseconds.
    pub cap_ms: u64,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            base_ms: BACKOFF_BASE_MS,
            factor: BACKOFF_FACTOR,
            cap_ms: BACKOFF_CAP_MS,
        }
    }
}

impl BackoffPolicy {
    /// Returns the longest wait after this many failures in a row, in milliseconds.
    pub fn longest_wait_ms(&self, failures: u32) -> u64 {
        let Some(repeats) = failures.checked_sub(1) else {
            return 0;
        };
        let growth = self.factor.saturating_pow(repeats);
        self.base_ms.saturating_mul(growth).min(self.cap_ms)
    }

    /// Draws the wait after this many failures in a row, in milliseconds: evenly from the upper
    /// half of the longest.
    pub(crate) fn wait_ms(&self, failures: u32, jitter: &mut Jitter) -> u64 {
        let longest = self.longest_wait_ms(failures);
        let half = longest / 2;
        longest - half + jitter.up_to(half)
    }
}

/// When to try one thing again, such as reaching one peer.
///
/// Before each attempt ask [`poll_ready`](Self::poll_ready); report what came of it with
/// [`handle_success`](Self::handle_success) or [`handle_failure`](Self::handle_failure). When the
/// peer is heard from in another way, report success too: it is there, so there is nothing to wait
/// for.
///
/// After a failure the wait is drawn evenly from the upper half of the longest wait, which doubles
/// up to the cap with each failure: peers that lost the same server do not come back to it at the
/// same instant, and a wait is never so short that it is none. There is no last attempt.
///
/// Times are milliseconds of any clock that never goes back. The same seed and the same calls give
/// the same waits.
///
/// ```
/// use eidetica_proto::backoff::{Backoff, BackoffPolicy};
///
/// let mut backoff = Backoff::new(BackoffPolicy::default(), 7);
/// assert_eq!(backoff.poll_ready(1_000), Ok(()));
/// backoff.handle_failure(1_000);
/// let until_ms = backoff.poll_ready(1_000).unwrap_err();
/// assert!((1_250..=1_500).contains(&until_ms));
/// assert_eq!(backoff.poll_ready(until_ms), Ok(()));
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    jitter: Jitter,
    /// How many failures came after the last success.
    failures: u32,
    /// No attempt before this time.
    ready_at_ms: u64,
}

impl Backoff {
    /// Makes one that is ready at once. `seed` decides the jitter: give each peer another.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Self {
        Self {
            policy,
            jitter: Jitter(seed),
            failures: 0,
            ready_at_ms: 0,
        }
    }

    /// Returns how many failures came after the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes note that an attempt failed.
    pub fn handle_failure(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let wait = self.policy.wait_ms(self.failures, &mut self.jitter);
        self.ready_at_ms = now_ms.saturating_add(wait);
    }

    /// Takes note that an attempt succeeded, or that the peer was heard from: the next attempt may
    /// be made at once, and the next failure counts as the first.
    pub fn handle_success(&mut self) {
        self.failures = 0;
        self.ready_at_ms = 0;
    }

    /// Tells whether an attempt may be made.
    ///
    /// # Errors
    /// The time, in milliseconds, at which one may be made.
    pub fn poll_ready(&self, now_ms: u64) -> Result<(), u64> {
        if now_ms < self.ready_at_ms {
            return Err(self.ready_at_ms);
        }
        Ok(())
    }
}

/// A generator of jitter (SplitMix64; Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014). Jitter needs no secrecy.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(pub(crate) u64);

impl Jitter {
    /// Draws a number from zero to `most`, both included.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let scaled = u128::from(mixed) * (u128::from(most) + 1);
        (scaled >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(seed: u64, count: usize) -> Vec<u64> {
        let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
        let mut now_ms = 0;
        let mut wait = || {
            backoff.handle_failure(now_ms);
            let until_ms = backoff
                .poll_ready(now_ms)
                .expect_err("a failure makes it wait");
            let wait_ms = until_ms - now_ms;
            now_ms = until_ms;
            wait_ms
        };
        (0..count).map(|_| wait()).collect()
    }

    #[test]
    fn the_longest_wait_doubles_up_to_the_cap() {
        let policy = BackoffPolicy::default();
        let longest: Vec<u64> = (0..12).map(|n| policy.longest_wait_ms(n)).collect();
        let expected = [
            0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000,
        ];
        assert_eq!(longest, expected);
        assert_eq!(policy.longest_wait_ms(u32::MAX), BACKOFF_CAP_MS);
    }

    #[test]
    fn waits_fill_the_upper_half_of_the_longest() {
        let first: Vec<u64> = (0..1_000).map(|seed| waits(seed, 1)[0]).collect();
        assert!(first.iter().all(|wait| (250..=500).contains(wait)));
        let low = first.iter().filter(|wait| **wait < 375).count();
        assert!(
            (400..600).contains(&low),
            "{low} of 1,000 in the lower half"
        );
    }

    #[test]
    fn it_never_gives_up() {
        let waits = waits(3, 10_000);
        let capped = BACKOFF_CAP_MS / 2..=BACKOFF_CAP_MS;
        assert!(waits[10..].iter().all(|wait| capped.contains(wait)));
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let mut backoff = Backoff::new(BackoffPolicy::default(), 1);
        backoff.handle_failure(u64::MAX - 1);
        assert_eq!(backoff.poll_ready(u64::MAX - 1), Err(u64::MAX));
        assert_eq!(backoff.poll_ready(u64::MAX), Ok(()));
        let absurd = BackoffPolicy {
            base_ms: u64::MAX,
            factor: u64::MAX,
            cap_ms: u64::MAX,
        };
        let mut backoff = Backoff::new(absurd, 1);
        backoff.handle_failure(0);
        backoff.handle_failure(u64::MAX);
        assert_eq!(backoff.failures(), 2);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new(BackoffPolicy::default(), 5);
        (0..20).for_each(|_| backoff.handle_failure(0));
        backoff.handle_success();
        assert_eq!((backoff.poll_ready(0), backoff.failures()), (Ok(()), 0));
        backoff.handle_failure(0);
        assert!(backoff.poll_ready(0).expect_err("waits") <= BACKOFF_BASE_MS);
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(waits(9, 50), waits(9, 50));
        assert_ne!(waits(9, 50), waits(10, 50));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(
            seed: u64,
            now_ms in 0..u64::MAX / 2,
            failures in 1..200_u32,
            base_ms in 0..10_000_u64,
            factor in 0..10_u64,
            cap_ms in 0..1_000_000_u64,
        ) {
            let policy = BackoffPolicy { base_ms, factor, cap_ms };
            let mut backoff = Backoff::new(policy, seed);
            (0..failures).for_each(|_| backoff.handle_failure(now_ms));
            let until_ms = backoff.poll_ready(now_ms).err().unwrap_or(now_ms);
            let longest = policy.longest_wait_ms(failures);
            prop_assert!(longest <= cap_ms);
            prop_assert!((longest - longest / 2..=longest).contains(&(until_ms - now_ms)));
        }
    }
}
