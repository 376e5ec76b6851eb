//! The one hash that we write down, in records and beside them.

/// FNV-1a with 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv): told apart and checked against accidents, not against malice.
///
/// ```
/// assert_eq!(wire::hash::fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
/// ```
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
