//! `nave operations` and `nave parked`: start, look at, and take in hand.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use wire::OperationId;

use super::told::{Told, Usage, fields, items, listing, shown};
use super::{RemoteArgs, said};
use crate::client::Start;

/// What a listing shows of an operation.
const COLUMNS: [(&str, &str); 8] = [
    ("OPERATION", "/operation"),
    ("TOPOLOGY", "/topology"),
    ("WORKFLOW", "/workflow"),
    ("KEY", "/key"),
    ("STATE", "/state"),
    ("LIVE", "/live"),
    ("BEGUN", "/begun"),
    ("OUTCOME", "/outcome"),
];

/// Maximum number of rows that the REST interface gives at once.
const LONGEST_PAGE: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Operations {
    /// Start a workflow, and wait for its answer as long as the northbound does
    Start(StartArgs),
    /// List operations, the newest first
    List(ListArgs),
    /// Print an operation; `nave why` tells it as a story
    Show(OneArgs),
    /// Send a signal to an operation that waits for one
    Signal {
        #[command(flatten)]
        one: OneArgs,
        /// The signal that it waits for, as `nave operations show` has it
        name: String,
        /// What is said, as JSON; `@FILE` reads it from a file
        #[arg(long, default_value = "null")]
        body: String,
    },
    /// Undo what an operation did, and end it
    Cancel(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum Parked {
    /// List parked operations
    List(ListArgs),
    /// Print a parked operation, with what it broke
    Show(OneArgs),
    /// Let a parked operation go on from where it stood
    Resume(OneArgs),
    /// End a parked operation as failed; what it did stays done
    Abort(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// The workflow, like create-flow
    workflow: String,
    /// The thing it is about: operations on one run one after another
    key: String,
    /// The topology, where several have a workflow of that name
    #[arg(long)]
    topology: Option<String>,
    /// What is asked, as JSON; `@FILE` reads it from a file
    #[arg(long, default_value = "{}")]
    body: String,
    /// A name for this request: a repeat with the same name gets the same answer
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    at: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those of this topology
    #[arg(long)]
    topology: Option<String>,
    /// Only those of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Only those in this state
    #[arg(long)]
    state: Option<String>,
    /// Only those about this thing
    #[arg(long)]
    key: Option<String>,
    /// Maximum number of rows [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Begin after this place: what the last line of the page before says
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// Every operation that the northbound knows, page by page
    #[arg(long, conflicts_with_all = ["limit", "after"])]
    all: bool,
    #[command(flatten)]
    at: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// The operation, as an answer or a 202 named it
    operation: String,
    #[command(flatten)]
    at: RemoteArgs,
}

pub(super) fn perform(command: &Operations) -> anyhow::Result<Told> {
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

pub(super) fn parked(command: &Parked) -> anyhow::Result<Told> {
    match command {
        Parked::List(args) => list(args, Some("parked".to_owned())),
        Parked::Show(one) => show(one),
        Parked::Resume(one) => tell(one, "resume"),
        Parked::Abort(one) => tell(one, "abort"),
    }
}

fn start(args: &StartArgs) -> anyhow::Result<Told> {
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

/// The one topology that has a workflow of this name.
fn topology_with(topologies: &Value, workflow: &str) -> Result<String, Usage> {
    let has = |topology: &&&Value| {
        let workflows = topology.get("workflows").and_then(Value::as_array);
        workflows
            .into_iter()
            .flatten()
            .any(|known| known.as_str() == Some(workflow) || shown(known, "/name") == workflow)
    };
    let all = items(topologies);
    let of: Vec<String> = all.iter().filter(has).map(|topology| shown(topology, "/name")).collect();
    match &of[..] {
        [one] => Ok(one.clone()),
        [] => Err(Usage(format!(
            "no topology that was submitted has a workflow `{workflow}`; nave topologies list shows them"
        ))),
        several => Err(Usage(format!("several topologies have it: {}; say which with --topology", several.join(", ")))),
    }
}

fn list(args: &ListArgs, state: Option<String>) -> anyhow::Result<Told> {
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
    // Each page begins after the last one, so this ends with the operations that the northbound knows.
    while args.all
        && let Some(after) = next_place(&body)
    {
        query.retain(|(name, _)| *name != "after");
        query.push(("after", after));
        let mut page = client.operations(&query)?;
        let rows = page["operations"].as_array_mut().map(std::mem::take).unwrap_or_default();
        body["next"] = page["next"].take();
        body["operations"].as_array_mut().context("the answer has no list of operations")?.extend(rows);
    }
    let next = next_place(&body);
    let shown = items(&body).len();
    Ok(listing(body, &COLUMNS).with_line(next.map(|after| {
        format!("{shown} rows, and there are more: --after {after} shows the next page, --all shows every page")
    })))
}

/// The place after which the next page begins; none where this is the last one.
fn next_place(body: &Value) -> Option<String> {
    let (_, query) = body["next"].as_str()?.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("after=")).map(str::to_owned)
}

fn show(one: &OneArgs) -> anyhow::Result<Told> {
    Ok(fields(one.at.client()?.operation(&id(one)?)?))
}

fn tell(one: &OneArgs, command: &str) -> anyhow::Result<Told> {
    Ok(fields(one.at.client()?.command(&id(one)?, command)?))
}

fn id(one: &OneArgs) -> Result<OperationId, Usage> {
    OperationId::new(&one.operation).map_err(|error| Usage(error.to_string()))
}

fn read_body(text: &str) -> anyhow::Result<Value> {
    let text = text.strip_prefix('@').map_or_else(|| Ok(text.to_owned()), |path| said::read(path.as_ref()))?;
    serde_json::from_str(&text).map_err(|error| Usage(format!("--body is not JSON: {error}"))).context("the body")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workflow_of_one_topology_need_not_name_it() {
        let topologies = json!([
            {"name": "flows", "workflows": [{"name": "create-flow"}, {"name": "remove-flow"}]},
            {"name": "trips", "workflows": [{"name": "book"}, {"name": "remove-flow"}]},
        ]);
        assert_eq!(topology_with(&topologies, "book").unwrap(), "trips");
        assert!(topology_with(&topologies, "remove-flow").unwrap_err().0.contains("flows, trips"));
        assert!(topology_with(&topologies, "cook").unwrap_err().0.contains("`cook`"));
    }
}
