//! `nave topics plan`: the topics that topologies need, for clusters where an administrator creates
//! them.

use bus::{Cleanup, TopicSpec};
use clap::Subcommand;
use serde_json::{Value, json};

use super::options::ConfigArgs;
use super::output::Output;
use super::submit::{code_of, laid_out};
use crate::config::Config;
use crate::node::control;
use crate::program::Program;

#[derive(Debug, Subcommand)]
pub(super) enum Topics {
    /// Print the required topics: partitions, clean-up, retention, time stamps
    Plan {
        /// Name of the topology [default: all]
        name: Option<String>,
        /// Print commands for `kafka-topics.sh`
        #[arg(long)]
        commands: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn perform(command: &Topics, program: &Program) -> anyhow::Result<Output> {
    let Topics::Plan { name, commands, config: args } = command;
    let config = match args.resolve(&args.raw()?, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    let topics = needed(name.as_deref(), &config, program)?;
    let json: Vec<Value> = topics.iter().map(|topic| described(topic, &config)).collect();
    if *commands {
        let lines: Vec<String> = topics.iter().map(|topic| line(topic, &config)).collect();
        return Ok(Output::Text { text: lines.join("\n"), json: json.into() });
    }
    let row = |topic: &TopicSpec| {
        let found = bus::kafka::topic_settings(topic.cleanup);
        let of = |name: &str| {
            found.iter().find(|(known, _)| *known == name).map_or("-".to_owned(), |(_, value)| value.clone())
        };
        vec![
            topic.name.clone(),
            topic.partitions.to_string(),
            of("cleanup.policy"),
            of("retention.ms"),
            of("message.timestamp.type"),
        ]
    };
    let headings = ["TOPIC", "PARTITIONS", "CLEAN-UP", "RETENTION MS", "TIME STAMPS"];
    let rows: Vec<_> = topics.iter().map(row).collect();
    Ok(Output::table(&headings, &rows, json.into()))
}

/// Returns the required topics, the control topic first, without duplicates.
fn needed(name: Option<&str>, config: &Config, program: &Program) -> anyhow::Result<Vec<TopicSpec>> {
    let names = config.topics();
    let mut topics = vec![control::topic(&names)];
    let chosen: Vec<&str> = match name {
        Some(name) => vec![name],
        None => program.topologies().map(|(name, _)| name).collect(),
    };
    for name in chosen {
        for topic in laid_out(name, code_of(name, program)?, config)?.topics(&names) {
            if !topics.iter().any(|known| known.name == topic.name) {
                topics.push(topic);
            }
        }
    }
    Ok(topics)
}

fn described(topic: &TopicSpec, config: &Config) -> Value {
    let settings: serde_json::Map<String, Value> = bus::kafka::topic_settings(topic.cleanup)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let kept = match topic.cleanup {
        Cleanup::Keep => "until a snapshot covers it",
        Cleanup::DeleteAfterMs(_) => "for a time",
        Cleanup::Compact => "the last of each key",
    };
    json!({
        "name": topic.name, "partitions": topic.partitions, "replication": config.bus.kafka.replication, "keeps": kept,
        "settings": settings,
    })
}

fn line(topic: &TopicSpec, config: &Config) -> String {
    let brokers = if config.bus.kafka.brokers.is_empty() { "$BROKERS" } else { &config.bus.kafka.brokers };
    let settings: Vec<String> = bus::kafka::topic_settings(topic.cleanup)
        .into_iter()
        .map(|(name, value)| format!(" --config {name}={value}"))
        .collect();
    format!(
        "kafka-topics.sh --bootstrap-server {brokers} --create --if-not-exists --topic {} --partitions {} --replication-factor \
         {}{}",
        topic.name,
        topic.partitions,
        config.bus.kafka.replication,
        settings.concat()
    )
}
