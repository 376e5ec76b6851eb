//! The servers of a process, from its start to its stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use bus::{Clock, MonoTime};
use northbound::Waiting;
use northbound::health::{self, Health};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::starting::Starting;
use super::tasks::Tasks;
use super::{Purpose, bus_line, frontend, in_memory};
use crate::config::Config;
use crate::program::{About, Program};
use crate::shutdown::{Signals, StopReport};

/// Limit of the start in milliseconds. One machine is ready in a fraction of a second; on a cluster
/// the start waits for groups and topics.
const READY_MS: u64 = 60_000;
/// Interval between two checks whether the process is ready or drained.
const CHECK: Duration = Duration::from_millis(5);
/// Interval between two checks for failed tasks.
const WATCH: Duration = Duration::from_secs(1);
/// Grace period beyond its own limit after which a node counts as stuck.
const GRACE: Duration = Duration::from_millis(500);

/// Returns all metrics in the Prometheus format.
type Metrics = Arc<dyn Fn() -> String + Send + Sync>;
/// Returns the reasons why requests wait.
type Waits = Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>;

/// The servers of a process, and their listeners.
pub(super) struct Server<'a> {
    pub(super) program: &'a Program,
    pub(super) config: &'a Config,
    pub(super) purpose: &'a Purpose,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) rest: Option<TcpListener>,
    pub(super) sim: Option<TcpListener>,
    pub(super) health: Option<TcpListener>,
}

/// The means to stop a process.
struct Stop {
    /// True refuses new requests.
    stopping: Arc<AtomicBool>,
    /// True ends the servers.
    servers: watch::Sender<bool>,
    signals: Signals,
    /// True if a task failed: nothing is worth waiting for.
    failed: bool,
}

impl Server<'_> {
    /// Serves until a signal arrives or a task fails; then stops in order.
    pub(super) async fn serve(mut self, tasks: Tasks, mut starting: Starting) -> anyhow::Result<()> {
        let mut signals = Signals::receive()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop_servers, stopped) = watch::channel(false);
        let mut servers: JoinSet<std::io::Result<()>> = JoinSet::new();
        let (addresses, limits) = (self.addresses()?, frontend::limits(self.config));
        let waiting = self.waiting(&tasks, &stopping);
        if let (Some(listener), Some(router)) = (self.sim.take(), tasks.simulator.clone()) {
            servers.spawn(northbound::serve(listener, router, limits.clone(), becomes_true(stopped.clone())));
        }
        if let Some(listener) = self.health.take() {
            let router = health::router(Health { waiting: Arc::clone(&waiting), metrics: Arc::clone(&self.metrics) });
            servers.spawn(northbound::serve(listener, router, limits.clone(), becomes_true(stopped.clone())));
        }
        if let (Some(listener), Some(front)) = (self.rest.take(), &tasks.front) {
            let mut northbound = front.northbound(self.config)?;
            northbound.routes = self.program.all_rest_routes().into();
            (northbound.waiting, northbound.metrics) = (Arc::clone(&waiting), Arc::clone(&self.metrics));
            let router = northbound::router(northbound);
            servers.spawn(northbound::serve(listener, router, limits, becomes_true(stopped)));
        }
        if self.purpose.submits {
            self.until_ready(&tasks, &waiting, &mut starting).await?;
        }
        self.banner(&addresses, starting.begun());
        let failed = tokio::select! {
            () = signals.next() => false,
            () = until_failed(&tasks) => true,
        };
        let stop = Stop { stopping, servers: stop_servers, signals, failed };
        self.stop(tasks, servers, stop).await
    }

    /// Returns the function that lists the reasons why requests or lanes wait.
    fn waiting(&self, tasks: &Tasks, stopping: &Arc<AtomicBool>) -> Waits {
        let (status, clock, stopping) = (Arc::clone(&tasks.status), Arc::clone(&self.clock), Arc::clone(stopping));
        // Weak, because the bus ends before the servers.
        let bus = Arc::downgrade(&tasks.bus);
        let front = tasks.front.as_ref().map(|front| front.waiting(&status));
        Arc::new(move || {
            if stopping.load(Ordering::Acquire) {
                // The only reason to report: others are effects of the stop.
                return vec![Waiting::all(
                    "this process is stopping and accepts no new requests; use another northbound",
                )];
            }
            let mut waiting = status.waiting(clock.mono());
            let health = bus.upgrade().map(|bus| bus.health()).unwrap_or_default();
            waiting.extend(health.waiting.into_iter().map(Waiting::held_up));
            waiting.extend(front.iter().flat_map(|waiting| waiting()));
            waiting
        })
    }

    async fn until_ready(&self, tasks: &Tasks, waiting: &Waits, starting: &mut Starting) -> anyhow::Result<()> {
        while let Err(reason) = Waiting::check(&waiting()) {
            if tasks.has_failed() {
                bail!("a task failed; see the log above");
            }
            if self.clock.mono().since(starting.begun()) > Duration::from_millis(READY_MS) {
                bail!("not ready after {} s: {reason}", READY_MS / 1_000);
            }
            starting.print(&reason);
            tokio::time::sleep(CHECK).await;
        }
        Ok(())
    }

    fn addresses(&self) -> std::io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if let Some(rest) = &self.rest {
            let hint = self.program.rest_hint;
            lines.push(format!("  REST      http://{}      {hint}", rest.local_addr()?));
        }
        if let Some(sim) = &self.sim {
            let what = "rules, audit and faults of the simulated controller";
            lines.push(format!("  switches  http://{}/switches   {what}", sim.local_addr()?));
        }
        if let Some(health) = &self.health {
            lines.push(format!("  health    http://{}      /healthz, /readyz, /metrics", health.local_addr()?));
        }
        Ok(lines)
    }

    fn banner(&self, addresses: &[String], begun: MonoTime) {
        let (About { name, version }, bus) = (self.program.about(), bus_line(self.config));
        let seconds = self.clock.mono().since(begun).as_secs_f64();
        if self.purpose.submits {
            let layouts = self.config.topologies.values();
            let lanes =
                layouts.filter_map(|layout| layout.stages.values().map(|stage| stage.lanes).max()).max().unwrap_or(1);
            let word = if lanes == 1 { "lane" } else { "lanes" };
            println!("{name} {version}   {bus}   {lanes} {word}   ready in {seconds:.2} s");
        } else {
            println!("{name} {version}   {bus}   {}", self.purpose.line());
        }
        for line in addresses {
            println!("{line}");
        }
        println!("  stop      Ctrl-C");
    }

    /// Stops in the order of [`crate::shutdown`].
    async fn stop(&self, tasks: Tasks, mut servers: JoinSet<std::io::Result<()>>, stop: Stop) -> anyhow::Result<()> {
        let Stop { stopping, servers: stop_servers, mut signals, failed } = stop;
        let (phases, mut left) = (&self.config.shutdown, StopReport::default());
        let ms = Duration::from_millis;
        eprintln!("stopping: no new requests; open requests have at most {} s", phases.drain_ms.div_ceil(1_000));
        stopping.store(true, Ordering::Release);
        let Tasks { bus, simulator: _, front, node, status, spokes } = tasks;
        let mut answers_out = None;
        let clock = Arc::clone(&self.clock);
        let mut directory = None;
        if let Some(front) = front {
            let (intake, own_clock, timeout) = (front.intake, Arc::clone(&clock), ms(phases.intake_ms));
            left.add("intake", signals.phase(move || intake.stop_within(timeout, &*own_clock)).await);
            (directory, answers_out) = (Some(front.directory), Some(front.answers_out));
        }
        status.drain();
        if let Some(directory) = directory.filter(|_| !failed) {
            let answered = async {
                while directory.unanswered() > 0 {
                    tokio::time::sleep(CHECK).await;
                }
            };
            if !signals.within(ms(phases.drain_ms), answered).await {
                left.add(
                    "drain",
                    vec![format!("{} requests unanswered; their operations continue", directory.unanswered())],
                );
            }
        }
        // The node stops its lanes within its own limit; after the grace period the node itself is
        // stuck.
        let (timeout, own_clock) = (ms(phases.lanes_ms) + GRACE, Arc::clone(&clock));
        left.add("lanes", signals.phase(move || node.stop_within(timeout, &*own_clock)).await);
        if let Some(line) = unfinished_line(status.unfinished(), in_memory(self.config)) {
            tracing::info!("{line}");
        }
        let (timeout, own_clock) = (ms(phases.close_ms), Arc::clone(&clock));
        let closed = signals.phase(move || {
            let mut left = answers_out.map(|threads| threads.stop_within(timeout, &*own_clock)).unwrap_or_default();
            left.extend(spokes.stop_within(timeout, &*own_clock));
            left
        });
        left.add("close", closed.await);
        stop_servers.send_replace(true);
        let mut fault = None;
        // Servers wait for their connections; the timeout cuts those that do not end.
        let ended = signals.within(timeout, async {
            while let Some(ended) = servers.join_next().await {
                fault = ended.map_err(std::io::Error::other).and_then(|ended| ended).err().or(fault.take());
            }
        });
        let _connections_were_cut = !ended.await;
        servers.abort_all();
        drop(bus);
        eprintln!("{}", left.summary());
        if failed {
            bail!("a task failed; see the log above")
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// Returns the line about operations that were not over when the lanes stopped; none if all were.
fn unfinished_line(unfinished: usize, in_memory: bool) -> Option<String> {
    let operations = match unfinished {
        0 => return None,
        1 => "1 operation waits".to_owned(),
        n => format!("{n} operations wait"),
    };
    Some(if in_memory {
        format!("{operations}, but the bus in memory ends with this process; `--data DIR` keeps them across a restart")
    } else {
        format!("{operations}, and will continue once a process owns their lanes")
    })
}

async fn until_failed(tasks: &Tasks) {
    while !tasks.has_failed() {
        tokio::time::sleep(WATCH).await;
    }
}

async fn becomes_true(mut flag: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the server as well.
    drop(flag.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_logs_in_one_line_how_many_operations_will_continue() {
        let line = |unfinished| unfinished_line(unfinished, false);
        assert_eq!(line(0), None);
        assert_eq!(line(1).expect("one"), "1 operation waits, and will continue once a process owns their lanes");
        assert!(line(7).is_some_and(|line| line.starts_with("7 operations wait, and will continue")));
        assert!(unfinished_line(7, true).is_some_and(|line| line.contains("--data")));
    }
}
