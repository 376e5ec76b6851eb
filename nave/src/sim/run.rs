//! One seed, from its first turn to the last check.
//!
//! Read in this order: this file (turns, time, processes), `misfortune` (what happens between turns), `damage` (to what is saved),
//! `turns` (what must be so after each), `calm` (how a seed comes to rest), `rest` (what must be so in the end).

mod calm;
mod damage;
mod misfortune;
mod rest;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Bus, Cleanup, Clock, DriftingClock, Embedded, EmbeddedOptions, Faulty, ManualClock, MonoTime, Outgoing, Record,
};
use northbound::{GatewayLimits, GatewayOptions};
use topology::{Arrangement, Mode, Shard, ShardOptions, ShardStatus, Topology, Upkeep};
use wire::WallTime;
use wire::answer::Answer;
use wire::topics::Topics;

use self::damage::Damage;
use self::turns::Before;
use super::clients::{Clients, NORTHBOUNDS};
use super::dice::Dice;
use super::host::Host;
use super::people::People;
use super::process::{Front, Process, Role, Running};
use super::watch::Watch;
use super::weather::{Lot, Weather};
use super::{Ran, Simulation};
use crate::submission;

/// So many processes of a role there are at most: enough for two rebalances at a time; and in some worlds more than there are lanes.
const MOST: [usize; 4] = [3, 3, 3, 8];
/// The bad weather lasts between so many milliseconds.
const BAD_MS: (u64, u64) = (4_000, 20_000);
/// The time of day of a process is off by at most so much: what is sent has no use after its expiry, which its sender's clock
/// writes and its reader's clock reads. A workflow that waits out the expiry of a call (flows wait at least a call longer, 1.6 s)
/// needs clocks that agree within that.
const DISAGREE_MS: u64 = 700;
/// No process is left without a turn for longer, in milliseconds, while it has not died: what polls gives signs of life.
const BEAT_MS: u64 = 300;
/// So many things happen between turns at most: each makes work, and in an instant full of work there are many turns.
const MISFORTUNES: u32 = 60;
/// So many turns are no progress but a circle: seeds take a few thousand.
const TURNS: u64 = 200_000;

/// The tag of the dice by which people say a command twice.
const AGAIN: u64 = 1;

/// What is to be done at a time.
enum Deed {
    Start(Role),
    Deliver(Vec<Outgoing>),
    Recover(String),
    /// An operator looks at what waits for a person.
    Look,
}

pub(super) struct Run<'a> {
    simulation: &'a Simulation,
    seed: u64,
    dice: Dice,
    clock: Arc<ManualClock>,
    bus: Embedded,
    topology: Topology,
    names: Topics,
    upkeep: Upkeep,
    north: GatewayOptions,
    weather: Arc<Weather>,
    spokes: BTreeMap<String, Box<dyn Host>>,
    processes: Vec<Process>,
    /// The next process's number: names are never given twice.
    started: u32,
    agenda: BTreeMap<(MonoTime, u64), Deed>,
    noted: u64,
    clients: Clients,
    watch: Watch,
    turns: u64,
    misfortunes: u32,
    bus_off_ms: i64,
    bad: bool,
    /// Records that strangers have written: topic and `ce_id`.
    copies: Vec<(String, String)>,
    /// What strangers did to what is saved.
    damage: Vec<Damage>,
    /// Where a lane's snapshots ended, by topic and lane, when somebody last counted one that cannot be used.
    named: BTreeMap<(String, u32), u64>,
    people: People,
    /// The interval until the operator looks again, in milliseconds.
    look_ms: u64,
    /// People signal to every operation that waits for it. In other seeds they let the deadlines of waits pass.
    people_signal: bool,
    /// So many processes of a role there are at most.
    most: usize,
    /// So many operations were answered when all was quiet the last time.
    judged: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(simulation: &'a Simulation, seed: u64, told: bool) -> Self {
        let mut dice = Dice::seeded(seed);
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: dice.chance(500), ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let names = Topics::default();
        let topology = arranged(simulation, &mut dice);
        let at = WallTime::default();
        for mut spec in topology.topics(&names) {
            // Records are compared in the end. A seed may last for years, and none is deleted for its age.
            if matches!(spec.cleanup, Cleanup::DeleteAfterMs(_)) {
                spec.cleanup = Cleanup::Keep;
            }
            bus.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        let submitted = submission::describe(&bus, &names, &topology, at).expect("the topics were just made");
        let people = People::new(dice.tagged(AGAIN));
        let people_signal = dice.tagged(calm::SIGNALS).chance(700);
        let weather = Weather::new(dice.split(), Arc::clone(&clock), bus.clone(), names.spoke(""), told);
        let spokes = simulation.spokes.iter().map(|(service, make)| (service.clone(), make())).collect();
        let asks = (simulation.scenario.asks)(&mut dice.split());
        let mut run = Self {
            simulation,
            seed,
            clients: Clients::new(asks, simulation.scenario.parks, dice.split()),
            watch: Watch::new(&bus, &topology, &names),
            north: GatewayOptions::of(&names, &submitted, GatewayLimits::default()),
            upkeep: Upkeep {
                session_timeout: Duration::from_millis(*dice.pick(&[1_000, 3_000, 6_000])),
                snapshot_ms: *dice.pick(&[0, 100, 1_000, 5_000]),
                warm: dice.chance(500),
            },
            most: *dice.pick(&MOST),
            dice,
            clock,
            bus,
            topology,
            names,
            weather: Arc::new(weather),
            spokes,
            processes: Vec::new(),
            started: 0,
            agenda: BTreeMap::new(),
            noted: 0,
            turns: 0,
            misfortunes: 0,
            bus_off_ms: 0,
            bad: true,
            copies: Vec::new(),
            damage: Vec::new(),
            named: BTreeMap::new(),
            people,
            look_ms: calm::LOOK_MS,
            people_signal,
            judged: 0,
        };
        for role in run.roles() {
            let processes = if matches!(role, Role::Stage(_)) { 1 + run.dice.roll(run.most as u64) } else { 1 };
            (0..processes).for_each(|_| run.start(&role));
        }
        run.spokes.values().for_each(|spoke| drop(spoke.handled()));
        run
    }

    fn session_ms(&self) -> u64 {
        u64::try_from(self.upkeep.session_timeout.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn weather(&self) -> Arc<Weather> {
        Arc::clone(&self.weather)
    }

    /// Runs it to the end.
    pub(super) fn run(mut self) -> Ran {
        let broken = self.whole().err();
        if let Some(broken) = &broken {
            self.say("the world", || format!("!! {broken}"));
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
        Ran {
            seed: self.seed,
            broken,
            struck: self.weather.struck(),
            answers,
            calls: self.watch.calls(),
            turns: self.turns,
            virtual_ms: self.clock.mono().0 / 1_000_000,
        }
    }

    fn whole(&mut self) -> Result<(), String> {
        self.say("the world", || self.topology.describe().lines().filter(|line| line.starts_with("stage")).collect());
        let bad = MonoTime::default().plus_ms(self.dice.between(BAD_MS.0, BAD_MS.1));
        self.live_until(bad, false)?;
        self.calm_down();
        self.come_to_rest()?;
        self.at_rest()
    }

    fn roles(&self) -> Vec<Role> {
        let stages = self.topology.stages().into_iter().map(|stage| Role::Stage(stage.name.to_string()));
        let spokes = self.spokes.keys().cloned().map(Role::Spoke);
        stages.chain(spokes).chain((0..NORTHBOUNDS).map(Role::North)).collect()
    }

    fn say(&self, who: &str, what: impl FnOnce() -> String) {
        self.weather.say(who, what);
    }

    fn note(&mut self, in_ms: u64, deed: Deed) {
        self.noted += 1;
        self.agenda.insert((self.clock.mono().plus_ms(in_ms), self.noted), deed);
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// Gives turns until then; with `idle`, or until nothing is left to do: true where that is so.
    fn live_until(&mut self, until: MonoTime, idle: bool) -> Result<bool, String> {
        loop {
            let now = self.clock.mono();
            if now >= until {
                return Ok(false);
            }
            let mut worked = self.do_what_is_due();
            worked |= self.ask(now)?;
            let (turned, next) = self.round()?;
            if worked || turned {
                continue;
            }
            if !self.bad {
                // One that was to die of a fault may do so only now, once it has told what it owed.
                self.spokes.values().for_each(|spoke| spoke.recover(true));
            }
            let due = self.agenda.keys().next().map(|(at, _)| *at);
            let woken = self.processes.iter().filter_map(|process| process.frozen).min();
            let next =
                next.into_iter().chain(due).chain(woken).chain(self.weather.next()).chain(self.clients.next()).min();
            if idle && next.is_none() {
                return Ok(true);
            }
            let next = next.unwrap_or(until);
            // Due now and not done: what it waits for takes time.
            let next = next.max(now.plus_ms(1)).min(now.plus_ms(self.beat_ms())).min(until);
            self.clock.advance_to(next);
        }
    }

    /// The longest step of time: where a group has several members, none of them is to be missed.
    fn beat_ms(&self) -> u64 {
        let alone = |process: &Process| self.processes.iter().filter(|other| other.role == process.role).count() == 1;
        if self.processes.iter().all(alone) { calm::LONGEST_MS } else { BEAT_MS }
    }

    fn ask(&mut self, now: MonoTime) -> Result<bool, String> {
        let mut fronts = [None; NORTHBOUNDS];
        for process in self.processes.iter().filter(|process| process.is_up(now)) {
            if let (Role::North(number), Running::North(front)) = (&process.role, &process.running) {
                fronts[*number] = Some(&**front);
            }
        }
        self.clients.step(now, &fronts, &self.weather)
    }

    /// A turn for each process, in an order by chance. When the next one is due.
    fn round(&mut self) -> Result<(bool, Option<MonoTime>), String> {
        let mut order: Vec<String> = self.processes.iter().map(|process| process.name.clone()).collect();
        self.dice.shuffle(&mut order);
        let (mut worked, mut next) = (false, None);
        for name in order {
            if self.bad && self.misfortunes < MISFORTUNES {
                self.misfortune();
            }
            let now = self.clock.mono();
            let Some(place) = self.processes.iter().position(|process| process.name == name && process.is_up(now))
            else {
                continue;
            };
            self.processes[place].frozen = None;
            self.turns += 1;
            self.watch.keep();
            let before = Before::of(&self.processes[place]);
            let turn = self.processes[place].turn();
            self.look_at_what_is_named(place, &before)?;
            if self.processes[place].bus.is_dead() {
                self.die(place);
                worked = true;
                continue;
            }
            let turn = turn.map_err(|error| format!("{name} ended by itself: {error}"))?;
            if turn.worked {
                worked = true;
                self.look()?;
                self.look_inside(place, &before)?;
            }
            next = next.into_iter().chain(turn.next).min();
        }
        if self.turns > TURNS {
            return Err(format!("no end after {TURNS} turns: {}", self.unfinished().join("; ")));
        }
        Ok((worked, next))
    }

    fn do_what_is_due(&mut self) -> bool {
        let now = self.clock.mono();
        let mut worked = false;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            worked = true;
            match entry.remove() {
                Deed::Start(role) => self.start(&role),
                Deed::Deliver(records) => {
                    self.say("the network", || format!("brings late {}", super::story::records(&records)));
                    self.write(&records);
                }
                Deed::Recover(service) => self.recover(&service, false),
                Deed::Look => self.see_to_what_waits(),
            }
        }
        worked
    }

    fn recover(&mut self, service: &str, calm: bool) {
        if let Some(spoke) = self.spokes.get(service) {
            spoke.recover(calm);
        }
    }

    /// Brings records to the bus. What a spoke that lies has addressed to a lane that there is not is refused, as it would be at once.
    fn write(&mut self, records: &[Outgoing]) {
        let written = self.bus.writer("network").and_then(|mut writer| writer.append(records));
        if let Err(error) = written {
            self.say("the network", || format!("is refused: {error}"));
        }
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    fn start(&mut self, role: &Role) {
        self.started += 1;
        let name = match role {
            Role::Stage(name) => format!("{name}-{}", self.started),
            // A stage may have the name of the spoke that it calls.
            Role::Spoke(name) => format!("spoke-{name}-{}", self.started),
            Role::North(number) => format!("northbound-{number}-{}", self.started),
        };
        let (mut ppm, mut ahead) =
            (i64::try_from(self.dice.roll(20_000)).unwrap_or(0) - 10_000, self.dice.roll(1 << 40));
        if matches!(role, Role::Spoke(_)) {
            // What a spoke's fault has delayed outlives its process, and is counted on one clock.
            (ppm, ahead) = (0, 0);
        }
        let clock = Arc::new(DriftingClock::new(Arc::clone(&self.clock), ppm, ahead));
        let lot = Arc::new(Lot::new(Arc::clone(&self.weather), name.clone()));
        let bus = Faulty::with_clock(Arc::new(self.bus.clone()), Arc::clone(&clock) as Arc<dyn Clock>, lot);
        let running = match role {
            Role::Stage(stage) => self.lanes(stage, &name, &bus),
            Role::Spoke(service) => {
                let joined = self.spokes[service].join(&bus, &self.names, service, &name);
                Running::Spoke(joined.unwrap_or_else(|error| panic!("nobody calls `{service}`: {error}")))
            }
            Role::North(_) => {
                let front = Front::open(&bus, self.north.clone()).expect("the topics are there");
                Running::North(Box::new(front))
            }
        };
        self.say(&name, || "starts".to_owned());
        self.processes.push(Process { name, role: role.clone(), running, bus, clock, frozen: None });
    }

    fn lanes(&self, stage: &str, name: &str, bus: &Faulty) -> Running {
        let options = ShardOptions {
            topics: self.names.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: "simulated".to_owned(),
            settings: self.topology.settings().clone(),
            upkeep: self.upkeep,
            inbox_limit: topology::InboxLimit::default(),
        };
        let lanes =
            self.topology.stages().into_iter().find(|known| *known.name == *stage).map_or(0, |known| known.lanes);
        let status = ShardStatus::new(stage, lanes);
        let shard = Shard::join(Arc::new(bus.clone()), self.topology.clone(), options, status);
        Running::Lanes(Box::new(shard.expect("the topics are there")))
    }

    /// A process is gone, with all that it had in its hands.
    fn die(&mut self, place: usize) {
        let process = self.processes.remove(place);
        process.bus.kill();
        self.gone(&process);
        self.say(&process.name, || "is dead".to_owned());
        // Sometimes the broker hears of it at once, and sometimes it takes a session.
        if self.dice.chance(300)
            && let Role::Stage(stage) = &process.role
        {
            self.bus.expel(&self.names.inbox(self.topology.name(), stage));
        }
        let in_ms = self.dice.roll(3) * self.dice.roll(2_000);
        self.note(in_ms, Deed::Start(process.role.clone()));
    }

    fn gone(&mut self, process: &Process) {
        if let Role::North(number) = process.role {
            self.clients.cut(number, self.clock.mono());
        }
    }

    // ---- questions ----------------------------------------------------------------------------------------------------

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.processes.iter().filter_map(Process::shard)
    }

    fn unfinished(&self) -> Vec<String> {
        self.shards().flat_map(Shard::unfinished).collect()
    }

    /// Every record of a topic.
    fn records(&self, topic: &str) -> Vec<Record> {
        // What was in an inbox may be there no more.
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

/// The topology as this seed has it: in one stage or in several, with lanes and modes by chance.
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
    let laid_out = topology.arranged(&arrangement).expect("a topology can be laid out in both ways");
    for stage in laid_out.stages() {
        arrangement.lanes.insert(stage.name.to_string(), 1 + u32::try_from(dice.roll(3)).unwrap_or(0));
        let mode = *dice.pick(&[Mode::ExactlyOnce, Mode::ExactlyOnce, Mode::AtLeastOnce]);
        arrangement.modes.insert(stage.name.to_string(), mode);
    }
    topology.arranged(&arrangement).expect("any number of lanes will do")
}
