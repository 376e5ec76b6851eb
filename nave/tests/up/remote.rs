//! The commands that query a running system, against a `nave up`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::process::{Up, nave};
use serde_json::{Value, json};

/// Runs a command against `up`. Returns the exit code, stdout and stderr.
fn run(up: &Up, args: &[&str]) -> (i32, String, String) {
    let output = nave(&[args, &["--url", &up.address("REST")]].concat()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn stdout(up: &Up, args: &[&str]) -> String {
    let (code, out, err) = run(up, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

fn json(up: &Up, args: &[&str]) -> Value {
    let out = stdout(up, &[&["--json"], args].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out}"))
}

#[test]
fn the_command_line_starts_lists_shows_and_explains_operations() {
    let up = Up::embedded();
    let body = r#"{"flowid": "test-01", "length": 3}"#;
    let started = json(&up, &["operations", "start", "create-flow", "test-01", "--body", body]);
    assert!(started.to_string().contains("test-01"), "{started}");
    let listed = json(&up, &["operations", "list", "--workflow", "create-flow"]);
    let operation = listed["operations"][0]["operation"].as_str().unwrap();
    let table = stdout(&up, &["operations", "list"]);
    assert!(table.starts_with("OPERATION") && table.contains(operation) && table.contains("done"), "{table}");
    assert!(stdout(&up, &["operations", "show", operation]).contains("test-01"));
    assert!(stdout(&up, &["why", operation]).starts_with(&format!("{operation}  create flow \"test-01\"")));
    assert_eq!(json(&up, &["parked", "list"])["operations"], json!([]));
    for n in 0..2 {
        let key = format!("more-{n}");
        let body = format!(r#"{{"flowid": "{key}", "length": 1}}"#);
        json(&up, &["operations", "start", "create-flow", &key, "--body", &body]);
    }
    let table = stdout(&up, &["operations", "list", "--limit", "2"]);
    assert!(table.contains("2 rows, more available: --after "), "{table}");
    let after = table.split("--after ").nth(1).unwrap().split_whitespace().next().unwrap();
    let last = json(&up, &["operations", "list", "--limit", "2", "--after", after]);
    assert_eq!((&last["operations"][0]["operation"], &last["next"]), (&json!(operation), &json!(null)));
    let every = stdout(&up, &["operations", "list", "--all"]);
    assert_eq!(every.lines().count(), 4, "a heading and three rows: {every}");

    let (code, _, err) = run(&up, &["operations", "cancel", operation]);
    assert!(code == 1 && err.contains("NAVE-00"), "the operation is over: {code}, {err}");
    let (code, _, err) = run(&up, &["operations", "start", "cook", "dinner"]);
    assert!(code == 2 && err.contains("no submitted topology has a workflow `cook`"), "{code}: {err}");
    let (code, _, err) = run(&up, &["why", "nobody"]);
    assert!(code == 1 && err.contains("NAVE-0007"), "{code}: {err}");
}

#[test]
fn top_shows_the_work_of_each_component() {
    let up = Up::embedded();
    assert_eq!(up.post("/flow", &json!({"flowid": "test-01", "length": 3}), &[]).0, 201);
    let top = ["top", "flows", "--interval", "100ms"];
    let table = stdout(&up, &[&top[..], &["--once"]].concat());
    assert!(table.starts_with("COMPONENT") && table.contains("inbox spout"), "{table}");
    let executed = |more: &[&str]| {
        let shown = json(&up, &[&top[..], &["--once"], more].concat());
        let hub = shown["components"].as_array().unwrap().iter().find(|one| one["component"] == "hub").unwrap().clone();
        assert_eq!((&hub["kind"], &hub["lanes"], &hub["failed"]), (&json!("bolt"), &json!(4), &json!(0)), "{shown}");
        hub["executed"].as_u64().unwrap()
    };
    let of_one = executed(&[]);
    assert!(of_one > 0);
    assert_eq!(executed(&["--process", &up.address("REST")]), 2 * of_one, "the numbers of all processes are added");

    // Without `--once` a table follows the other until the command is killed.
    let url = up.address("REST");
    let mut live = nave(&[&top[..], &["--url", &url]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(live.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.filter(|line| line == "flows is running").take(2).count(), 2);
    live.kill().unwrap();
    live.wait().unwrap();

    let (code, _, err) = run(&up, &["top", "flws"]);
    assert!(code == 1 && err.contains("NAVE-0050"), "{code}: {err}");
}

#[test]
fn topologies_are_listed_and_a_killed_one_refuses_requests() {
    let up = Up::embedded();
    assert_eq!(json(&up, &["topologies", "list"])["topologies"][0]["name"], "flows");
    let table = stdout(&up, &["topologies", "list"]);
    assert!(table.contains("flows") && table.contains("create-flow"), "{table}");
    let described = stdout(&up, &["topologies", "describe", "flows"]);
    for part in ["stage hub (4 lanes, exactly-once)", "workflow create-flow in stage hub", "running"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let drawn = stdout(&up, &["topologies", "describe", "flows", "--format", "mermaid"]);
    assert!(drawn.contains("stage hub, 4 lanes") && drawn.contains("calls, local"), "{drawn}");
    assert_eq!(json(&up, &["topologies", "describe", "flows"])["graph"]["components"][0]["kind"], "inbox-spout");
    assert_eq!(json(&up, &["spokes", "list"])["spokes"][0]["service"], "speaker");
    assert_eq!(json(&up, &["spokes", "show", "speaker"])["service"], "speaker");
    let (code, _, err) = run(&up, &["topologies", "kill", "flws"]);
    assert!(code == 1 && err.contains("NAVE-0050"), "an unknown name: {code}, {err}");
    let (code, _, err) = run(&up, &["topologies", "activate", "flws"]);
    assert!(code == 1 && err.contains("NAVE-0050"), "an unknown name: {code}, {err}");

    let text = stdout(&up, &["topologies", "rebalance", "flows", "--threads", "2"]);
    assert!(text.ends_with("changes to threads: 2\n"), "{text}");
    assert_eq!(up.post("/flow", &json!({"flowid": "first", "length": 3}), &[]).0, 201);
    assert_eq!(json(&up, &["topologies", "rebalance", "flows"])["threads"], json!(null));

    assert!(stdout(&up, &["topologies", "deactivate", "flows"]).starts_with("flows is inactive"));
    let table = stdout(&up, &["topologies", "list"]);
    assert!(table.contains("inactive"), "{table}");
    let (status, problem) = up.post("/flow", &json!({"flowid": "early", "length": 3}), &[]);
    assert_eq!((status, &problem["code"]), (503, &json!("NAVE-0056")), "{problem}");
    assert!(stdout(&up, &["topologies", "activate", "flows"]).starts_with("flows is active"));
    assert_eq!(up.post("/flow", &json!({"flowid": "early", "length": 3}), &[]).0, 201);

    assert_eq!(json(&up, &["topologies", "kill", "flows", "--wait", "20s"])["name"], "flows");
    let (status, problem) = up.post("/flow", &json!({"flowid": "late", "length": 3}), &[]);
    // The topology drains, or has ended already, since there was nothing to drain.
    assert!(["NAVE-0050", "NAVE-0051"].iter().any(|code| problem["code"] == *code), "{status}: {problem}");
    let said = up.interrupt();
    assert!(said.contains("nothing unfinished"), "{said}");
}
