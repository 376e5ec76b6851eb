//! `nave up --data DIR` restarts in its directory: after its topology was killed, and with existing
//! flows.

use crate::process::Up;
use serde_json::{Value, json};
use tempfile::TempDir;

fn up_in(dir: &TempDir) -> Up {
    let any = "127.0.0.1:0";
    Up::start(&["up", "--rest", any, "--admin", any, "--data", dir.path().to_str().unwrap()])
}

#[test]
fn a_data_directory_is_usable_after_its_topology_was_killed() {
    let dir = TempDir::new().unwrap();
    let flow = |name: &str| json!({"flowid": name, "length": 2});
    for round in 0..2 {
        let up = up_in(&dir);
        assert_eq!(up.post("/flow", &flow(&format!("round-{round}")), &[]).0, 201, "round {round}");
        let (status, answer) = up.delete_at("REST", "/v1/topologies/flows?wait_ms=10000");
        assert_eq!(status, 202, "{answer}");
        up.wait_until("REST", "/v1/topologies", |_, body| body["topologies"] == json!([]));
        up.wait_until("REST", "/readyz", |_, body| {
            body.to_string().contains("not submitted; stop this process and start it again")
        });
        assert!(up.interrupt().contains("nothing unfinished"));
    }
    let up = up_in(&dir);
    let existing: Vec<Value> = up.get("/v1/flows").1["flows"].as_array().unwrap().clone();
    assert_eq!(existing.len(), 2, "the topics were kept, and the topology resumes from them: {existing:?}");
}

#[test]
fn an_inactive_topology_stays_inactive_across_a_restart() {
    let (dir, flow) = (TempDir::new().unwrap(), json!({"flowid": "first", "length": 2}));
    let change = |up: &Up, command: &str| {
        assert_eq!(up.post(&format!("/v1/topologies/flows/{command}"), &Value::Null, &[]).0, 202);
    };
    let up = up_in(&dir);
    change(&up, "deactivate");
    assert!(up.interrupt().contains("nothing unfinished"));
    let up = up_in(&dir);
    up.wait_for_log("nave topologies activate flows");
    let (status, problem) = up.post("/flow", &flow, &[]);
    assert_eq!((status, &problem["code"]), (503, &json!("NAVE-0056")), "{problem}");
    change(&up, "activate");
    assert_eq!(up.post("/flow", &flow, &[]).0, 201);
}

/// The flows in the REST interface, and the flows of the rules on a switch.
fn flows_and_rules(up: &Up) -> (Vec<String>, Vec<String>) {
    let names = |list: &[Value], field: &str| -> Vec<String> {
        let mut names: Vec<String> = list.iter().map(|one| one[field].as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let listed = up.get("/v1/flows").1;
    (names(listed["flows"].as_array().unwrap(), "flowid"), names(&up.rules("of:01"), "flow"))
}

#[test]
fn flows_and_rules_agree_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let both = || {
        let names = vec!["first".to_owned(), "second".to_owned()];
        (names.clone(), names)
    };
    let up = up_in(&dir);
    for flow in ["first", "second"] {
        assert_eq!(up.post("/flow", &json!({"flowid": flow, "length": 3}), &[]).0, 201);
    }
    assert_eq!(flows_and_rules(&up), both());
    assert!(up.interrupt().contains("nothing unfinished"));
    let up = up_in(&dir);
    assert_eq!(flows_and_rules(&up), both(), "after an orderly shutdown");
    up.kill();
    let up = up_in(&dir);
    assert_eq!(flows_and_rules(&up), both(), "after a kill");
    let (status, kept) = up.post("/flow", &json!({"flowid": "second", "length": 3}), &[]);
    assert_eq!(status, 200, "the flow exists: {kept}");
    let (status, gone) = up.delete_at("REST", "/v1/flows/first");
    assert_eq!((status, &gone["removed"]), (200, &json!(3)), "{gone}");
    assert_eq!(flows_and_rules(&up), (vec!["second".to_owned()], vec!["second".to_owned()]));
    assert_eq!(up.rules("of:03").len(), 1);
}
