//! A process that stops: requests that it still answers, refuses and logs.

use crate::process::Up;
use rustix::process::Signal;
use serde_json::json;
use wire::routing::lane_of;

/// A worker timeout of four seconds: a request to a silent switch stays unanswered for that long.
const LONG_TIMEOUTS: [&str; 8] = [
    "--set",
    "topologies.flows.settings.worker-speaker.timeout_ms=4000",
    "--set",
    "topologies.flows.settings.flows.call_ms=14000",
    "--set",
    "topologies.flows.settings.flows.step_ms=15000",
    "--set",
    "topologies.flows.settings.flows.request_ms=60000",
];

#[test]
fn a_draining_process_refuses_requests_and_answers_accepted_ones() {
    for signal in [Signal::TERM, Signal::HUP] {
        let any = "127.0.0.1:0";
        let args = ["up", "--rest", any, "--admin", any, "--log", "warn,topology=debug"];
        let up = Up::start(&[&args[..], &LONG_TIMEOUTS].concat());
        let fault = json!({"when": {"command": "install", "switch": "of:01"}, "kind": "silence", "times": 1});
        assert_eq!(up.post_to("switches", "/faults", &fault).0, 201);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| up.post("/flow", &json!({"flowid": "slow", "length": 1}), &[]));
            up.wait_for_log("`slow` starts");
            up.signal(signal);
            up.wait_for_log("stopping: ");
            let (status, told) = up.get("/readyz");
            assert_eq!((status, &told["code"]), (503, &json!("NAVE-0006")), "{told}");
            assert!(told["detail"].as_str().unwrap().contains("this process is stopping"), "{told}");
            let (status, told) = up.post("/flow", &json!({"flowid": "late", "length": 1}), &[]);
            assert_eq!((status, &told["code"]), (503, &json!("NAVE-0006")), "{told}");
            assert_eq!(up.get("/v1/operations?live=true").0, 200, "operations are still listed");
            let (status, told) = asked.join().unwrap();
            assert_eq!(status, 201, "{told}");
        });
        let said = up.ended();
        assert!(said.contains("stopped; nothing unfinished"), "{signal:?}: {said}");
        assert_eq!(up.try_post("/flow", &json!({}), &[]), None, "the port is closed");
    }
}

#[test]
fn failure_lines_above_the_log_rate_are_suppressed_and_counted() {
    let up = Up::embedded();
    let fault =
        json!({"when": {"command": "install", "switch": "of:01"}, "kind": {"error": {"code": "full"}}, "times": 200});
    let (status, told) = up.post_to("switches", "/faults", &fault);
    assert_eq!(status, 201, "{told}");
    for n in 0..200 {
        let (status, told) = up.post("/flow", &json!({"flowid": format!("f{n}"), "length": 1}), &[]);
        assert_eq!(status, 502, "{told}");
    }
    // The log line of an operation follows its answer, and precedes the next answer of its lane.
    for lane in 0..flows::LANES {
        let name = (0..1_000).map(|n| format!("last-{n}")).find(|name| lane_of(name.as_bytes(), flows::LANES) == lane);
        let (status, told) = up.post("/flow", &json!({"flowid": name.expect("each lane has one"), "length": 1}), &[]);
        assert_eq!(status, 201, "{told}");
    }
    let metrics = up.text("/metrics");
    let suppressed = metrics.lines().find_map(|line| line.strip_prefix("nave_log_lines_suppressed_total "));
    let suppressed: usize = suppressed.map_or(0, |count| count.parse().unwrap());
    assert!((1..200).contains(&suppressed), "{suppressed} suppressed: {}", up.log());
    assert_eq!(up.wait_for_log_lines("failed:", 200 - suppressed), 200 - suppressed, "{}", up.log());
}
