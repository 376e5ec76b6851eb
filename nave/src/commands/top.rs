//! `nave top`: the components of a running topology, and the work that they did since the last table.
//!
//! Each process counts the tuples of its own lanes, so the numbers are sums over the `/metrics` of all
//! processes that the command line names.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use bus::{Clock, MonoTime};
use clap::Args;
use serde_json::{Value, json};
use topology::names;
use wire::graph::Graph;

use super::RemoteArgs;
use super::describe::graph_and_lanes;
use super::output::{Output, cell};
use crate::client::Client;
use crate::clock::SystemClock;

/// The shortest interval: below it, most rates would be 0 or a commit's worth of tuples.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Name of the topology
    name: String,
    /// Interval between two tables, for which they show the rates; at least 100ms
    #[arg(long, default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print one table, after one interval, and end
    #[arg(long)]
    once: bool,
    /// URL of another process that runs lanes of the topology (its `health` address); may be repeated.
    /// Without it the table shows only the work of the process at --url
    #[arg(long = "process", value_name = "URL")]
    processes: Vec<String>,
    #[command(flatten)]
    at: RemoteArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < MIN_INTERVAL { Err("allowed is 100ms or more".to_owned()) } else { Ok(interval) }
}

/// Prints tables until it is interrupted, or returns one.
pub(super) fn top(args: &TopArgs, json: bool) -> anyhow::Result<Output> {
    let (client, mut clients) = (args.at.client()?, vec![args.at.client()?]);
    for url in &args.processes {
        clients.push(Client::new(url, args.at.token_file.as_deref())?);
    }
    let clock = SystemClock::default();
    // Before the first wait, so that an unknown name is refused at once.
    client.topology(&args.name)?;
    let mut before = Sample::take(&clients, &args.name, &clock)?;
    loop {
        while let Some(left) = args.interval.checked_sub(clock.mono().since(before.at)).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        let body = client.topology(&args.name)?;
        let (graph, lanes) = graph_and_lanes(&body)?;
        let now = Sample::take(&clients, &args.name, &clock)?;
        let state = cell(&body, "/state");
        let table = table(&graph, &lanes, &before, &now);
        if args.once {
            return Ok(table);
        }
        let text = if json { table.json_line() } else { format!("{} is {state}\n{}", args.name, table.text(false)) };
        match show(&text, json) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Output::Nothing),
            shown => shown?,
        }
        before = now;
    }
}

/// Prints a text, on a terminal in place of the last one.
fn show(text: &str, json: bool) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    // ANSI: the cursor moves to the first cell, and the screen is cleared from there.
    let clear = if !json && stdout.is_terminal() { "\x1b[H\x1b[J" } else { "" };
    write!(stdout, "{clear}{text}")?;
    stdout.flush()
}

/// The numbers of a topology at one time, as sums over processes.
#[derive(Debug, Default)]
struct Sample {
    at: MonoTime,
    /// By component: executed, emitted, acked and failed tuples since the start of the processes.
    components: BTreeMap<String, [u64; 4]>,
    /// By stage: unhandled records in the inboxes of its lanes, pending roots, and armed timers.
    stages: BTreeMap<String, [u64; 3]>,
}

impl Sample {
    fn take(clients: &[Client], topology: &str, clock: &dyn Clock) -> anyhow::Result<Self> {
        let mut sample = Self::default();
        for client in clients {
            sample.add(&client.metrics()?, topology);
        }
        sample.at = clock.mono();
        Ok(sample)
    }

    /// Adds the numbers on a page in the Prometheus text format.
    fn add(&mut self, page: &str, topology: &str) {
        for line in page.lines() {
            let Some((name, labels, value)) = metric(line) else { continue };
            if labels.get("topology") != Some(&topology) {
                continue;
            }
            let number = match name {
                names::EXECUTED => Some(&mut self.component(&labels)[0]),
                names::EMITTED => Some(&mut self.component(&labels)[1]),
                names::ACKED => Some(&mut self.component(&labels)[2]),
                names::FAILED => Some(&mut self.component(&labels)[3]),
                names::BACKLOG => Some(&mut self.stage(&labels)[0]),
                names::ROOTS_PENDING => Some(&mut self.stage(&labels)[1]),
                names::TIMERS_PENDING => Some(&mut self.stage(&labels)[2]),
                _ => None,
            };
            if let Some(number) = number {
                *number += value;
            }
        }
    }

    fn component(&mut self, labels: &BTreeMap<&str, &str>) -> &mut [u64; 4] {
        self.components.entry(labels.get("component").copied().unwrap_or_default().to_owned()).or_default()
    }

    fn stage(&mut self, labels: &BTreeMap<&str, &str>) -> &mut [u64; 3] {
        self.stages.entry(labels.get("stage").copied().unwrap_or_default().to_owned()).or_default()
    }
}

/// Parses a line of the Prometheus text format: name, labels and value. `None` for a comment, and for
/// a line without labels or a whole number. The names of topologies, stages and components need no
/// escapes.
fn metric(line: &str) -> Option<(&str, BTreeMap<&str, &str>, u64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let pairs = labels.split(',').filter_map(|label| label.split_once('='));
    Some((name, pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect(), value.parse().ok()?))
}

/// The components in the order of the graph. Pending roots, backlog and timers belong to the lanes of a stage: the
/// first component of the stage shows them.
fn table(graph: &Graph, lanes: &BTreeMap<String, u32>, before: &Sample, now: &Sample) -> Output {
    let seconds = now.at.since(before.at).as_secs_f64();
    let (mut rows, mut components, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for component in &graph.components {
        let (name, stage) = (&component.name, &component.stage);
        let of = |sample: &Sample| sample.components.get(name).copied().unwrap_or_default();
        let [executed_before, emitted_before, _, _] = of(before);
        let [executed, emitted, acked, failed] = of(now);
        let executed_rate = rate(executed_before, executed, seconds);
        let emitted_rate = rate(emitted_before, emitted, seconds);
        let lanes = lanes.get(stage).copied().unwrap_or_default();
        let [backlog, pending, timers] = now.stages.get(stage).copied().unwrap_or_default();
        let is_first = !shown.contains(&stage);
        let of_stage = |number: u64| if is_first { number.to_string() } else { String::new() };
        shown.push(stage);
        rows.push(vec![
            name.clone(),
            component.kind.as_str().to_owned(),
            stage.clone(),
            lanes.to_string(),
            format!("{executed_rate:.1}"),
            format!("{emitted_rate:.1}"),
            acked.to_string(),
            failed.to_string(),
            of_stage(pending),
            of_stage(backlog),
            of_stage(timers),
        ]);
        components.push(json!({
            "component": name, "kind": component.kind, "stage": stage, "lanes": lanes,
            "executed_per_s": executed_rate, "emitted_per_s": emitted_rate,
            "executed": executed, "emitted": emitted, "acked": acked, "failed": failed,
        }));
    }
    let stage = |(name, [backlog, pending, timers]): (&String, &[u64; 3])| json!({"stage": name, "backlog": backlog, "pending": pending, "timers": timers});
    let stages: Vec<Value> = now.stages.iter().map(stage).collect();
    let headings = [
        "COMPONENT",
        "KIND",
        "STAGE",
        "LANES",
        "EXECUTED/S",
        "EMITTED/S",
        "ACKED",
        "FAILED",
        "PENDING",
        "BACKLOG",
        "TIMERS",
    ];
    Output::table(&headings, &rows, json!({"seconds": seconds, "components": components, "stages": stages}))
}

/// Returns the rate between two counts. A count is smaller than before if a process was restarted: then
/// it counts from 0.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 tuples")]
fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    now.checked_sub(before).unwrap_or(now) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use wire::graph::{Component, ComponentKind};

    use super::*;

    const PAGE: &str = r#"# TYPE nave_component_executed_total counter
nave_component_executed_total{topology="words",stage="count",component="split"} 40
nave_component_emitted_total{topology="words",stage="lines",component="lines"} 20
nave_component_failed_total{topology="words",stage="count",component="split"} 3
nave_component_acked_total{topology="words",stage="lines",component="lines"} 19
nave_lane_roots_pending{topology="words",stage="lines",lane="0"} 1
nave_component_executed_total{topology="other",stage="count",component="split"} 1000
nave_lane_backlog_records{topology="words",stage="count",lane="0"} 5
nave_lane_backlog_records{topology="words",stage="count",lane="1"} 7
nave_timers_pending{topology="words",stage="count",lane="1"} 2
nave_timer_lateness_seconds_sum 0.25
"#;

    fn sample(pages: &[&str], seconds: u64) -> Sample {
        let mut sample = Sample { at: MonoTime::default().plus_ms(seconds * 1_000), ..Sample::default() };
        for page in pages {
            sample.add(page, "words");
        }
        sample
    }

    fn words() -> (Graph, BTreeMap<String, u32>) {
        let component = |name: &str, kind, stage: &str| Component {
            name: name.into(),
            kind,
            stage: stage.into(),
            saves: None,
            tracks: false,
        };
        let components = vec![
            component("lines", ComponentKind::Spout, "lines"),
            component("split", ComponentKind::Bolt, "count"),
            component("end", ComponentKind::Bolt, "count"),
        ];
        (Graph { components, edges: Vec::new() }, BTreeMap::from([("lines".into(), 1), ("count".into(), 4)]))
    }

    #[test]
    fn a_table_shows_the_rates_of_all_processes_between_two_samples() {
        let (graph, lanes) = words();
        let before = sample(&[PAGE], 1);
        let now = sample(&[PAGE, PAGE], 5);
        assert_eq!(
            table(&graph, &lanes, &before, &now).text(false),
            "COMPONENT   KIND    STAGE   LANES   EXECUTED/S   EMITTED/S   ACKED   FAILED   PENDING   BACKLOG   TIMERS\n\
             lines       spout   lines   1       0.0          5.0         38      0        2         0         0\n\
             split       bolt    count   4       10.0         0.0         0       6        0         24        4\n\
             end         bolt    count   4       0.0          0.0         0       0\n"
        );
        let Output::Text { json, .. } = table(&graph, &lanes, &before, &now) else { panic!("a table is a text") };
        assert_eq!(json["components"][1]["executed"], 80);
        assert_eq!(
            json["stages"],
            json!([
                {"stage": "count", "backlog": 24, "pending": 0, "timers": 4},
                {"stage": "lines", "backlog": 0, "pending": 2, "timers": 0},
            ])
        );
    }

    #[test]
    fn the_counts_of_a_restarted_process_begin_at_0() {
        assert!((rate(100, 10, 2.0) - 5.0).abs() < f64::EPSILON);
    }
}
