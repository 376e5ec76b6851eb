//! Options that set configuration; they override all other sources.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use toml::Value;

use super::output::{Output, Usage};
use crate::config::{BusKind, Config, ConfigError, ConfigErrors, RawConfig, Sync};
use crate::node::StageSelection;
use crate::process::Purpose;
use crate::program::Program;

/// Options of every command that opens a bus.
#[derive(Debug, Args, Default)]
pub(super) struct ConfigArgs {
    /// Configuration file; docs/nave.toml describes each field
    #[arg(long, env = "NAVE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one field of the configuration, like `rest.patience_ms=5000`
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    sets: Vec<String>,
    /// Print the configuration in use, with secrets masked, and exit
    #[arg(long)]
    print_config: bool,
    /// Bus that keeps the records [default: embedded]
    #[arg(long, value_enum)]
    bus: Option<BusKind>,
    /// With `--bus kafka`: bootstrap brokers, like 127.0.0.1:9092
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// With the embedded bus: directory of the records [default: in memory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With `--data`: when to sync records to the disk [default: always]
    #[arg(long, value_enum)]
    sync: Option<Sync>,
    /// With `--bus kafka`: refuse to submit to a cluster that may lose acknowledged records
    /// [default: warn]
    #[arg(long)]
    strict: bool,
    /// Prefix of every topic name, to separate two installations on one cluster [default: nave]
    #[arg(long)]
    prefix: Option<String>,
    /// Log filter, like `info` or `warn,topology=debug` [default: warn]
    #[arg(long)]
    log: Option<String>,
}

/// Addresses and threads of a process.
#[derive(Debug, Args, Default)]
pub(super) struct ProcessArgs {
    /// Threads per stage [default: 1]
    #[arg(long)]
    threads: Option<u32>,
    /// Address of the REST interface [default: 127.0.0.1:8088]
    #[arg(long, value_name = "HOST:PORT")]
    rest: Option<SocketAddr>,
    /// Address of the admin interface of the simulated switch controller [default: 127.0.0.1:8089]
    #[arg(long, visible_alias = "admin", value_name = "HOST:PORT")]
    sim: Option<SocketAddr>,
    /// Address of /healthz, /readyz and /metrics without a northbound [default: 127.0.0.1:8087]
    #[arg(long, value_name = "HOST:PORT")]
    health: Option<SocketAddr>,
}

impl ProcessArgs {
    pub(super) fn apply(&self, raw: &mut RawConfig) {
        if let Some(threads) = self.threads {
            raw.option("--threads", "threads", i64::from(threads));
        }
        for (option, path, address) in [
            ("--rest", "rest.listen", self.rest),
            ("--sim", "sim.listen", self.sim),
            ("--health", "health.listen", self.health),
        ] {
            if let Some(address) = address {
                raw.option(option, path, address.to_string());
            }
        }
    }
}

impl ProcessArgs {
    /// Refuses an option for a part that the process does not run.
    pub(super) fn refuse_unused(&self, purpose: &Purpose) -> Result<(), Usage> {
        let lanes = purpose.wanted != StageSelection::Stages(Vec::new());
        for (option, is_given, is_used, needs) in [
            ("--threads", self.threads.is_some(), lanes, "a stage to run"),
            ("--rest", self.rest.is_some(), purpose.northbound, "a northbound in this process"),
            ("--sim", self.sim.is_some(), purpose.simulates, "the simulated switch controller in this process"),
            (
                "--health",
                self.health.is_some(),
                !purpose.northbound,
                "a process without a northbound; the port of a northbound already serves /healthz",
            ),
        ] {
            if is_given && !is_used {
                return Err(Usage(format!("{option} has no effect: it needs {needs}")));
            }
        }
        Ok(())
    }
}

impl ConfigArgs {
    /// Collects the values of file, environment and options.
    pub(super) fn raw(&self) -> anyhow::Result<RawConfig> {
        let mut raw = RawConfig::default();
        if let Some(path) = &self.config {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigErrors::from(ConfigError::file("--config", &name, &error)))?;
            raw.file(&name, &text)?;
        }
        raw.environment(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        for set in &self.sets {
            raw.assignment(set)?;
        }
        let mut option = |option: &str, path: &str, value: Option<Value>| {
            if let Some(value) = value {
                raw.option(option, path, value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::String);
        option("--bus", "bus.kind", self.bus.map(|bus| Value::String(name_of(&bus))));
        option("--brokers", "bus.kafka.brokers", text(&self.brokers));
        option("--data", "bus.disk.data", self.data.as_ref().map(|data| Value::String(data.display().to_string())));
        option("--sync", "bus.disk.sync", self.sync.map(|sync| Value::String(name_of(&sync))));
        option("--strict", "bus.kafka.strict", self.strict.then_some(Value::Boolean(true)));
        option("--prefix", "prefix", text(&self.prefix));
        option("--log", "log", text(&self.log));
        Ok(raw)
    }

    /// Returns the checked configuration, or the output of `--print-config` in its place.
    pub(super) fn resolve(&self, raw: &RawConfig, program: &Program) -> anyhow::Result<Result<Config, Output>> {
        let config = raw.resolve(program)?;
        if !self.print_config {
            return Ok(Ok(config));
        }
        let text = config.to_toml();
        let json = serde_json::to_value(toml::from_str::<toml::Table>(&text)?)?;
        Ok(Err(Output::Text { text, json }))
    }
}

/// Reads a file.
///
/// # Errors
/// If it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
