//! A process that was told to stop: requests that it still answers, refuses and logs.

mod process;

use process::Up;
use rustix::process::Signal;
use serde_json::json;

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

/// Waits until the log of `up` contains `text`.
fn wait_for_log(up: &Up, text: &str) {
    while !up.log().contains(text) {
        assert!(up.is_running(), "it ended: {}", up.log());
        std::thread::yield_now();
    }
}

#[test]
fn a_draining_process_refuses_requests_and_answers_accepted_ones() {
    for signal in [Signal::TERM, Signal::HUP] {
        let any = "127.0.0.1:0";
        let up = Up::start(&[&["up", "--rest", any, "--admin", any][..], &LONG_TIMEOUTS].concat());
        let fault = json!({"when": {"command": "install", "switch": "of:01"}, "kind": "silence", "times": 1});
        assert_eq!(up.post_to("switches", "/faults", &fault).0, 201);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| up.post("/flow", &json!({"flowid": "slow", "length": 1}), &[]));
            while up.get("/v1/operations?live=true").1["operations"] == json!([]) {
                std::thread::yield_now();
            }
            up.signal(signal);
            wait_for_log(&up, "stopping");
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
    // The log line of an operation follows its answer.
    let counted = || {
        let metrics = up.text("/metrics");
        let suppressed = metrics.lines().find_map(|line| line.strip_prefix("nave_log_lines_suppressed_total "));
        let suppressed: u64 = suppressed.map_or(0, |count| count.parse().unwrap());
        let written = up.log().lines().filter(|line| line.contains("failed:")).count() as u64;
        (written, suppressed)
    };
    while counted().0 + counted().1 < 200 {
        assert!(up.is_running(), "it ended: {}", up.log());
        std::thread::yield_now();
    }
    let (written, suppressed) = counted();
    assert_eq!(written + suppressed, 200, "{}", up.log());
    assert!(suppressed > 0, "{}", up.log());
}
