//! Unpredictable random bytes: ChaCha20, seeded by the operating system.

use std::sync::{Arc, Mutex, PoisonError};

use eidetica_dag::SecretKey;
use rand::rngs::{ChaCha20Rng, SysRng};
use rand::{Rng, SeedableRng};

/// A generator of random bytes. Clones share one sequence.
#[derive(Clone)]
pub(crate) struct Random(Arc<Mutex<ChaCha20Rng>>);

impl Random {
    /// Seeds a generator from the operating system.
    ///
    /// # Panics
    /// If the operating system has no random bytes, without which no key is safe.
    pub(crate) fn from_os() -> Self {
        let seeded = ChaCha20Rng::try_from_rng(&mut SysRng);
        let random = seeded.expect("the operating system provides random bytes");
        Self(Arc::new(Mutex::new(random)))
    }

    /// Makes a generator whose bytes follow from `seed`, so that a test can be repeated.
    #[cfg(feature = "test-utils")]
    pub(crate) fn with_seed(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed))))
    }

    /// Returns the next `N` bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.fill_bytes(&mut bytes);
        bytes
    }
}

/// Generates the key of a device from the operating system's random source.
///
/// Keep [`SecretKey::to_bytes`] where only its owner can read it: anyone with these bytes can act as
/// the device.
///
/// # Panics
/// If the operating system has no random bytes.
pub fn generate_key() -> SecretKey {
    SecretKey::from_bytes(&Random::from_os().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_generators_agree() {
        let draw = || Random::from_os().bytes::<32>();
        assert_ne!(draw(), draw());
        assert_ne!(generate_key().to_bytes(), generate_key().to_bytes());
    }

    #[test]
    fn clones_share_one_sequence() {
        let random = Random::from_os();
        let other = random.clone();
        assert_ne!(random.bytes::<32>(), other.bytes::<32>());
    }
}
