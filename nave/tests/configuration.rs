//! Configuration: sources, their precedence, and rejected values.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nave::config::{BusKind, Config, RawConfig, Sync};
use nave::program::Program;

fn program() -> Program {
    Program::flows().unwrap()
}

fn of_file(text: &str) -> Result<Config, String> {
    let mut said = RawConfig::default();
    said.file("nave.toml", text).and_then(|()| said.resolve(&program())).map_err(|faults| faults.to_string())
}

#[test]
fn the_documented_file_contains_the_defaults() {
    let text = include_str!("../../docs/nave.toml");
    let defaults = Config::defaults(&program(), BusKind::Embedded);
    assert_eq!(of_file(text).unwrap(), defaults);
    // The file contains every field: otherwise the printed configuration has a line that the file
    // lacks.
    let fields = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(fields(text), fields(&defaults.to_toml()));
}

#[test]
fn a_printed_configuration_can_be_read_back() {
    let text = "threads = 3\n[bus]\nkind = \"kafka\"\n[bus.kafka]\nbrokers = \"here:9092\"\nclient.\"reconnect.backoff.ms\" = 5\n";
    let config = of_file(text).unwrap();
    assert_eq!(of_file(&config.to_toml()).unwrap(), config);
}

#[test]
fn command_line_overrides_environment_overrides_file_overrides_defaults() {
    let mut said = RawConfig::default();
    let patience = |said: &RawConfig| said.resolve(&program()).unwrap().rest.patience_ms;
    assert_eq!(patience(&said), 10_000);
    said.option("--patience", "rest.patience_ms", 4);
    let option = said.clone();
    said = RawConfig::default();
    said.file("nave.toml", "[rest]\npatience_ms = 2").unwrap();
    assert_eq!(patience(&said), 2);
    said.environment([("NAVE_REST_PATIENCE_MS".to_owned(), "3".to_owned())]);
    assert_eq!(patience(&said), 3);
    said.assignment("rest.patience_ms=4").unwrap();
    assert_eq!(patience(&said), 4);
    assert_eq!(patience(&option), 4);
}

#[test]
fn stages_are_separate_on_kafka_and_combined_on_the_embedded_bus() {
    let kafka = "[bus]\nkind = \"kafka\"\nkafka.brokers = \"here:9092\"\n";
    assert!(!of_file("").unwrap().topologies["flows"].apart);
    assert!(of_file(kafka).unwrap().topologies["flows"].apart);
    assert!(!of_file(&format!("{kafka}[topologies.flows]\napart = false")).unwrap().topologies["flows"].apart);
}

#[test]
fn a_stage_uses_the_threads_of_the_process_by_default() {
    let config = of_file("threads = 3\n[topologies.flows.stages.speaker]\nthreads = 5").unwrap();
    let stages = &config.topologies["flows"].stages;
    assert_eq!((stages["hub"].threads, stages["speaker"].threads), (3, 5));
}

#[test]
fn a_stage_overrides_its_topology_which_overrides_the_process() {
    let layouts = |text: &str| {
        let config = of_file(text).unwrap();
        assert_eq!(of_file(&config.to_toml()).unwrap(), config, "it can be printed and read back");
        let stages = &config.topologies["flows"].stages;
        ["hub", "speaker"].map(|stage| (stages[stage].lanes, stages[stage].threads))
    };
    let topology = "threads = 3\n[topologies.flows]\nlanes = 8\nthreads = 2\n";
    assert_eq!(layouts("threads = 3"), [(4, 3), (4, 3)]);
    assert_eq!(layouts(topology), [(8, 2), (8, 2)]);
    assert_eq!(layouts(&format!("{topology}[topologies.flows.stages.hub]\nlanes = 2")), [(2, 2), (8, 2)]);
    assert_eq!(layouts(&format!("{topology}[topologies.flows.stages.speaker]\nthreads = 5")), [(8, 2), (8, 5)]);
}

#[test]
fn the_disk_bus_has_a_directory_and_a_sync_mode() {
    let config = of_file("[bus.disk]\ndata = \"/var/lib/nave\"\nsync = \"always\"").unwrap();
    assert_eq!((config.bus.disk.data.as_str(), config.bus.disk.sync), ("/var/lib/nave", Sync::Always));
}

#[test]
fn the_simulated_controller_stores_its_tables_next_to_the_bus() {
    let directory = |text: &str| of_file(text).unwrap().sim_directory().map(|path| path.display().to_string());
    assert_eq!(directory(""), None);
    assert_eq!(directory("bus.disk.data = \"/d\""), Some("/d/floodlight-sim".to_owned()));
    assert_eq!(directory("bus.disk.data = \"/d\"\nsim.data = \"/s\""), Some("/s".to_owned()));
    assert_eq!(directory("bus.kind = \"kafka\"\nbus.kafka.brokers = \"here:9092\""), None);
}

/// Each invalid file with the line, the field and the message of its error.
const ERRORS: &[(&str, u32, &str, &str)] = &[
    ("rest = 5", 1, "rest", "is 5; allowed is a section with fields"),
    ("\n[rset]\nlisten = \"x\"", 3, "rset", "is not a field; known fields: bus, health, log, prefix, rest"),
    (
        "[rest]\nlsten = \"127.0.0.1:1\"",
        2,
        "rest.lsten",
        "is not a field; known fields: body_bytes, cached_operations, connections, listen",
    ),
    ("[rest]\n\nlisten = \"nowhere\"", 3, "rest.listen", "is \"nowhere\"; allowed is an address and a port"),
    ("[rest]\nlisten = \"0.0.0.0:80\"", 2, "rest.listen", "allowed is a loopback address"),
    ("[health]\nlisten = \"0.0.0.0:80\"", 2, "health.listen", "this interface has no authentication"),
    ("[sim]\nlisten = 8089", 2, "sim.listen", "is 8089; allowed is an address and a port"),
    ("[rest]\npatience_ms = -1", 2, "rest.patience_ms", "is -1; allowed is 1 to 3600000"),
    ("[rest]\npatience_ms = 0", 2, "rest.patience_ms", "is 0; allowed is 1 to 3600000"),
    ("[rest]\nunanswered_per_lane = 0", 2, "rest.unanswered_per_lane", "is 0"),
    ("[rest]\nbody_bytes = 1", 2, "rest.body_bytes", "is 1; allowed is 1024 to 1000000"),
    ("[rest]\nrequests = 0", 2, "rest.requests", "is 0"),
    ("[rest]\nconnections = 0", 2, "rest.connections", "is 0"),
    ("[rest]\nwatchers = 0", 2, "rest.watchers", "is 0"),
    ("[rest]\ncached_operations = 0", 2, "rest.cached_operations", "is 0"),
    ("[rest]\ntoken_file = true", 2, "rest.token_file", "is true; allowed is a string"),
    ("prefix = \"a.b\"", 1, "prefix", "is \"a.b\"; allowed is 1 to 64 characters"),
    ("threads = 0", 1, "threads", "is 0; allowed is 1 to 64"),
    ("log = \"=,=\"", 1, "log", "has the level ``; allowed is off, error, warn"),
    ("log = \"warn,topolgy=debug\"", 1, "log", "names `topolgy` (did you mean `topology`?)"),
    ("[bus.kafka]\nbrokers = \"b:1\"", 2, "bus.kafka.brokers", "has no effect: it needs bus.kind = \"kafka\""),
    ("[bus.kafka.client]\n\"sasl.username\" = \"n\"", 2, "bus.kafka.client.sasl.username", "has no effect"),
    ("[bus.disk]\nsync = \"never\"", 2, "bus.disk.sync", "has no effect: it needs bus.disk.data"),
    (
        "[bus.disk]\ndata = \"d\"\nsync_interval_ms = 5",
        3,
        "bus.disk.sync_interval_ms",
        "needs bus.disk.sync = \"interval\"",
    ),
    (
        "[bus]\nkind = \"kafka\"\nkafka.brokers = \"b:1\"\ndisk.data = \"d\"",
        4,
        "bus.disk.data",
        "needs bus.kind = \"embedded\"",
    ),
    ("[bus]\nkind = \"rabbit\"", 2, "bus.kind", "is \"rabbit\"; allowed is \"embedded\" or \"kafka\""),
    ("[bus]\nkind = \"kafka\"", 0, "bus.kafka.brokers", "is empty; allowed is a list of brokers"),
    ("[bus.disk]\nsync = \"often\"", 2, "bus.disk.sync", "is \"often\"; allowed is \"always\""),
    ("[bus.disk]\nsync_interval_ms = 0", 2, "bus.disk.sync_interval_ms", "is 0; allowed is 1 to 60000"),
    ("[bus.kafka]\nreplication = 0", 2, "bus.kafka.replication", "is 0; allowed is 1 to 32"),
    ("[bus.kafka]\nreplication = 70000", 2, "bus.kafka.replication", "is 70000; allowed is 1 to 32"),
    ("[bus.kafka]\nsession_timeout_ms = 10", 2, "bus.kafka.session_timeout_ms", "is 10; allowed is 1000"),
    (
        "[bus.kafka.client]\n\"enable.auto.commit\" = true",
        2,
        "bus.kafka.client.enable.auto.commit",
        "may not be set: offsets",
    ),
    ("[bus.kafka.client]\nacks = 1", 2, "bus.kafka.client.acks", "may not be set"),
    ("[bus.kafka.client]\ndebug = []", 2, "bus.kafka.client.debug", "allowed is a string"),
    ("[shutdown]\ndrain_ms = 9999999999", 2, "shutdown.drain_ms", "allowed is 0 to 3600000"),
    ("[topologies.trips]\napart = true", 2, "topologies.trips", "is not a field; known fields: flows"),
    ("[topologies.flows]\napart = 2", 2, "topologies.flows.apart", "is 2; allowed is true or false"),
    ("[topologies.flows]\nlanes = 1025", 2, "topologies.flows.lanes", "is 1025; allowed is 0 to 1024"),
    ("[topologies.flows]\nthreads = 0", 2, "topologies.flows.threads", "is 0; allowed is 1 to 64"),
    ("[topologies.flows.stages.hub]\nlanes = 0", 2, "topologies.flows.stages.hub.lanes", "is 0; allowed is 1 to 1024"),
    ("[topologies.flows.stages.hub]\nmode = \"twice\"", 2, "topologies.flows.stages.hub.mode", "\"at-least-once\""),
    (
        "[topologies.flows.stages.hop]\nlanes = 2",
        2,
        "topologies.flows.stages.hop",
        "is not a field; known fields: hub, speaker",
    ),
    ("[topologies.flows.settings.hub]\nlife = 2", 2, "topologies.flows.settings.hub.life", "live, remembered"),
    (
        "[topologies.flows.settings.worker-speaker]\nattempts = 0",
        2,
        "topologies.flows.settings.worker-speaker.attempts",
        "is 0",
    ),
    (
        "[topologies.flows.settings.worker-speaker]\nattempts = 4294967296",
        2,
        "topologies.flows.settings.worker-speaker.attempts",
        "is 4294967296",
    ),
];

#[test]
fn each_error_names_line_field_value_and_allowed_values() {
    for (text, line, field, told) in ERRORS {
        let faults = of_file(text).expect_err(text);
        let said_by = if *line == 0 { "the defaults".to_owned() } else { format!("nave.toml, line {line}") };
        assert!(faults.starts_with("NAVE-0037: the configuration cannot be used"), "{faults}");
        assert!(faults.contains(&format!("{said_by}: `{field}`")), "{text:?}: {faults}");
        assert!(faults.contains(told), "{text:?}: {faults}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let faults = of_file("threads = \"many\"\n[rest]\nlsten = 1\npatience_ms = \"long\"").unwrap_err();
    for field in ["`threads`", "`rest.lsten`", "`rest.patience_ms`", "(3 faults)"] {
        assert!(faults.contains(field), "{field}: {faults}");
    }
}

#[test]
fn invalid_toml_is_reported_with_its_line() {
    let faults = of_file("threads = 1\nrest ==").unwrap_err();
    assert!(faults.contains("nave.toml, line 2") && faults.contains("is not TOML"), "{faults}");
}

#[test]
fn a_misspelt_variable_is_reported_and_a_foreign_one_ignored() {
    let of_variable = |name: &str, value: &str| {
        let mut said = RawConfig::default();
        said.environment([(name.to_owned(), value.to_owned())]);
        said.resolve(&program()).map_err(|faults| faults.to_string())
    };
    assert!(of_variable("NAVE_REST_LISTN", "x").unwrap_err().contains("did you mean NAVE_REST_LISTEN?"));
    assert!(of_variable("NAVE_THREADS", "many").unwrap_err().contains("NAVE_THREADS: `threads` is \"many\""));
    assert!(of_variable("NAVE_SERVICE_PORT_8088_TCP", "x").is_ok());
    assert_eq!(
        of_variable("NAVE_TOPOLOGIES_FLOWS_SETTINGS_WORKER_SPEAKER_ATTEMPTS", "2").unwrap().topologies["flows"]
            .settings["worker-speaker"]["attempts"],
        2
    );
}

#[test]
fn secrets_come_from_the_environment_and_are_masked_in_output() {
    let mut said = RawConfig::default();
    said.environment([
        ("NAVE_BUS_KIND".to_owned(), "kafka".to_owned()),
        ("NAVE_BUS_KAFKA_BROKERS".to_owned(), "here:9092".to_owned()),
        ("NAVE_BUS_KAFKA_CLIENT_SASL_PASSWORD".to_owned(), "hunter2".to_owned()),
        ("NAVE_BUS_KAFKA_CLIENT_SASL_USERNAME".to_owned(), "nave".to_owned()),
    ]);
    let config = said.resolve(&program()).unwrap();
    assert_eq!(config.bus.kafka.client["sasl.password"], "hunter2");
    let printed = config.to_toml();
    assert!(!printed.contains("hunter2") && printed.contains("(secret)") && printed.contains("nave"), "{printed}");
}

#[test]
fn a_topology_file_sets_the_fields_below_the_topologys_name() {
    let mut said = RawConfig::default();
    said.topology_file("flows", "t.toml", "apart = true\n[stages.speaker]\nlanes = 8\n[settings.hub]\nlive = 10")
        .unwrap();
    let flows = &said.resolve(&program()).unwrap().topologies["flows"];
    assert_eq!((flows.apart, flows.stages["speaker"].lanes, &flows.settings["hub"]["live"]), (true, 8, &10.into()));
    let topology = flows.apply(program().topology("flows").unwrap()).unwrap();
    assert!(topology.describe().contains("stage speaker (8 lanes, at-least-once)"), "{}", topology.describe());
    let mut said = RawConfig::default();
    said.topology_file("flows", "t.toml", "apart = true\nrest.listen = \"x\"").unwrap();
    assert!(said.resolve(&program()).unwrap_err().to_string().contains("t.toml, line 2: `topologies.flows.rest"));
}
