//! `nave topologies`: submitted topologies.

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::RemoteArgs;
use super::output::{Output, cell, fields, listing};

#[derive(Debug, Subcommand)]
pub(super) enum Topologies {
    /// List submitted topologies
    List {
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Print a topology: stages, components, streams and groupings, workflows
    Describe {
        /// Name of the topology
        name: String,
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
        Topologies::Describe { name, at } => {
            let body = at.client()?.topology(name)?;
            Ok(Output::Text { text: described(&body), json: body })
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

fn described(body: &Value) -> String {
    let Some(description) = body.get("description").and_then(Value::as_str) else {
        return fields(body.clone()).text(false);
    };
    let mut lines = vec![description.trim_end().to_owned()];
    lines.push(format!("build {}   {}", cell(body, "/build"), cell(body, "/state")));
    for workflow in body.get("workflows").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("workflow {} in stage {}", cell(workflow, "/name"), cell(workflow, "/stage")));
    }
    lines.join("\n")
}
