//! Any bytes for all parsers of external input: headers, requests, commands and fault plans.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let record = nave::sim::arbitrary::record("t", bytes);
    drop(record.headers.envelope());
    if let Ok(value) = serde_json::from_slice(bytes) {
        drop(flow_messages::client::CreateFlow::from_json(&value));
    }
    drop(serde_json::from_slice::<flow_messages::speaker::Command>(bytes));
    drop(serde_json::from_slice::<wire::command::Command>(bytes));
    drop(serde_json::from_slice::<wire::control::Submitted>(bytes));
    drop(serde_json::from_slice::<wire::alive::Heartbeat>(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(floodlight_sim::FaultPlan::from_toml(text));
        drop(text.parse::<wire::CallId>());
        drop(text.parse::<wire::MessageId>());
        drop(text.parse::<wire::owner::OffsetMetadata>());
        drop(text.parse::<wire::WallTime>());
    }
});
