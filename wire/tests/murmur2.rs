//! The hash agrees with Kafka's own client.

use wire::routing::{lane_of, murmur2};

fn bytes(hex: &str) -> Vec<u8> {
    let digits = if hex == "-" { "" } else { hex };
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn every_key_has_the_hash_and_the_lane_of_the_java_client() {
    let lines = include_str!("murmur2.golden").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (key, hash) = line.split_once(' ').expect("a key and a hash");
        let hash: i32 = hash.parse().expect("a signed number");
        assert_eq!(murmur2(&bytes(key)).cast_signed(), hash, "{key}");
        // As in `BuiltInPartitioner.partitionForKey`: the hash without its sign, modulo the
        // partitions.
        for lanes in [1, 3, 4, 16] {
            let lane = (hash & i32::MAX) % lanes;
            assert_eq!(lane_of(&bytes(key), lanes.cast_unsigned()), lane.cast_unsigned(), "{key}");
        }
        count += 1;
    }
    assert!(count >= 190, "the golden file has only {count} keys");
}
