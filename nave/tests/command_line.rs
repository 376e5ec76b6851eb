//! The command line as a process: output and exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use process::nave;
use serde_json::Value;

/// Exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = nave(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(args: &[&str]) -> Value {
    let (code, out, err) = run(&[&["--json"], args].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out}"))
}

#[test]
fn explain_shows_the_cause_the_reaction_and_the_remedy_of_a_code() {
    let (code, out, _) = run(&["explain", "NAVE-0101"]);
    assert_eq!(code, 0);
    for part in ["NAVE-0101  the switch did not confirm a rule", "what happened", "what was done", "what to try"] {
        assert!(out.contains(part), "{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 110), "{out}");
    assert_eq!(json(&["explain", "101"])["code"], "NAVE-0101");
    assert_eq!(json(&["explain"]).as_array().unwrap().len(), wire::Code::ALL.len() + flow_messages::codes::ALL.len());
    let (code, _, err) = run(&["explain", "NAVE-0107"]);
    assert!(code == 2 && err.contains("nearest is NAVE-0106"), "{code}: {err}");
}

#[test]
fn topics_plan_lists_every_topic_with_its_settings() {
    let plan = json(&["topics", "plan"]);
    let topics = plan.as_array().unwrap();
    let topic_named =
        |name: &str| topics.iter().find(|topic| topic["name"] == name).unwrap_or_else(|| panic!("no {name} in {plan}"));
    assert_eq!(topic_named("nave.control")["settings"]["cleanup.policy"], "compact");
    assert_eq!(
        (
            &topic_named("nave.flows.hub.in")["partitions"],
            &topic_named("nave.flows.hub.in")["settings"]["retention.ms"]
        ),
        (&4.into(), &"-1".into()),
        "the bus keeps an inbox until a snapshot covers it"
    );
    assert_eq!(topic_named("nave.flows.hub.snap")["settings"]["cleanup.policy"], "compact");
    assert!(topics.iter().all(|topic| topic["settings"]["message.timestamp.type"] == "LogAppendTime"));
    let (_, table, _) = run(&["topics", "plan"]);
    assert_eq!(table.lines().count(), topics.len() + 1, "{table}");
    let kafka = ["topics", "plan", "flows", "--commands", "--bus", "kafka", "--brokers", "b:9092", "--prefix", "p"];
    let (_, commands, _) = run(&kafka);
    assert!(commands.contains("--topic p.flows.speaker.in --partitions 4"), "stages are apart on Kafka: {commands}");
    assert!(
        commands.lines().all(|line| line.starts_with("kafka-topics.sh --bootstrap-server b:9092 --create")),
        "{commands}"
    );
}

#[test]
fn an_invalid_command_exits_with_2_and_lists_the_valid_values() {
    for (args, message) in [
        (
            &["run"][..],
            "available stages: flows/hub, flows/speaker; roles: hub, worker, northbound, floodlight-sim; spokes: none",
        ),
        (&["run", "--stage", "hop", "--bus", "kafka", "--brokers", "b:1"], "there is no stage `hop`"),
        (&["run", "--role", "hub"], "the embedded bus lives in one process"),
        (&["run", "--spoke", "car", "--bus", "kafka", "--brokers", "b:1"], "this program has no spoke `car`"),
        (&["up", "--without", "car"], "this program has no spoke `car`"),
        (&["submit", "flows"], "the embedded bus lives in the process that opened it"),
        (&["up", "--threads", "0"], "--threads: `threads` is 0; allowed is 1 to 64"),
        (&["up", "--set", "rest.lsten=1"], "--set: `rest.lsten` is not a field"),
        (&["up", "--bus", "kafka"], "`bus.kafka.brokers` is empty"),
        (&["up", "--rest", "0.0.0.0:80"], "--rest: `rest.listen` is 0.0.0.0:80; allowed is a loopback address"),
        (&["up", "--brokers", "b:1"], "--brokers: `bus.kafka.brokers` has no effect: it needs bus.kind = \"kafka\""),
        (&["up", "--strict"], "--strict: `bus.kafka.strict` has no effect"),
        (&["up", "--sync", "always"], "--sync: `bus.disk.sync` has no effect: it needs bus.disk.data"),
        (
            &["up", "--bus", "kafka", "--brokers", "b:1", "--data", "d"],
            "--data: `bus.disk.data` has no effect: it needs bus.kind = \"embedded\"",
        ),
        (&["up", "--health", "127.0.0.1:0"], "--health has no effect"),
        (
            &["run", "--role", "hub", "--bus", "kafka", "--brokers", "b:1", "--rest", "127.0.0.1:0"],
            "--rest has no effect: it needs a northbound in this process",
        ),
        (&["run", "--role", "hub", "--topology", "flows"], "--topology flows has no effect without --stage"),
        (&["up", "--log", "wran"], "--log: `log` names `wran` (did you mean `warn`?)"),
        (&["up", "--log", ""], "--log: `log` is empty"),
        (&["up", "--config", "/nowhere/nave.toml"], "--config: `/nowhere/nave.toml` cannot be used: No such file"),
        (
            &["up", "--rest", "127.0.0.1:0", "--sim", "127.0.0.1:0", "--set", "sim.plan=/nowhere"],
            "sim.plan: `/nowhere` cannot be used",
        ),
        (
            &["up", "--rest", "127.0.0.1:0", "--sim", "127.0.0.1:0", "--set", "rest.token_file=/nowhere"],
            "rest.token_file: `/nowhere` cannot be used",
        ),
        (&["operations", "list", "--url", "not a url"], "--url is `not a url`"),
        (&["operations", "list", "--token-file", "/nowhere"], "--token-file: cannot read /nowhere"),
        (&["operations", "list", "--all", "--limit", "5"], "cannot be used with"),
        (&["operations", "start", "w", "k", "--body", "@/nowhere"], "cannot read /nowhere"),
        (&["why", "a/b"], "`operation` is `a/b`"),
        (&["top", "flows", "--interval", "1ms"], "allowed is 100ms or more"),
        (&["topologies", "rebalance", "flows", "--threads", "65"], "65 is not in 1..=64"),
        (&["fly"], "unrecognized subcommand"),
    ] {
        let (code, _, err) = run(args);
        assert!(code == 2 && err.contains(message), "{args:?} ended with {code}: {err}");
    }
    let (code, _, err) = run(&["submit", "flws", "--bus", "kafka", "--brokers", "b:1"]);
    assert!(code == 1 && err.contains("NAVE-0036") && err.contains("did you mean `flows`?"), "{code}: {err}");
}

#[test]
fn an_unreachable_url_exits_with_3() {
    // Port 1 of the loopback interface is closed.
    for args in [
        &["topologies", "list"][..],
        &["top", "x"],
        &["operations", "list"],
        &["parked", "list"],
        &["spokes", "list"],
        &["why", "x"],
    ] {
        let (code, _, err) = run(&[args, &["--url", "http://127.0.0.1:1"]].concat());
        assert!(code == 3 && err.contains("cannot reach http://127.0.0.1:1"), "{args:?} ended with {code}: {err}");
    }
    let (code, _, err) = run(&["--json", "topologies", "list", "--url", "http://127.0.0.1:1"]);
    let fault: Value = serde_json::from_str(&err).unwrap();
    assert!(code == 3 && fault["detail"].as_str().unwrap().contains("cannot reach"), "{fault}");
}

#[test]
fn print_config_shows_the_effective_configuration() {
    let output = nave(&["up", "--print-config", "--lanes", "2", "--bus", "kafka", "--brokers", "b:1"])
        .env("NAVE_BUS_KAFKA_CLIENT_SASL_PASSWORD", "hunter2")
        .output()
        .unwrap();
    let printed: toml::Table = toml::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(printed["topologies"]["flows"]["stages"]["hub"]["lanes"].as_integer(), Some(2));
    assert_eq!(printed["bus"]["kafka"]["client"]["sasl.password"].as_str(), Some("(secret)"));
    assert_eq!(json(&["up", "--print-config"])["rest"]["listen"], "127.0.0.1:8088");
}

#[test]
fn a_topology_is_described_without_running_it() {
    let (_, out, _) = run(&["describe", "flows", "--set", "topologies.flows.apart=true"]);
    assert!(out.contains("stage speaker (4 lanes, at-least-once)"), "{out}");
    let described = json(&["describe"]);
    assert_eq!((&described[0]["name"], &described[0]["workflows"][0]["stage"]), (&"flows".into(), &"hub".into()));
    assert_eq!(described[0]["graph"]["edges"][1]["grouping"], "local");
}

#[test]
fn a_topology_is_drawn_without_running_it() {
    let apart = ["describe", "--set", "topologies.flows.apart=true", "--format"];
    for (format, part) in [
        ("text", "hub --calls--> speaker-worker   fields, by topic"),
        ("mermaid", "c2 ==>|\"calls, fields\"| c3"),
        ("svg", ">calls, fields</text>"),
    ] {
        let (code, out, _) = run(&[&apart[..], &[format]].concat());
        assert!(code == 0 && out.contains(part), "{format}: {out}");
    }
}

#[test]
fn completion_scripts_exist_for_all_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = run(&["completion", shell]);
        assert!(code == 0 && out.contains("topologies") && out.contains("parked"), "{shell}");
    }
}
