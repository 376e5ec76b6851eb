//! `nave operations` and `nave parked`: start, list and control operations.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use wire::OperationId;

use super::output::{Output, Usage, cell, fields, items, listing};
use super::{RemoteArgs, options};
use crate::client::Start;

/// Columns of a list of operations.
const COLUMNS: [(&str, &str); 8] = [
    ("OPERATION", "/operation"),
    ("TOPOLOGY", "/topology"),
    ("WORKFLOW", "/workflow"),
    ("KEY", "/key"),
    ("STATE", "/state"),
    ("LIVE", "/live"),
    ("STARTED", "/begun"),
    ("OUTCOME", "/outcome"),
];

/// Maximum number of rows per page of the REST interface.
const LONGEST_PAGE: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Operations {
    /// Start an operation and wait for its answer
    Start(StartArgs),
    /// List operations, newest first
    List(ListArgs),
    /// Print an operation as data; `nave why` explains it
    Show(OneArgs),
    /// Send a signal to an operation that waits for it
    Signal {
        #[command(flatten)]
        one: OneArgs,
        /// Name of the signal, as in `nave operations show`
        name: String,
        /// Body of the signal as JSON; `@FILE` reads it from a file
        #[arg(long, default_value = "null")]
        body: String,
    },
    /// Cancel an operation: undo its calls and end it
    Cancel(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum Parked {
    /// List parked operations
    List(ListArgs),
    /// Print a parked operation, with the rule that it violated
    Show(OneArgs),
    /// Resume a parked operation at the same state
    Resume(OneArgs),
    /// End a parked operation as failed, without undoing its calls
    Abort(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Workflow, like create-flow
    workflow: String,
    /// Key of the operation; operations of one key run one after another
    key: String,
    /// Topology, if several have a workflow of that name
    #[arg(long)]
    topology: Option<String>,
    /// Body of the request as JSON; `@FILE` reads it from a file
    #[arg(long, default_value = "{}")]
    body: String,
    /// Idempotency key: a repeat with the same key gets the same answer
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    at: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only operations of this topology
    #[arg(long)]
    topology: Option<String>,
    /// Only operations of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Only operations in this state
    #[arg(long)]
    state: Option<String>,
    /// Only operations with this key
    #[arg(long)]
    key: Option<String>,
    /// Maximum number of rows [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Begin after this position, which the last line of the previous page shows
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
    /// List all operations that the northbound remembers
    #[arg(long, conflicts_with_all = ["limit", "after"])]
    all: bool,
    #[command(flatten)]
    at: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// Id of the operation, from its answer or a 202
    operation: String,
    #[command(flatten)]
    at: RemoteArgs,
}

pub(super) fn perform(command: &Operations) -> anyhow::Result<Output> {
    match command {
        Operations::Start(args) => start(args),
        Operations::List(args) => list(args, args.state.clone()),
        Operations::Show(one) => show(one),
        Operations::Signal { name, one, body } => {
            let body = read_body(body)?;
            Ok(fields(one.at.client()?.signal(&id(one)?, name, &body)?))
        }
        Operations::Cancel(one) => Ok(fields(one.at.client()?.cancel(&id(one)?)?)),
    }
}

pub(super) fn parked(command: &Parked) -> anyhow::Result<Output> {
    match command {
        Parked::List(args) => list(args, Some("parked".to_owned())),
        Parked::Show(one) => show(one),
        Parked::Resume(one) => send_command(one, "resume"),
        Parked::Abort(one) => send_command(one, "abort"),
    }
}

fn start(args: &StartArgs) -> anyhow::Result<Output> {
    let client = args.at.client()?;
    let body = read_body(&args.body)?;
    let topology = match &args.topology {
        Some(topology) => topology.clone(),
        None => topology_with(&client.topologies()?, &args.workflow)?,
    };
    let at = Start {
        topology: &topology,
        workflow: &args.workflow,
        key: &args.key,
        idempotency_key: args.idempotency_key.as_deref(),
    };
    Ok(fields(client.start(&at, &body)?))
}

/// Returns the one topology that has this workflow.
fn topology_with(topologies: &Value, workflow: &str) -> Result<String, Usage> {
    let has = |topology: &&&Value| {
        let workflows = topology.get("workflows").and_then(Value::as_array);
        workflows
            .into_iter()
            .flatten()
            .any(|known| known.as_str() == Some(workflow) || cell(known, "/name") == workflow)
    };
    let all = items(topologies);
    let of: Vec<String> = all.iter().filter(has).map(|topology| cell(topology, "/name")).collect();
    match &of[..] {
        [one] => Ok(one.clone()),
        [] => Err(Usage(format!(
            "no submitted topology has a workflow `{workflow}`; {} topologies list shows them",
            crate::program::name()
        ))),
        several => Err(Usage(format!(
            "several topologies have this workflow: {}; choose one with --topology",
            several.join(", ")
        ))),
    }
}

fn list(args: &ListArgs, state: Option<String>) -> anyhow::Result<Output> {
    let pairs = [
        ("topology", args.topology.clone()),
        ("workflow", args.workflow.clone()),
        ("state", state),
        ("key", args.key.clone()),
        ("limit", if args.all { Some(LONGEST_PAGE.to_string()) } else { args.limit.map(|limit| limit.to_string()) }),
        ("after", args.after.clone()),
    ];
    let mut query: Vec<(&str, String)> = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let client = args.at.client()?;
    let mut body = client.operations(&query)?;
    // Each page begins after the last one, so this ends at the last operation that the northbound
    // remembers.
    while args.all
        && let Some(after) = next_position(&body)
    {
        query.retain(|(name, _)| *name != "after");
        query.push(("after", after));
        let mut page = client.operations(&query)?;
        let rows = page["operations"].as_array_mut().map(std::mem::take).unwrap_or_default();
        body["next"] = page["next"].take();
        body["operations"].as_array_mut().context("the answer has no list of operations")?.extend(rows);
    }
    let next = next_position(&body);
    let shown = items(&body).len();
    Ok(listing(body, &COLUMNS).with_line(
        next.map(|after| format!("{shown} rows, more available: --after {after} shows the next page, --all shows all")),
    ))
}

/// Returns the position after which the next page begins; none on the last page.
fn next_position(body: &Value) -> Option<String> {
    let (_, query) = body["next"].as_str()?.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("after=")).map(str::to_owned)
}

fn show(one: &OneArgs) -> anyhow::Result<Output> {
    Ok(fields(one.at.client()?.operation(&id(one)?)?))
}

fn send_command(one: &OneArgs, command: &str) -> anyhow::Result<Output> {
    Ok(fields(one.at.client()?.command(&id(one)?, command)?))
}

fn id(one: &OneArgs) -> Result<OperationId, Usage> {
    OperationId::new(&one.operation).map_err(|error| Usage(error.to_string()))
}

fn read_body(text: &str) -> anyhow::Result<Value> {
    let text = text.strip_prefix('@').map_or_else(|| Ok(text.to_owned()), |path| options::read(path.as_ref()))?;
    serde_json::from_str(&text).map_err(|error| Usage(format!("--body is not JSON: {error}"))).context("the body")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_topology_is_optional_if_only_one_has_the_workflow() {
        let topologies = json!([
            {"name": "flows", "workflows": [{"name": "create-flow"}, {"name": "remove-flow"}]},
            {"name": "trips", "workflows": [{"name": "book"}, {"name": "remove-flow"}]},
        ]);
        assert_eq!(topology_with(&topologies, "book").unwrap(), "trips");
        assert!(topology_with(&topologies, "remove-flow").unwrap_err().0.contains("flows, trips"));
        assert!(topology_with(&topologies, "cook").unwrap_err().0.contains("`cook`"));
    }
}
