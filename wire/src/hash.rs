//! A hash and a random number generator that are the same in every process and build. Not for
//! secrets.

/// FNV-1a with 64 bits, by Fowler, Noll and Vo (<http://www.isthe.com/chongo/tech/comp/fnv/>).
///
/// ```
/// assert_eq!(wire::hash::fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
/// ```
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, hash)
}

/// Advances `state` and returns the next number of `SplitMix64`, by Steele, Lea and Flood (Fast
/// Splittable Pseudorandom Number Generators, OOPSLA 2014, <https://doi.org/10.1145/2660193.2660195>),
/// with the constants of Vigna (<https://prng.di.unimi.it/splitmix64.c>). Every state is a valid
/// seed, and every bit of it affects every bit of the number.
///
/// ```
/// let mut state = 1_234_567;
/// assert_eq!(wire::hash::splitmix64(&mut state), 6_457_827_717_110_365_317);
/// ```
pub fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' list of test vectors.
    #[test]
    fn hashes_agree_with_the_published_test_vectors() {
        assert_eq!(fnv1a([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
    }

    /// From the task `Pseudo-random numbers/Splitmix64` of Rosetta Code, computed by Vigna's code.
    #[test]
    fn random_numbers_agree_with_the_published_test_vectors() {
        let mut state = 1_234_567;
        let numbers = [(); 3].map(|()| splitmix64(&mut state));
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
