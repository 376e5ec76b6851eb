//! A process that was told to stop: what it still answers, what it refuses, and what it logs.

mod process;

use process::Up;
use rustix::process::Signal;
use serde_json::json;

/// A worker that waits four seconds for a reply, so that a request with a silent switch stays unanswered for that long.
const PATIENT: [&str; 8] = [
    "--set",
    "topologies.flows.settings.worker-speaker.timeout_ms=4000",
    "--set",
    "topologies.flows.settings.flows.call_ms=14000",
    "--set",
    "topologies.flows.settings.flows.step_ms=15000",
    "--set",
    "topologies.flows.settings.flows.request_ms=60000",
];

/// Polls the log of `up` until it contains `text`.
fn until_said(up: &Up, text: &str) {
    while !up.said().contains(text) {
        assert!(up.is_running(), "it ended: {}", up.said());
        std::thread::yield_now();
    }
}

#[test]
fn a_process_that_drains_is_not_ready_refuses_requests_and_answers_those_it_took() {
    for signal in [Signal::TERM, Signal::HUP] {
        let any = "127.0.0.1:0";
        let up = Up::start(&[&["up", "--rest", any, "--admin", any][..], &PATIENT].concat());
        let fault = json!({"when": {"command": "install", "switch": "of:01"}, "kind": "silence", "times": 1});
        assert_eq!(up.post_to("switches", "/faults", &fault).0, 201);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| up.post("/flow", &json!({"flowid": "slow", "length": 1}), &[]));
            while up.get("/v1/operations?live=true").1["operations"] == json!([]) {
                std::thread::yield_now();
            }
            up.signal(signal);
            until_said(&up, "stopping");
            let (status, told) = up.get("/readyz");
            assert_eq!((status, &told["code"]), (503, &json!("NAVE-0006")), "{told}");
            assert!(told["detail"].as_str().unwrap().contains("this process is stopping"), "{told}");
            let (status, told) = up.post("/flow", &json!({"flowid": "late", "length": 1}), &[]);
            assert_eq!((status, &told["code"]), (503, &json!("NAVE-0006")), "{told}");
            assert_eq!(up.get("/v1/operations?live=true").0, 200, "what is known is still shown");
            let (status, told) = asked.join().unwrap();
            assert_eq!(status, 201, "{told}");
        });
        let said = up.ended();
        assert!(said.contains("stopped; nothing was left undone"), "{signal:?}: {said}");
        assert_eq!(up.try_post("/flow", &json!({}), &[]), None, "its port is closed");
    }
}

#[test]
fn refused_requests_are_counted_and_logged_once_a_second() {
    let up = Up::embedded();
    let fault =
        json!({"when": {"command": "install", "switch": "of:01"}, "kind": {"error": {"code": "full"}}, "times": 200});
    let (status, told) = up.post_to("switches", "/faults", &fault);
    assert_eq!(status, 201, "{told}");
    for n in 0..200 {
        let (status, told) = up.post("/flow", &json!({"flowid": format!("f{n}"), "length": 1}), &[]);
        assert_eq!(status, 502, "{told}");
    }
    // The line of an operation is logged after its answer.
    let counted = || {
        let metrics = up.text("/metrics");
        let suppressed = metrics.lines().find_map(|line| line.strip_prefix("nave_log_lines_suppressed_total "));
        let suppressed: u64 = suppressed.map_or(0, |count| count.parse().unwrap());
        let written = up.said().lines().filter(|line| line.contains("failed:")).count() as u64;
        (written, suppressed)
    };
    while counted().0 + counted().1 < 200 {
        assert!(up.is_running(), "it ended: {}", up.said());
        std::thread::yield_now();
    }
    let (written, suppressed) = counted();
    assert_eq!(written + suppressed, 200, "{}", up.said());
    assert!(suppressed > 0, "{}", up.said());
}
