//! Timers: the timing wheel, and deadlines in a lane, from the requesting record to the bolt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock, Embedded, EmbeddedOptions, MonoTime, Outgoing, Task};
use coordinator::{DEADLINES, Deadline, TimedOut, deadlines};
use nave::SystemClock;
use topology::driver::Threads;
use topology::wheel::Wheel;
use topology::{
    Bolt, Declarer, Delivery, Emitter, InboxSpout, RecoveryOptions, Settings, Shard, ShardOptions, ShardStatus,
    Topology, Unreadable,
};
use wire::topics::Topics;
use wire::{Envelope, EnvelopeRef, Kind};

use crate::usage::memory_bytes;

/// The maximum time until a deadline.
const SPAN_MS: u64 = 5_000;

pub(crate) fn run(timers: u64, deadlines: u64) -> anyhow::Result<()> {
    wheel(timers)?;
    println!();
    lane(deadlines)
}

/// Spreads timers over slots by a multiplicative hash.
fn spread(i: u64, over: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % over + 1
}

/// Measures the wheel with the entries of a lane: the number of a component and of its timer.
fn wheel(timers: u64) -> anyhow::Result<()> {
    const MINUTE: u64 = 60_000;
    let clock = SystemClock::default();
    let mut handles = Vec::with_capacity(usize::try_from(timers)?);
    handles.resize(handles.capacity(), None);
    let before = memory_bytes()?;
    let mut wheel: Wheel<(u16, u64)> = Wheel::new(0);
    let begun = clock.mono();
    for (i, handle) in (0..timers).zip(&mut handles) {
        *handle = Some(wheel.insert(spread(i, MINUTE), (0, i)));
    }
    let inserted = clock.mono();
    let bytes = memory_bytes()?.saturating_sub(before) / timers;
    for handle in handles.iter().step_by(2).copied().flatten() {
        wheel.cancel(handle);
    }
    let cancelled = clock.mono();
    let mut fired = 0_u64;
    wheel.advance(MINUTE + 1, |_| fired += 1);
    let ended = clock.mono();
    let each = |from: MonoTime, to: MonoTime, n: u64| to.since(from).as_nanos() / u128::from(n.max(1));
    println!("| timers in a wheel | register | cancel | fire | memory each |\n|---|---|---|---|---|");
    println!(
        "| {timers} | {} ns | {} ns | {} ns | {bytes} bytes |",
        each(begun, inserted, timers),
        each(inserted, cancelled, timers.div_ceil(2)),
        each(cancelled, ended, fired),
    );
    Ok(())
}

/// Emits the first key and the number of deadlines.
struct RequestSpout;

impl InboxSpout for RequestSpout {
    type Out = (u64, u64);
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<(u64, u64)>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

#[derive(Clone)]
enum In {
    Register(u64, u64),
    TimedOut(TimedOut),
}

impl From<(u64, u64)> for In {
    fn from((first, many): (u64, u64)) -> Self {
        In::Register(first, many)
    }
}

impl From<TimedOut> for In {
    fn from(timed_out: TimedOut) -> Self {
        In::TimedOut(timed_out)
    }
}

/// The registration time of each deadline, and the delay until the bolt received it.
#[derive(Default)]
struct Lateness {
    registered: Vec<MonoTime>,
    late: Vec<Duration>,
}

/// Registers deadlines and measures their delay. A normal bolt must not read the clock.
struct DeadlineBolt {
    clock: Arc<dyn Clock>,
    heard: Arc<Mutex<Lateness>>,
}

impl Bolt for DeadlineBolt {
    type In = In;
    type Out = ();
    fn declare(declarer: &mut Declarer<In>) {
        deadlines(declarer);
    }
    fn execute(&mut self, input: In, out: &mut Emitter<()>) {
        let mut heard = self.heard.lock().expect("no panic while locked");
        let now = self.clock.mono();
        match input {
            In::Register(first, many) => {
                for key in first..first + many {
                    heard.registered.push(now);
                    out.side(DEADLINES, Deadline::Register { key, generation: 1, after_ms: spread(key, SPAN_MS) });
                }
            }
            In::TimedOut(TimedOut { key, .. }) => {
                let since = usize::try_from(key).ok().and_then(|key| heard.registered.get(key).copied());
                let due = since.expect("the deadline was registered").plus_ms(spread(key, SPAN_MS));
                assert!(now >= due, "deadline {key} fired early");
                heard.late.push(now.since(due));
            }
        }
    }
}

/// Measures this number of deadlines in one lane, spread over five seconds.
fn lane(deadlines: u64) -> anyhow::Result<()> {
    /// The number of deadlines per record.
    const EACH: u64 = 100;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = Embedded::open(Arc::clone(&clock), EmbeddedOptions::default());
    let heard = Arc::new(Mutex::new(Lateness::default()));
    let t = Topology::named("timers");
    let ears = t.inbox_spout("ears", || RequestSpout);
    let (of, time) = (Arc::clone(&heard), Arc::clone(&clock));
    let keeper = t.bolt("keeper", move || DeadlineBolt { clock: Arc::clone(&time), heard: Arc::clone(&of) });
    keeper.stage("keeper").lanes(1).reads(ears.local());
    let topology = t.build()?;
    let topics = Topics::default();
    for spec in topology.topics(&topics) {
        bus.ensure_topic(&spec)?;
    }
    let inbox = topics.inbox("timers", "keeper");
    let options = ShardOptions {
        topics,
        stage: "keeper".into(),
        member: "keeper-1".into(),
        build: "bench".into(),
        settings: Settings::default(),
        recovery: RecoveryOptions { session_timeout: Duration::from_hours(1), ..RecoveryOptions::default() },
        inbox_limit: topology::InboxLimit::default(),
    };
    let mut tasks = Threads::default();
    let of: Arc<dyn Bus> = Arc::new(bus.clone());
    let make = move || {
        let shard = Shard::join(of, topology, options, ShardStatus::new("keeper", 1))?;
        Ok(Box::new(shard) as Box<dyn Task>)
    };
    tasks.spawn("keeper", Arc::clone(&clock), Box::new(make))?;
    let mut writer = bus.writer("bench")?;
    let mut first = 0;
    while first < deadlines {
        let many = EACH.min(deadlines - first);
        let envelope = Envelope::new(Kind::Request, format!("from-{first}"), "/bench");
        let record = Outgoing::keyed(&inbox, "bench", serde_json::to_vec(&(first, many))?).with(&envelope);
        writer.append(&[record])?;
        first += many;
    }
    // All deadlines are due within five seconds of their registration.
    let until = clock.mono().plus_ms(SPAN_MS * 12);
    loop {
        std::thread::park_timeout(Duration::from_millis(50));
        let heard = heard.lock().expect("no panic while locked").late.len();
        if heard as u64 == deadlines {
            break;
        }
        anyhow::ensure!(clock.mono() < until, "only {heard} of {deadlines} deadlines fired");
    }
    tasks.stop();
    let mut late = std::mem::take(&mut heard.lock().expect("no panic while locked").late);
    late.sort_unstable();
    let at = |per_mille: usize| {
        let found = late.get((late.len() - 1) * per_mille / 1_000).context("at least one deadline");
        found.map(|late| format!("{:.2} ms", late.as_secs_f64() * 1_000.0))
    };
    println!("| deadlines in a lane | late: p50 | p99 | p99.9 |\n|---|---|---|---|");
    println!("| {deadlines} | {} | {} | {} |", at(500)?, at(990)?, at(999)?);
    Ok(())
}
