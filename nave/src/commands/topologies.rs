//! `nave topologies`: submitted topologies.

use std::time::Duration;

use clap::Subcommand;

use super::output::{Output, listing};
use super::{RemoteArgs, describe};

#[derive(Debug, Subcommand)]
pub(super) enum Topologies {
    /// List submitted topologies
    List {
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Print what was submitted: stages, components, streams and groupings, workflows
    Describe(describe::RemoteDescribeArgs),
    /// Activate a topology: its spouts continue where they stopped, and it accepts requests
    Activate {
        /// Name of the topology
        name: String,
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Deactivate a topology: its spouts pause, and it accepts no new requests
    Deactivate {
        /// Name of the topology
        name: String,
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Change the number of threads of a topology in each process that runs it; its lanes stay
    Rebalance {
        /// Name of the topology
        name: String,
        /// Threads for each stage [default: as each process is configured]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
        threads: Option<u32>,
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Kill a topology: stop its intake, finish its operations, and end it
    Kill {
        /// Name of the topology
        name: String,
        /// Maximum time to finish its operations; then it ends anyway
        #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
        wait: Duration,
        #[command(flatten)]
        at: RemoteArgs,
    },
}

pub(super) fn perform(command: &Topologies) -> anyhow::Result<Output> {
    match command {
        Topologies::List { at } => {
            let columns = [("NAME", "/name"), ("STATE", "/state"), ("SUBMITTED", "/at"), ("WORKFLOWS", "/workflows")];
            Ok(listing(at.client()?.topologies()?, &columns))
        }
        Topologies::Describe(args) => describe::submitted(args),
        Topologies::Activate { name, at } => {
            let json = at.client()?.change_activity(name, "activate")?;
            Ok(Output::Text { text: format!("{name} is active: its spouts continue, and it accepts requests"), json })
        }
        Topologies::Deactivate { name, at } => {
            let json = at.client()?.change_activity(name, "deactivate")?;
            let text = format!(
                "{name} is inactive: its spouts pause, it accepts no new operations, and handles what is in its inboxes"
            );
            Ok(Output::Text { text, json })
        }
        Topologies::Rebalance { name, threads, at } => {
            let json = at.client()?.rebalance(name, *threads)?;
            let threads = threads.map_or("its configured threads".to_owned(), |threads| format!("threads: {threads}"));
            let text = format!("{name} is rebalanced; for each stage, each process that runs it changes to {threads}");
            Ok(Output::Text { text, json })
        }
        Topologies::Kill { name, wait, at } => {
            let wait_ms = u64::try_from(wait.as_millis())?;
            let body = at.client()?.kill(name, wait_ms)?;
            let text = format!(
                "{name} accepts no new operations. It ends when its operations are finished, in {} at the latest; then its name is free",
                humantime::format_duration(*wait)
            );
            Ok(Output::Text { text, json: body })
        }
    }
}
