//! Options that are configuration: the strongest voice of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use toml::Value;

use super::told::{Told, Usage};
use crate::config::{BusKind, Config, Fault, Faults, Said, Sync};
use crate::node::Wanted;
use crate::process::Purpose;
use crate::program::Program;

/// What every command that opens a bus can be told.
#[derive(Debug, Args, Default)]
pub(super) struct ConfigArgs {
    /// A file of configuration; docs/nave.toml describes each field
    #[arg(long, env = "NAVE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// One field of the configuration, like `rest.patience_ms=5000`
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    sets: Vec<String>,
    /// Print the configuration as it would be used, secrets masked, and end
    #[arg(long)]
    print_config: bool,
    /// Where records are kept [default: embedded]
    #[arg(long, value_enum)]
    bus: Option<BusKind>,
    /// With `--bus kafka`: the brokers, like 127.0.0.1:9092
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// With the embedded bus: a directory to keep records in [default: in memory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With `--data`: when what was written is synced to the disk [default: always]
    #[arg(long, value_enum)]
    sync: Option<Sync>,
    /// With `--bus kafka`: submit nothing to a cluster that may lose what it acknowledged [default: warn]
    #[arg(long)]
    strict: bool,
    /// First word of every topic's name, to keep two installations on one cluster apart [default: nave]
    #[arg(long)]
    prefix: Option<String>,
    /// What is logged, like `info` or `warn,topology=debug` [default: warn]
    #[arg(long)]
    log: Option<String>,
}

/// Addresses and sizes of a process.
#[derive(Debug, Args, Default)]
pub(super) struct ProcessArgs {
    /// Threads that run the lanes of each stage [default: 1]
    #[arg(long)]
    threads: Option<u32>,
    /// Address of the REST interface [default: 127.0.0.1:8088]
    #[arg(long, value_name = "HOST:PORT")]
    rest: Option<SocketAddr>,
    /// Address of the simulated switch controller's admin interface [default: 127.0.0.1:8089]
    #[arg(long, visible_alias = "admin", value_name = "HOST:PORT")]
    sim: Option<SocketAddr>,
    /// Address of /healthz, /readyz and /metrics of a process without a northbound [default: 127.0.0.1:8087]
    #[arg(long, value_name = "HOST:PORT")]
    health: Option<SocketAddr>,
}

impl ProcessArgs {
    pub(super) fn say(&self, said: &mut Said) {
        if let Some(threads) = self.threads {
            said.option("--threads", "threads", i64::from(threads));
        }
        for (option, path, address) in [
            ("--rest", "rest.listen", self.rest),
            ("--sim", "sim.listen", self.sim),
            ("--health", "health.listen", self.health),
        ] {
            if let Some(address) = address {
                said.option(option, path, address.to_string());
            }
        }
    }
}

impl ProcessArgs {
    /// Refuses an option about a part that the process does not have.
    pub(super) fn refuse_unused(&self, purpose: &Purpose) -> Result<(), Usage> {
        let lanes = purpose.wanted != Wanted::Stages(Vec::new());
        for (option, said, used, needs) in [
            ("--threads", self.threads.is_some(), lanes, "a stage to run"),
            ("--rest", self.rest.is_some(), purpose.northbound, "a northbound in this process"),
            ("--sim", self.sim.is_some(), purpose.simulates, "the simulated switch controller in this process"),
            (
                "--health",
                self.health.is_some(),
                !purpose.northbound,
                "a process without a northbound, whose own port has /healthz",
            ),
        ] {
            if said && !used {
                return Err(Usage(format!("{option} has no effect: it needs {needs}")));
            }
        }
        Ok(())
    }
}

impl ConfigArgs {
    /// What was said in file, environment and options.
    pub(super) fn said(&self) -> anyhow::Result<Said> {
        let mut said = Said::default();
        if let Some(path) = &self.config {
            let name = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|error| Faults::from(Fault::file("--config", &name, &error)))?;
            said.file(&name, &text)?;
        }
        said.environment(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        for set in &self.sets {
            said.assignment(set)?;
        }
        let mut option = |option: &str, path: &str, value: Option<Value>| {
            if let Some(value) = value {
                said.option(option, path, value);
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
        Ok(said)
    }

    /// The configuration that comes of it, or what is printed in its place.
    pub(super) fn usable(&self, said: &Said, program: &Program) -> anyhow::Result<Result<Config, Told>> {
        let config = said.usable(program)?;
        if !self.print_config {
            return Ok(Ok(config));
        }
        let text = config.to_toml();
        let json = serde_json::to_value(toml::from_str::<toml::Table>(&text)?)?;
        Ok(Err(Told::Text { text, json }))
    }
}

/// The text of a file.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
