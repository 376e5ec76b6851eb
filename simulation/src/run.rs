//! One seed, from the first poll to the final checks.
//!
//! Read in this order: this file (the state of a run and its phases), `processes` (how they start
//! and crash), `polls` (polls, and time between them), `inject` (faults between polls), `damage`
//! (faults in snapshots), `step_checks` (checks after each poll), `settle` (the run until
//! nothing is in progress), `final_checks` (checks at the end).

mod damage;
mod final_checks;
mod inject;
mod polls;
mod processes;
mod settle;
mod step_checks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Cleanup, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Record};
use northbound::{GatewayLimits, GatewayOptions};
use topology::{Arrangement, DeliveryMode, RecoveryOptions, Shard, Topology};
use wire::WallTime;
use wire::answer::Answer;
use wire::topics::Topics;

use self::damage::Damage;
use super::clients::Clients;
use super::dice::Dice;
use super::fault_schedule::FaultSchedule;
use super::host::Host;
use super::people::People;
use super::process::{Process, Role};
use super::watch::Watch;
use super::{SeedResult, Simulation};

/// Maximum number of processes per role: enough for two rebalances at a time; in some seeds more
/// than there are lanes.
const MAX_PROCESSES: [usize; 4] = [3, 3, 3, 8];
/// Range of the duration of the phase with faults, in milliseconds.
const FAULTS_MS: (u64, u64) = (4_000, 20_000);
/// Maximum offset of the wall clock of a process. A message is useless after its expiry, which its
/// sender writes and its reader compares with its own clock. A workflow that waits out the expiry
/// of a call needs clocks that agree within that wait. Flows wait at least 1.6 s, the
/// duration of a call.
const MAX_WALL_OFF_MS: u64 = 700;
/// The build name in owner records.
const BUILD: &str = "simulated";
/// Tag of the generator that chooses which commands people repeat.
const REPEATS: u64 = 1;

/// An event at a later time: the consequence of a fault, or an operator's check.
enum FaultEvent {
    Start(Role),
    Deliver(Vec<Outgoing>),
    Recover(String),
    /// An operator handles operations that wait for a person.
    OperatorCheck,
}

pub(super) struct Run<'a> {
    simulation: &'a Simulation,
    seed: u64,
    dice: Dice,
    clock: Arc<ManualClock>,
    bus: Embedded,
    topology: Topology,
    names: Topics,
    recovery: RecoveryOptions,
    north: GatewayOptions,
    faults: Arc<FaultSchedule>,
    spokes: BTreeMap<String, Box<dyn Host>>,
    processes: Vec<Process>,
    /// Number of processes started so far; makes process names unique.
    started: u32,
    events: BTreeMap<(MonoTime, u64), FaultEvent>,
    scheduled: u64,
    clients: Clients,
    watch: Watch,
    polls: u64,
    injected: u32,
    bus_off_ms: i64,
    faults_on: bool,
    /// Records that foreign clients wrote: topic and `ce_id`.
    copies: Vec<(String, String)>,
    /// Damaged records of snapshots.
    damage: Vec<Damage>,
    /// End offset of a lane's snapshots, by topic and lane, when a process last reported an
    /// unusable snapshot.
    reported: BTreeMap<(String, u32), u64>,
    people: People,
    /// Interval until the operator's next check, in milliseconds.
    check_ms: u64,
    /// People signal to every operation that waits for it. In other seeds waits with a deadline
    /// time out.
    people_signal: bool,
    /// Maximum number of processes per role.
    max_processes: usize,
    /// Number of answered operations at the last check of the scenario.
    checked: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(simulation: &'a Simulation, seed: u64, log: bool) -> Self {
        let mut dice = Dice::seeded(seed);
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: dice.chance(500), ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let names = Topics::default();
        let topology = arranged(simulation, &mut dice);
        let at = WallTime::default();
        for mut spec in topology.topics(&names) {
            // The final checks read all records. A seed may last for years, so age retention is off.
            if matches!(spec.cleanup, Cleanup::DeleteAfterMs(_)) {
                spec.cleanup = Cleanup::Keep;
            }
            bus.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        let submitted = topology.record(&bus, &names, BUILD, at).expect("the topics were just made");
        let people = People::new(dice.tagged(REPEATS));
        let people_signal = dice.tagged(settle::SIGNALS).chance(700);
        let faults = FaultSchedule::new(dice.split(), Arc::clone(&clock), bus.clone(), names.spoke(""), log);
        let spokes = simulation.spokes.iter().map(|(service, make)| (service.clone(), make())).collect();
        let asks = (simulation.scenario.asks)(&mut dice.split());
        let mut run = Self {
            simulation,
            seed,
            clients: Clients::new(asks, simulation.scenario.parks, dice.split()),
            watch: Watch::new(&bus, &topology, &names),
            north: GatewayOptions::of(&names, &submitted, GatewayLimits::default()),
            recovery: RecoveryOptions {
                session_timeout: Duration::from_millis(*dice.pick(&[1_000, 3_000, 6_000])),
                snapshot_ms: *dice.pick(&[0, 100, 1_000, 5_000]),
                warm: dice.chance(500),
            },
            max_processes: *dice.pick(&MAX_PROCESSES),
            dice,
            clock,
            bus,
            topology,
            names,
            faults: Arc::new(faults),
            spokes,
            processes: Vec::new(),
            started: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            polls: 0,
            injected: 0,
            bus_off_ms: 0,
            faults_on: true,
            copies: Vec::new(),
            damage: Vec::new(),
            reported: BTreeMap::new(),
            people,
            check_ms: settle::FIRST_CHECK_MS,
            people_signal,
            checked: 0,
        };
        for role in run.roles() {
            let processes =
                if matches!(role, Role::Stage(_)) { 1 + run.dice.roll(run.max_processes as u64) } else { 1 };
            (0..processes).for_each(|_| run.start(&role));
        }
        run.spokes.values().for_each(|spoke| drop(spoke.handled()));
        run
    }

    fn session_ms(&self) -> u64 {
        u64::try_from(self.recovery.session_timeout.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn fault_schedule(&self) -> Arc<FaultSchedule> {
        Arc::clone(&self.faults)
    }

    /// Runs the seed to the end.
    pub(super) fn run(mut self) -> SeedResult {
        let failure = self.run_phases().err();
        if let Some(failure) = &failure {
            self.say("the simulation", || format!("!! {failure}"));
        }
        let mut answers: BTreeMap<&'static str, u64> = BTreeMap::new();
        for client in &self.clients.all {
            let how = match (&client.answer, &client.refused) {
                (Some(Answer::Done(_)), _) => "done",
                (Some(Answer::Failed(_)), _) => "failed",
                (Some(Answer::Refused(_)), _) | (None, Some(_)) => "refused",
                (None, None) => "none",
            };
            *answers.entry(how).or_default() += 1;
        }
        SeedResult {
            seed: self.seed,
            failure,
            fault_counts: self.faults.fault_counts(),
            answers,
            calls: self.watch.calls(),
            polls: self.polls,
            virtual_ms: self.clock.mono().0 / 1_000_000,
        }
    }

    fn run_phases(&mut self) -> Result<(), String> {
        self.say("the simulation", || {
            self.topology.describe().lines().filter(|line| line.starts_with("stage")).collect()
        });
        let bad = MonoTime::default().plus_ms(self.dice.between(FAULTS_MS.0, FAULTS_MS.1));
        self.run_until(bad, false)?;
        self.stop_faults();
        self.settle()?;
        self.final_checks()
    }

    fn say(&self, actor: &str, what: impl FnOnce() -> String) {
        self.faults.say(actor, what);
    }

    fn schedule(&mut self, in_ms: u64, event: FaultEvent) {
        self.scheduled += 1;
        self.events.insert((self.clock.mono().plus_ms(in_ms), self.scheduled), event);
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.processes.iter().filter_map(Process::shard)
    }

    fn unfinished(&self) -> Vec<String> {
        self.shards().flat_map(Shard::unfinished).collect()
    }

    /// Returns every record of a topic.
    fn records(&self, topic: &str) -> Vec<Record> {
        // The bus may have deleted records of an inbox.
        if let Some(kept) = self.watch.kept.get(topic) {
            return kept.clone();
        }
        let partitions = self.bus.topic(topic).expect("the bus answers").map_or(0, |topic| topic.partitions);
        let mut reader = self.bus.reader().expect("the bus answers");
        for partition in 0..partitions {
            reader.assign(topic, partition, 0).expect("the bus keeps everything");
        }
        let mut records = Vec::new();
        reader.poll(usize::MAX, std::time::Duration::ZERO, &mut records).expect("the bus keeps everything");
        records
    }
}

/// Lays out the topology for this seed: in one stage or several, with random lanes and modes.
fn arranged(simulation: &Simulation, dice: &mut Dice) -> Topology {
    let topology = match &simulation.scenario.settings {
        Some(settings) => {
            let mut all = simulation.topology.settings().clone();
            all.take(&settings(dice));
            simulation.topology.with_settings(&all).expect("the scenario's settings fit the topology")
        }
        None => simulation.topology.clone(),
    };
    let mut arrangement = Arrangement { apart: dice.chance(500), ..Arrangement::default() };
    let laid_out = topology.arranged(&arrangement).expect("a topology supports both layouts");
    for stage in laid_out.stages() {
        arrangement.lanes.insert(stage.name.to_string(), 1 + u32::try_from(dice.roll(3)).unwrap_or(0));
        let mode = *dice.pick(&[DeliveryMode::ExactlyOnce, DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce]);
        arrangement.modes.insert(stage.name.to_string(), mode);
    }
    topology.arranged(&arrangement).expect("a topology supports any number of lanes")
}
