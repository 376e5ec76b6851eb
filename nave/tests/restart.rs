//! `nave up --data DIR` is started again in its directory: after its topology was killed, and with flows that stand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::time::Duration;

use bus::Clock;
use nave::clock::SystemClock;
use process::Up;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine that is busy with other tests takes some seconds for what takes a tenth of one.
const PATIENCE: Duration = Duration::from_secs(60);

fn up_in(dir: &TempDir) -> Up {
    let any = "127.0.0.1:0";
    Up::start(&["up", "--rest", any, "--admin", any, "--data", dir.path().to_str().unwrap()])
}

/// Asks until `done` is true of the answer.
fn until(up: &Up, path: &str, done: impl Fn(&Value) -> bool) {
    let clock = SystemClock::default();
    let begun = clock.mono();
    loop {
        let (_, body) = up.get(path);
        if done(&body) {
            return;
        }
        assert!(clock.mono().since(begun) < PATIENCE, "GET {path} still says {body}");
    }
}

#[test]
fn a_directory_can_be_used_after_its_topology_was_killed() {
    let dir = TempDir::new().unwrap();
    let flow = |name: &str| json!({"flowid": name, "length": 2});
    for round in 0..2 {
        let up = up_in(&dir);
        assert_eq!(up.post("/flow", &flow(&format!("round-{round}")), &[]).0, 201, "round {round}");
        let (status, told) = up.delete_at("REST", "/v1/topologies/flows?wait_ms=10000");
        assert_eq!(status, 202, "{told}");
        until(&up, "/v1/topologies", |body| body["topologies"] == json!([]));
        until(&up, "/readyz", |body| body.to_string().contains("topology `flows` is not submitted"));
        assert!(up.interrupt().contains("nothing was left undone"));
    }
    let up = up_in(&dir);
    let stand: Vec<Value> = up.get("/v1/flows").1["flows"].as_array().unwrap().clone();
    assert_eq!(stand.len(), 2, "the topics were kept, and the topology goes on from them: {stand:?}");
}
