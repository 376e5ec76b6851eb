//! The lane of a key.

/// Start value and multiplier of `MurmurHash2`, 32 bits, as in Kafka's Java client
/// (`org.apache.kafka.common.utils.Utils.murmur2`).
const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// `MurmurHash2` over the bytes of a key.
pub fn murmur2(key: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "keys are far shorter than 4 GiB, and Java wraps here too")]
    let mut h = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The lane of `key` among `lanes`: the choice of the standard Java producer, so that any Kafka
/// client reaches the right lane.
///
/// # Panics
/// If `lanes` is 0, which [a built topology](crate::control::SubmittedStage::lanes) never has.
pub fn lane_of(key: &[u8], lanes: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's `UtilsTest.testMurmur2`, which has signed numbers.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in vectors {
            assert_eq!(murmur2(key.as_bytes()), expected.cast_unsigned(), "{key}");
        }
    }

    #[test]
    fn a_lane_is_the_hash_without_its_sign_modulo_the_number_of_lanes() {
        assert_eq!(lane_of(b"21", 4), (0xc5f2_f8ec_u32 & 0x7fff_ffff) % 4);
        assert_eq!(lane_of(b"anything", 1), 0);
    }
}
