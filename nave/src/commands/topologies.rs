//! `nave topologies`: what was submitted.

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::RemoteArgs;
use super::told::{Told, fields, listing, shown};

#[derive(Debug, Subcommand)]
pub(super) enum Topologies {
    /// List every topology
    List {
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Print a topology: stages, lanes, settings, workflows, edges
    Describe {
        /// Its name
        name: String,
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// End a topology: it takes nothing new, finishes what it has, and ends
    Kill {
        /// Its name
        name: String,
        /// So long it may finish what it has; then it ends all the same
        #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
        wait: Duration,
        #[command(flatten)]
        at: RemoteArgs,
    },
}

pub(super) fn perform(command: &Topologies) -> anyhow::Result<Told> {
    match command {
        Topologies::List { at } => {
            let columns = [("NAME", "/name"), ("STATE", "/state"), ("SUBMITTED", "/at"), ("WORKFLOWS", "/workflows")];
            Ok(listing(at.client()?.topologies()?, &columns))
        }
        Topologies::Describe { name, at } => {
            let body = at.client()?.topology(name)?;
            Ok(Told::Text { text: described(&body), json: body })
        }
        Topologies::Kill { name, wait, at } => {
            let wait_ms = u64::try_from(wait.as_millis())?;
            let body = at.client()?.kill(name, wait_ms)?;
            let text = format!(
                "{name} takes nothing new and ends when it has finished what it has, in {} at the latest; its name is free then",
                humantime::format_duration(*wait)
            );
            Ok(Told::Text { text, json: body })
        }
    }
}

fn described(body: &Value) -> String {
    let Some(description) = body.get("description").and_then(Value::as_str) else {
        return fields(body.clone()).text(false);
    };
    let mut lines = vec![description.trim_end().to_owned()];
    lines.push(format!(
        "graph {}   build {}   wish {}",
        shown(body, "/graph"),
        shown(body, "/build"),
        shown(body, "/wish/wish")
    ));
    for workflow in body.get("workflows").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("workflow {} in stage {}", shown(workflow, "/name"), shown(workflow, "/stage")));
    }
    if let Some(Value::Object(settings)) = body.get("settings") {
        lines.extend(settings.iter().map(|(component, of)| format!("settings of {component}   {of}")));
    }
    lines.join("\n")
}
