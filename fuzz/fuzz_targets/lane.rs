//! Any record in the inbox of the flow topology: nothing panics, and the lane continues.
#![no_main]

use floodlight_sim::SpeakerHandle;
use libfuzzer_sys::fuzz_target;
use nave::prelude::workflow::Answer;
use nave::testing::{HUB, SPEAKER, SystemOptions, World};
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let options = SystemOptions { lanes: 2, ..SystemOptions::default() };
    let topology = options.topology().expect("the options are valid");
    let join = |bus: &dyn bus::Bus, topics: &_| SpeakerHandle::new().join(bus, topics, SPEAKER, "speaker-0");
    let mut world = World::seeded(0, &topology).task(join);
    let record = nave::sim::arbitrary::record(&world.lanes.inbox(HUB), bytes);
    world.lanes.write(&[record]);
    world.run_ms(5);
    let body = json!({"flowid": "test-01", "length": 1, "error": null});
    let request = world.request("create-flow", "test-01", &body);
    world.run_ms(20_000);
    let answer = world.answer(request);
    assert!(matches!(answer, Some(Answer::Done(_))), "{answer:?}");
});
