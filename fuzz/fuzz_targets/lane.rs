//! Any record in the inbox of the flow topology: nothing panics, and the lane continues.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nave::testing::World;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::seeded(0);
    let record = nave::sim::arbitrary::record(&world.inbox(), bytes);
    world.lanes.write(&[record]);
    world.run_ms(5);
    let asked = world.request(&json!({"flowid": "test-01", "length": 1}));
    world.run_ms(20_000);
    assert!(world.answer(asked).is_done(), "{:?}", world.answer(asked));
});
