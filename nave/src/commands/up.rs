//! `nave up`: everything in one process.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use bus::{
    Bus, BusError, Cleanup, Clock, Embedded, EmbeddedOptions, Kafka, KafkaOptions, MemberSpec, MonoTime, Part,
    TopicSpec,
};
use floodlight_sim::{SpeakerHandle, SpeakerOptions, SpeakerPart};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use northbound::{Access, Directory, GatewayLimits, Inlet, Limits, Northbound, Outlet, check_listen, control_record};
use tokio::net::TcpListener;
use tokio::sync::watch;
use topology::driver::Threads;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;
use wire::topics::Topics;

use super::{BusKind, UpArgs};
use crate::clock::SystemClock;
use crate::system::{System, SystemOptions};

/// A system on one machine is ready in a fraction of a second; on a cluster it waits for its group and its topics.
const READY_MS: u64 = 60_000;
/// A shutdown waits so long for what is running: longer than any default deadline of a flow takes it.
const DRAIN_MS: u64 = 10_000;
/// Between two looks at whether it is ready, or drained.
const LOOK: Duration = Duration::from_millis(5);
/// The embedded bus dies with its process, so nobody else can take its lanes: a process that was stopped for an hour and
/// goes on is not to lose them to itself.
const EMBEDDED_SESSION: Duration = Duration::from_hours(24);
/// Where the lateness of timers is counted: from a tenth of a millisecond to ten seconds.
const LATENESS_SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 10.0];

pub(super) fn up(args: &UpArgs) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let begun = clock.mono();
    log_to_stderr(args)?;
    let lateness = Matcher::Full(topology::names::TIMER_LATENESS.to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(lateness, &LATENESS_SECONDS)?.install_recorder()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        check_listen(args.rest, &Access::open())?;
        let rest = listen(args.rest, "--rest").await?;
        let admin = listen(args.admin, "--admin").await?;
        let running = Running::start(args, &clock)?;
        running.wait_until_ready(begun).await?;
        banner(args, &rest, &admin, clock.mono().since(begun))?;
        let metrics = Arc::new(move || {
            recorder.run_upkeep();
            recorder.render()
        });
        running.serve(rest, admin, metrics).await
    })
}

fn log_to_stderr(args: &UpArgs) -> anyhow::Result<()> {
    let filter = match &args.log {
        Some(filter) => EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?,
        None => EnvFilter::try_from_env("NAVE_LOG").unwrap_or_else(|_| EnvFilter::new("warn")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; give another with {option}"))
}

fn banner(args: &UpArgs, rest: &TcpListener, admin: &TcpListener, took: Duration) -> anyhow::Result<()> {
    let bus = match &args.brokers {
        Some(brokers) if args.bus == BusKind::Kafka => format!("Kafka bus ({brokers})"),
        _ => "embedded bus (memory)".to_owned(),
    };
    let lanes = if args.lanes == 1 { "lane" } else { "lanes" };
    let (version, seconds) = (env!("CARGO_PKG_VERSION"), took.as_secs_f64());
    println!("nave {version}   {bus}   {} {lanes}   ready in {seconds:.2} s", args.lanes);
    println!("  REST      http://{}      try: requests in rest-api.http", rest.local_addr()?);
    println!(
        "  switches  http://{}/switches   rules, audit and faults of the simulated controller",
        admin.local_addr()?
    );
    println!("  stop      Ctrl-C");
    Ok(())
}

/// The parts of a running system, in the order in which they stop.
struct Running {
    clock: Arc<dyn Clock>,
    system: Arc<System>,
    directory: Arc<Directory>,
    inlet: northbound::InletHandle,
    ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    speaker: SpeakerHandle,
    /// Requests in.
    intake: Threads,
    /// Lanes.
    lanes: Threads,
    /// The simulated switch controller, and answers out.
    edges: Threads,
}

impl Running {
    fn start(args: &UpArgs, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (bus, session_timeout) = open_bus(args, clock)?;
        let options = SystemOptions {
            topics: Topics::new(&args.prefix),
            lanes: args.lanes,
            apart: args.stages.unwrap_or(if args.bus == BusKind::Kafka { 2 } else { 1 }) == 2,
            session_timeout,
            ..SystemOptions::default()
        };
        let system = Arc::new(System::new(Arc::clone(&bus), options)?);
        let topics = system.options.topics.clone();
        bus.ensure_topic(&TopicSpec::log(&topics.control(), 1).cleaned(Cleanup::Compact))?;
        let submitted = control_record(&topics, &system.submitted(clock.wall())?);
        bus.writer("up")?.append(&[submitted])?;
        let directory = Arc::new(Directory::new(topics, GatewayLimits::default(), Arc::clone(clock)));
        // A name that no process before or beside this one has: it is a transactional id.
        let process = Uuid::new_v4().simple().to_string();

        let mut edges = Threads::default();
        let outlet = Outlet::follow(Arc::clone(&bus), Arc::clone(&directory))?;
        let answers = outlet.ready();
        edges.spawn("answers", Arc::clone(clock), Box::new(move || Ok(Box::new(outlet) as Box<dyn Part>)))?;
        let speaker = SpeakerHandle::new();
        // It remembers call ids, so no answer needs to wait for one of Kafka's transactions.
        let options = SpeakerOptions { transactional: args.bus == BusKind::Embedded, ..SpeakerOptions::default() };
        let part = SpeakerPart::join_with(
            &*bus,
            &system.speaker_topic(),
            &format!("{}-speaker-{process}", args.prefix),
            speaker.clone(),
            &options,
        )?;
        edges.spawn("speaker", Arc::clone(clock), Box::new(move || Ok(Box::new(part) as Box<dyn Part>)))?;

        let mut lanes = Threads::default();
        for stage in system.stages() {
            for thread in 0..args.threads {
                let name = format!("{}-{stage}-{process}-{thread}", args.prefix);
                let thread_name = format!("{stage}-{thread}");
                let (system, stage) = (Arc::clone(&system), stage.clone());
                let make = Box::new(move || system.shard(&stage, &name).map(|shard| Box::new(shard) as Box<dyn Part>));
                lanes.spawn(&thread_name, Arc::clone(clock), make)?;
            }
        }

        let mut intake = Threads::default();
        let part = Inlet::open(&*bus)?;
        let inlet = part.handle();
        intake.spawn("requests", Arc::clone(clock), Box::new(move || Ok(Box::new(part) as Box<dyn Part>)))?;

        let (lanes_of, asked, time) = (Arc::clone(&system), Arc::clone(&directory), Arc::clone(clock));
        let ready = Arc::new(move || {
            let mut waiting = lanes_of.waiting(time.mono());
            waiting.extend(asked.silent_lanes());
            waiting.extend(asked.waiting());
            if !answers.load(Ordering::Acquire) {
                waiting.push("answers: they are not read yet".to_owned());
            }
            if waiting.is_empty() { Ok(()) } else { Err(waiting.join("; ")) }
        });
        Ok(Self { clock: Arc::clone(clock), system, directory, inlet, ready, speaker, intake, lanes, edges })
    }

    fn has_failed(&self) -> bool {
        self.intake.has_failed() || self.lanes.has_failed() || self.edges.has_failed()
    }

    async fn wait_until_ready(&self, begun: MonoTime) -> anyhow::Result<()> {
        while let Err(reason) = (self.ready)() {
            if self.has_failed() {
                bail!("a part ended with a fault; the log above says which");
            }
            if self.clock.mono().since(begun) > Duration::from_millis(READY_MS) {
                bail!("not ready after {} s: {reason}", READY_MS / 1_000);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Serves until a signal, or until a part fails; then stops in order.
    async fn serve(
        self,
        rest: TcpListener,
        admin: TcpListener,
        metrics: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> anyhow::Result<()> {
        let mut northbound = Northbound::new(Arc::clone(&self.directory), self.inlet.clone());
        northbound.ready = Arc::clone(&self.ready);
        northbound.metrics = metrics;
        // One signal ends both servers; the admin interface stays until the end, for those who look.
        let (stop_intake, intake_stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let rest =
            northbound::serve(rest, northbound::router(northbound), Limits::default(), becomes_true(intake_stopped));
        let admin =
            floodlight_sim::serve(admin, floodlight_sim::admin(self.speaker.clone()), becomes_true(admin_stopped));
        let control = async {
            let failed = tokio::select! {
                () = signalled() => false,
                () = self.until_failed() => true,
            };
            eprintln!("stopping: no new requests; at most {} s for what is running", DRAIN_MS / 1_000);
            stop_intake.send_replace(true);
            if !failed {
                self.drain().await;
            }
            stop_admin.send_replace(true);
            failed
        };
        let deadline = async {
            // Servers wait for their connections; those that do not end are cut.
            becomes_true(stop_admin.subscribe()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let failed = {
            let servers = async { tokio::join!(rest, admin, control) };
            tokio::select! {
                (rest, admin, failed) = servers => { rest?; admin?; failed }
                () = deadline => self.has_failed(),
            }
        };
        self.stop();
        if failed {
            bail!("a part ended with a fault; the log above says which")
        }
        Ok(())
    }

    async fn until_failed(&self) {
        while !self.has_failed() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn drain(&self) {
        let begun = self.clock.mono();
        while self.directory.unanswered() > 0 && self.clock.mono().since(begun) < Duration::from_millis(DRAIN_MS) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Requests first, then lanes, which commit what they decided, then the edges. Says what was left.
    fn stop(self) {
        let mut left = self.intake.stop();
        left.extend(self.lanes.stop());
        left.extend(self.edges.stop());
        drop(self.system);
        if left.is_empty() {
            eprintln!("stopped; nothing was left undone");
        } else {
            eprintln!("stopped; left undone:");
            for line in left {
                eprintln!("  {line}");
            }
        }
    }
}

fn open_bus(args: &UpArgs, clock: &Arc<dyn Clock>) -> Result<(Arc<dyn Bus>, Duration), BusError> {
    match args.bus {
        BusKind::Embedded => {
            let bus = Embedded::open(Arc::clone(clock), EmbeddedOptions::default());
            Ok((Arc::new(bus), EMBEDDED_SESSION))
        }
        BusKind::Kafka => {
            let brokers = args.brokers.clone().unwrap_or_default();
            let bus = Kafka::open(Arc::clone(clock), KafkaOptions::new(brokers))?;
            Ok((Arc::new(bus), MemberSpec::SESSION))
        }
    }
}

/// Ctrl-C, or the signal by which a system stops its services.
async fn signalled() {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be received");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.expect("signals can be received"),
        _ = terminate.recv() => {}
    }
}

async fn becomes_true(mut flag: watch::Receiver<bool>) {
    // An error says that the sender is gone, which ends the server as well.
    drop(flag.wait_for(|stop| *stop).await);
}
