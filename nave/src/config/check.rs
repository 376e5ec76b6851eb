//! Limits of each field, and combinations of fields that are refused.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::ConfigError;
use super::{BusKind, Config, Layout, Sync};

/// Returns the allowed values of a field where its type alone does not state them.
pub(super) fn allowed(path: &str) -> Option<&'static str> {
    Some(match path {
        "bus.kind" => "\"embedded\" or \"kafka\"",
        "bus.disk.sync" => "\"always\", \"interval\" or \"never\"",
        "prefix" => "1 to 64 characters of A-Z a-z 0-9 _ -",
        "threads" => "1 to 64",
        "rest.listen" | "health.listen" | "sim.listen" => "an address and a port, like \"127.0.0.1:8088\"",
        "bus.kafka.brokers" => "a list of brokers, like \"127.0.0.1:9092,127.0.0.1:9093\"",
        "bus.kafka.replication" => "1 to 32",
        "bus.kafka.session_timeout_ms" => {
            "1000 to 3600000; brokers accept 6000 or more by default (group.min.session.timeout.ms)"
        }
        "bus.disk.sync_interval_ms" => "1 to 60000",
        "rest.unanswered_per_lane"
        | "rest.cached_operations"
        | "rest.requests"
        | "rest.connections"
        | "rest.watchers" => "1 to 1000000",
        "rest.body_bytes" => "1024 to 1000000, the largest record that the bus accepts",
        "rest.patience_ms" => "1 to 3600000",
        "snapshots.every_ms" | "shutdown.intake_ms" | "shutdown.drain_ms" | "shutdown.lanes_ms"
        | "shutdown.close_ms" => "0 to 3600000",
        path if path.starts_with("topologies.") => match path.rsplit('.').next() {
            Some("mode") => "\"exactly-once\" or \"at-least-once\"",
            Some("lanes") if path.contains(".stages.") => "1 to 1024",
            Some("lanes") => "0 to 1024; 0 means as in the code",
            Some("threads") => "1 to 64",
            Some(_) | None => return None,
        },
        _ => return None,
    })
}

/// Returns all errors of a configuration whose fields have the right types. `source` returns the
/// source of the field at a path.
pub(super) fn faults(config: &Config, source: &dyn Fn(&str) -> String) -> Vec<ConfigError> {
    let mut faults = Vec::new();
    let mut range = |path: &str, value: u64, min: u64, max: u64| {
        if !(min..=max).contains(&value) {
            let allowed = allowed(path).expect("a field with a range has a text");
            faults.push(ConfigError::value(source(path), path, &value.to_string(), allowed));
        }
    };
    let hour = 3_600_000;
    range("threads", config.threads.into(), 1, 64);
    range("bus.kafka.replication", config.bus.kafka.replication.into(), 1, 32);
    range("bus.kafka.session_timeout_ms", config.bus.kafka.session_timeout_ms, 1_000, hour);
    range("bus.disk.sync_interval_ms", config.bus.disk.sync_interval_ms, 1, 60_000);
    range("snapshots.every_ms", config.snapshots.every_ms, 0, hour);
    range("rest.unanswered_per_lane", config.rest.unanswered_per_lane as u64, 1, 1_000_000);
    range("rest.cached_operations", config.rest.cached_operations as u64, 1, 1_000_000);
    range("rest.requests", config.rest.requests as u64, 1, 1_000_000);
    range("rest.connections", config.rest.connections as u64, 1, 1_000_000);
    range("rest.watchers", config.rest.watchers as u64, 1, 1_000_000);
    range("rest.body_bytes", config.rest.body_bytes as u64, 1_024, 1_000_000);
    range("rest.patience_ms", config.rest.patience_ms, 1, hour);
    range("shutdown.intake_ms", config.shutdown.intake_ms, 0, hour);
    range("shutdown.drain_ms", config.shutdown.drain_ms, 0, hour);
    range("shutdown.lanes_ms", config.shutdown.lanes_ms, 0, hour);
    range("shutdown.close_ms", config.shutdown.close_ms, 0, hour);
    for (name, layout) in &config.topologies {
        range(&format!("topologies.{name}.lanes"), layout.lanes.into(), 0, 1_024);
        range(&format!("topologies.{name}.threads"), layout.threads.into(), 1, 64);
        for (stage, layout) in &layout.stages {
            range(&format!("topologies.{name}.stages.{stage}.lanes"), layout.lanes.into(), 1, 1_024);
            range(&format!("topologies.{name}.stages.{stage}.threads"), layout.threads.into(), 1, 64);
        }
    }
    let mut fault = |path: &str, value: &str, allowed: &str| {
        faults.push(ConfigError::value(source(path), path, value, allowed));
    };
    if !is_topic_name_part(&config.prefix) {
        fault("prefix", &format!("{:?}", config.prefix), allowed("prefix").expect("it has one"));
    }
    if config.bus.kind == BusKind::Kafka && config.bus.kafka.brokers.is_empty() {
        fault("bus.kafka.brokers", "empty", allowed("bus.kafka.brokers").expect("it has one"));
    }
    for refused in bus::kafka::refused(config.bus.kafka.client.keys().map(String::as_str)) {
        let path = format!("bus.kafka.client.{}", refused.property);
        faults.push(ConfigError {
            source: source(&path),
            field: path,
            message: format!("may not be set: {}", refused.reason),
        });
    }
    let token = !config.rest.token_file.is_empty();
    let open = [
        ("rest.listen", config.rest.listen, token),
        ("health.listen", config.health.listen, false),
        ("sim.listen", config.sim.listen, false),
    ];
    faults.extend(open.into_iter().filter_map(|(path, address, token)| beyond_loopback(path, address, token, source)));
    for (name, layout) in &config.topologies {
        faults.extend(settings(name, layout, source));
    }
    faults
}

/// Returns an error for each given field that has no effect with the other fields, with the field
/// that it needs.
///
/// Values of a file or a variable that equal the default are accepted, so a file may list every
/// field.
pub(super) fn without_effect<'a>(
    config: &Config,
    given: impl Iterator<Item = (&'a str, &'a toml::Value, &'a str)>,
    default: impl Fn(&str) -> Option<toml::Value>,
) -> Vec<ConfigError> {
    let (kafka, disk) = (config.bus.kind == BusKind::Kafka, &config.bus.disk);
    let needs = |path: &str| match path {
        path if path.starts_with("bus.kafka.") && !kafka => Some("bus.kind = \"kafka\" (`--bus kafka`)"),
        path if path.starts_with("bus.disk.") && kafka => Some("bus.kind = \"embedded\""),
        "bus.disk.sync" | "bus.disk.sync_interval_ms" if disk.data.is_empty() => Some("bus.disk.data (`--data DIR`)"),
        "bus.disk.sync_interval_ms" if disk.sync != Sync::Interval => Some("bus.disk.sync = \"interval\""),
        _ => None,
    };
    let given =
        given.filter(|(path, value, source)| source.starts_with("--") || default(path).as_ref() != Some(*value));
    given
        .filter_map(|(path, _, source)| {
            let message = format!("has no effect: it needs {}", needs(path)?);
            Some(ConfigError { source: source.to_owned(), field: path.to_owned(), message })
        })
        .collect()
}

fn beyond_loopback(
    path: &str,
    address: SocketAddr,
    token: bool,
    source: &dyn Fn(&str) -> String,
) -> Option<ConfigError> {
    if address.ip().is_loopback() || token {
        return None;
    }
    let allowed = if path == "rest.listen" {
        "a loopback address (127.0.0.0/8, [::1]), or any with rest.token_file"
    } else {
        "a loopback address (127.0.0.0/8, [::1]): this interface has no authentication"
    };
    Some(ConfigError::value(source(path), path, &address.to_string(), allowed))
}

/// Checks the settings of known components as the components read them. A component that cannot
/// read its settings would silently use its defaults.
fn settings(topology: &str, layout: &Layout, source: &dyn Fn(&str) -> String) -> Vec<ConfigError> {
    let Value::Object(components) = &layout.settings else { return Vec::new() };
    let mut faults = Vec::new();
    for (component, settings) in components {
        let path = format!("topologies.{topology}.settings.{component}");
        let unreadable = match component.as_str() {
            "hub" => unreadable::<hub::HubSettings>(settings),
            #[cfg(feature = "flows")]
            "flows" => unreadable::<flows::FlowSettings>(settings),
            worker if worker.starts_with("worker-") => unreadable::<workers::WorkerSettings>(settings),
            _users_own => None,
        };
        if let Some((field, why)) = unreadable {
            let path = format!("{path}.{field}");
            let value = settings.get(&field).map_or_else(|| "missing".to_owned(), Value::to_string);
            faults.push(ConfigError::value(source(&path), &path, &value, &why));
        }
        let never_zero = ["attempts", "timeout_ms", "in_flight", "live", "active", "call_ms", "step_ms", "request_ms"];
        for field in never_zero.into_iter().filter(|field| settings.get(field).and_then(Value::as_u64) == Some(0)) {
            let path = format!("{path}.{field}");
            faults.push(ConfigError::value(source(&path), &path, "0", "a whole number from 1"));
        }
    }
    faults
}

fn unreadable<T: DeserializeOwned>(settings: &Value) -> Option<(String, String)> {
    let error = serde_path_to_error::deserialize::<_, T>(settings).err()?;
    Some((error.path().to_string(), error.inner().to_string()))
}

/// Returns true if `text` can be part of a topic name.
fn is_topic_name_part(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}
