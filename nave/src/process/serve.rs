//! From the first request to the last.

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

use super::parts::Parts;
use super::starting::Starting;
use super::{Purpose, bus_line, front, in_memory};
use crate::config::Config;
use crate::program::{About, Program};
use crate::shutdown::{Left, Signals};

/// A system on one machine is ready in a fraction of a second; on a cluster it waits for its group and its topics.
const READY_MS: u64 = 60_000;
/// Between two looks at whether it is ready, or drained.
const LOOK: Duration = Duration::from_millis(5);
/// Interval between two looks at whether a part has failed.
const WATCH: Duration = Duration::from_secs(1);
/// Time beyond its own limit until a node counts as one that does not end.
const GRACE: Duration = Duration::from_millis(500);

/// All counters and histograms, as Prometheus reads them.
type Metrics = Arc<dyn Fn() -> String + Send + Sync>;
/// What is waited for.
type Waits = Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>;

/// What is served, and where.
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

/// What a process ends by.
struct Stop {
    /// True refuses new requests.
    stopping: Arc<AtomicBool>,
    /// True ends the servers.
    servers: watch::Sender<bool>,
    signals: Signals,
    /// A part ended with a fault: there is nothing to wait for.
    failed: bool,
}

impl Server<'_> {
    /// Serves until a signal, or until a part fails; then stops in order.
    pub(super) async fn serve(mut self, parts: Parts, mut starting: Starting) -> anyhow::Result<()> {
        let mut signals = Signals::receive()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop_servers, stopped) = watch::channel(false);
        let mut servers: JoinSet<std::io::Result<()>> = JoinSet::new();
        let (addresses, limits) = (self.addresses()?, front::limits(self.config));
        let waiting = self.waiting(&parts, &stopping);
        if let Some(listener) = self.sim.take() {
            let router = floodlight_sim::admin(parts.speaker.clone());
            servers.spawn(northbound::serve(listener, router, limits.clone(), becomes_true(stopped.clone())));
        }
        if let Some(listener) = self.health.take() {
            let router = health::router(Health { waiting: Arc::clone(&waiting), metrics: Arc::clone(&self.metrics) });
            servers.spawn(northbound::serve(listener, router, limits.clone(), becomes_true(stopped.clone())));
        }
        if let (Some(listener), Some(front)) = (self.rest.take(), &parts.front) {
            let mut northbound = front.northbound(self.config)?;
            (northbound.waiting, northbound.metrics) = (Arc::clone(&waiting), Arc::clone(&self.metrics));
            let router = northbound::router(northbound);
            servers.spawn(northbound::serve(listener, router, limits, becomes_true(stopped)));
        }
        if self.purpose.submits {
            self.until_ready(&parts, &waiting, &mut starting).await?;
        }
        self.banner(&addresses, starting.begun());
        let failed = tokio::select! {
            () = signals.next() => false,
            () = until_failed(&parts) => true,
        };
        let stop = Stop { stopping, servers: stop_servers, signals, failed };
        self.stop(parts, servers, stop).await
    }

    /// What requests have to wait for, and lanes.
    fn waiting(&self, parts: &Parts, stopping: &Arc<AtomicBool>) -> Waits {
        let (status, clock, stopping) = (Arc::clone(&parts.status), Arc::clone(&self.clock), Arc::clone(stopping));
        // It ends before the servers do.
        let bus = Arc::downgrade(&parts.bus);
        let front = parts.front.as_ref().map(|front| front.waiting(&status));
        Arc::new(move || {
            if stopping.load(Ordering::Acquire) {
                // The one reason that counts: what else there is belongs to the stop.
                return vec![Waiting::all(
                    "this process is stopping and takes no new requests; ask another northbound",
                )];
            }
            let mut waiting = status.waiting(clock.mono());
            let health = bus.upgrade().map(|bus| bus.health()).unwrap_or_default();
            waiting.extend(health.waiting.into_iter().map(Waiting::held_up));
            waiting.extend(front.iter().flat_map(|waiting| waiting()));
            waiting
        })
    }

    async fn until_ready(&self, parts: &Parts, waiting: &Waits, starting: &mut Starting) -> anyhow::Result<()> {
        while let Err(reason) = Waiting::nothing(&waiting()) {
            if parts.has_failed() {
                bail!("a part ended with a fault; the log above says which");
            }
            if self.clock.mono().since(starting.begun()) > Duration::from_millis(READY_MS) {
                bail!("not ready after {} s: {reason}", READY_MS / 1_000);
            }
            starting.say(&reason);
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn addresses(&self) -> std::io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if let Some(rest) = &self.rest {
            let hint =
                if self.program.has_flows() { "try: requests in rest-api.http" } else { "described in /openapi.json" };
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

    /// The order of [`crate::shutdown`].
    async fn stop(&self, parts: Parts, mut servers: JoinSet<std::io::Result<()>>, stop: Stop) -> anyhow::Result<()> {
        let Stop { stopping, servers: stop_servers, mut signals, failed } = stop;
        let (phases, mut left) = (&self.config.shutdown, Left::default());
        let ms = Duration::from_millis;
        eprintln!("stopping: no new requests; at most {} s for what is running", phases.drain_ms.div_ceil(1_000));
        stopping.store(true, Ordering::Release);
        let Parts { bus, speaker: _, front, node, status, edges } = parts;
        let mut answers_out = None;
        let clock = Arc::clone(&self.clock);
        let mut directory = None;
        if let Some(front) = front {
            let (intake, clock, most) = (front.intake, Arc::clone(&clock), ms(phases.intake_ms));
            left.take("intake", signals.phase(move || intake.stop_within(most, &*clock)).await);
            (directory, answers_out) = (Some(front.directory), Some(front.answers_out));
        }
        status.drain();
        if let Some(directory) = directory.filter(|_| !failed) {
            let answered = async {
                while directory.unanswered() > 0 {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if !signals.within(ms(phases.drain_ms), answered).await {
                left.take(
                    "drain",
                    vec![format!("{} requests are unanswered; their operations go on", directory.unanswered())],
                );
            }
        }
        // The node ends its lanes within this; a little more, and it is the node that does not end.
        let (most, time) = (ms(phases.lanes_ms) + GRACE, Arc::clone(&clock));
        left.take("lanes", signals.phase(move || node.stop_within(most, &*time)).await);
        if let Some(line) = over_the_stop(status.unfinished(), in_memory(self.config)) {
            tracing::info!("{line}");
        }
        let (most, time) = (ms(phases.close_ms), Arc::clone(&clock));
        let closed = signals.phase(move || {
            let mut left = answers_out.map(|threads| threads.stop_within(most, &*time)).unwrap_or_default();
            left.extend(edges.stop_within(most, &*time));
            left
        });
        left.take("close", closed.await);
        stop_servers.send_replace(true);
        let mut fault = None;
        // Servers wait for their connections; those that do not end are cut.
        let ended = signals.within(most, async {
            while let Some(ended) = servers.join_next().await {
                fault = ended.map_err(std::io::Error::other).and_then(|ended| ended).err().or(fault.take());
            }
        });
        let _connections_were_cut = !ended.await;
        servers.abort_all();
        drop(bus);
        eprintln!("{}", left.told());
        if failed {
            bail!("a part ended with a fault; the log above says which")
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// The line about operations that were not over when the lanes stopped, if there were any.
fn over_the_stop(unfinished: usize, in_memory: bool) -> Option<String> {
    let operations = match unfinished {
        0 => return None,
        1 => "1 operation waits".to_owned(),
        n => format!("{n} operations wait"),
    };
    Some(if in_memory {
        format!("{operations}, and the bus in memory ends with this process; `--data DIR` keeps them over a stop")
    } else {
        format!("{operations}, and will go on as soon as a process has their lanes")
    })
}

async fn until_failed(parts: &Parts) {
    while !parts.has_failed() {
        tokio::time::sleep(WATCH).await;
    }
}

async fn becomes_true(mut flag: watch::Receiver<bool>) {
    // An error says that the sender is gone, which ends the server as well.
    drop(flag.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_in_one_line_how_many_operations_go_on() {
        let said = |unfinished| over_the_stop(unfinished, false);
        assert_eq!(said(0), None);
        assert_eq!(said(1).expect("one"), "1 operation waits, and will go on as soon as a process has their lanes");
        assert!(said(7).is_some_and(|line| line.starts_with("7 operations wait, and will go on")));
        assert!(over_the_stop(7, true).is_some_and(|line| line.contains("--data")));
    }
}
