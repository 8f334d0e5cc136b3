//! SipHash-2-4 of 32 bytes (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
//!
//! A keyed pseudo-random function is what a fingerprint needs: entries are written by people who
//! do not know the seed of a later request, and without it they cannot make two of them collide.
//! The input always has the length of an id, so all of SipHash is these thirty lines.

/// How many bytes are hashed.
const INPUT_BYTES: u64 = 32;

struct State([u64; 4]);

impl State {
    fn new(key: [u64; 2]) -> Self {
        let [k0, k1] = key;
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }
}

/// Returns the hash of `input` under `key`.
pub(super) fn siphash(key: [u64; 2], input: &[u8; INPUT_BYTES as usize]) -> u64 {
    let mut state = State::new(key);
    let (words, _) = input.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    state.absorb(INPUT_BYTES << 56);
    state.0[2] ^= 0xff;
    for _ in 0..4 {
        state.round();
    }
    state.0.into_iter().fold(0, |hash, word| hash ^ word)
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    // The standard library's own SipHash-2-4 is deprecated for hash maps, but it is a good oracle.
    #[expect(deprecated)]
    fn oracle(key: [u64; 2], input: &[u8; 32]) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(key[0], key[1]);
        hasher.write(input);
        hasher.finish()
    }

    proptest::proptest! {
        #[test]
        fn it_is_siphash_2_4(key: [u64; 2], input: [u8; 32]) {
            proptest::prop_assert_eq!(siphash(key, &input), oracle(key, &input));
        }
    }
}
