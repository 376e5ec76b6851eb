//! Faults between two polls.

use std::sync::Arc;

use bus::{Bus, Clock, Outgoing, Record, Route};
use wire::command::Command;
use wire::header;
use wire::{Kind, OperationId};

use super::{FaultEvent, MAX_WALL_OFF_MS, Run};
use crate::fault::Fault;
use crate::people::CommandSpec;
use crate::process::{Process, Role};
use crate::story;

impl Run<'_> {
    /// Draws the faults that occur between two polls.
    pub(super) fn inject_faults(&mut self) {
        for fault in [
            Fault::Crash,
            Fault::Freeze,
            Fault::Slow,
            Fault::Join,
            Fault::Leave,
            Fault::Expel,
            Fault::Copied,
            Fault::Garbage,
            Fault::WallJump,
            Fault::BusWallJump,
            Fault::SpokeFault,
            Fault::Stall,
            Fault::Person,
            Fault::Damage,
        ] {
            if self.faults.strikes(fault) {
                self.injected += 1;
                self.strike(fault);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        if self.processes.is_empty() {
            return;
        }
        let place = self.dice.index(self.processes.len());
        let name = self.processes[place].name.clone();
        let log = |run: &Self, details: &str| run.say(&name, || format!("** {}{details}", fault.text()));
        let now = self.clock.mono();
        match fault {
            Fault::Crash => {
                log(self, "");
                self.crash(place);
            }
            Fault::Freeze | Fault::Slow => {
                let ms = if fault == Fault::Freeze {
                    self.session_ms() + self.dice.between(100, 3_000)
                } else {
                    self.dice.between(10, 900)
                };
                log(self, &format!(": {ms} ms"));
                self.processes[place].paused_until = Some(now.plus_ms(ms));
            }
            Fault::Join => {
                let role = self.processes[place].role.clone();
                let count = self.processes.iter().filter(|process| process.role == role).count();
                if !matches!(role, Role::North(_)) && count < self.max_processes {
                    log(self, "");
                    self.start(&role);
                }
            }
            Fault::Leave => {
                log(self, "");
                let process = self.processes.remove(place);
                self.disconnect(&process);
                let role = process.role.clone();
                process.stop();
                let in_ms = self.dice.roll(1_500);
                self.schedule(in_ms, FaultEvent::Start(role));
            }
            Fault::Expel => {
                let Some(group) = self.group(place) else { return };
                log(self, &format!(": {group}"));
                self.bus.expel(&group);
            }
            Fault::Copied => self.copy_record(),
            Fault::Garbage => self.write_garbage(),
            Fault::WallJump => {
                let ms =
                    i64::try_from(self.dice.roll(2 * MAX_WALL_OFF_MS)).unwrap_or(0) - MAX_WALL_OFF_MS.cast_signed();
                log(self, &format!(": {ms} ms"));
                self.processes[place].clock.set_wall_error_ms(ms);
            }
            Fault::BusWallJump => {
                let ms = i64::try_from(self.dice.roll(6_000)).unwrap_or(0) - 3_000;
                self.say("the bus", || format!("** {}: {ms} ms", fault.text()));
                self.set_bus_wall(ms);
            }
            Fault::SpokeFault => self.inject_spoke_fault(),
            Fault::Stall => {
                let Some(topic) = self.group(place) else { return };
                let partitions = self.bus.topic(&topic).expect("the bus answers").map_or(0, |topic| topic.partitions);
                let partition = u32::try_from(self.dice.roll(partitions.into())).unwrap_or(0);
                let ms = self.dice.between(50, 5_000);
                self.say("the bus", || format!("** {}: {topic}/{partition}, {ms} ms", fault.text()));
                self.faults.stall(topic, partition, ms);
            }
            Fault::Person => self.send_command(),
            Fault::Damage => self.damage_snapshot(),
            // The other kinds occur in the operations of the bus, in `fault_schedule`.
            _in_a_bus_operation => {}
        }
    }

    /// The group of a process, which is the name of the topic that it reads. Northbounds have none.
    fn group(&self, place: usize) -> Option<String> {
        match &self.processes[place].role {
            Role::Stage(stage) => Some(self.names.inbox(self.topology.name(), stage)),
            Role::Spoke(service) => Some(self.names.spoke(service)),
            Role::North(_) => None,
        }
    }

    /// Sends a command, maybe twice, to an operation in any state or to one that does not exist.
    fn send_command(&mut self) {
        let now = self.clock.mono();
        let clients = self.clients.all.len();
        let (client, is_unknown) = (self.dice.index(clients), self.dice.chance(100));
        let command = match (self.dice.roll(8), &self.simulation.scenario.signals) {
            (0, _) => Command::Resume,
            (1, _) => Command::Abort,
            (2..=4, Some(signals)) => {
                let (name, body) = signals(&mut self.dice);
                Command::Signal { name, body }
            }
            (2, None) => Command::Signal { name: "anything".into(), body: serde_json::Value::Null },
            (_, _) => Command::Cancel,
        };
        let times = 1 + self.dice.roll(3) / 2;
        let Some(client) = self.clients.all.get(client) else { return };
        let unknown = OperationId::new("nobodys").expect("letters are allowed");
        let Some(operation) = (if is_unknown { Some(&unknown) } else { client.operation.as_ref() }) else { return };
        let (workflow, key) = (client.ask.workflow.as_str(), client.ask.key.as_str());
        let spec = CommandSpec { operation, workflow, key, command: &command, is_unknown };
        let fronts = self.processes.iter().filter(|process| process.is_up(now)).filter_map(Process::front);
        fronts.take(usize::try_from(times).unwrap_or(1)).for_each(|front| self.people.send(&spec, front, &self.faults));
    }

    /// Sets the offset of the wall clock of the bus, in milliseconds.
    pub(super) fn set_bus_wall(&mut self, off_ms: i64) {
        self.clock.step_wall_ms(off_ms - self.bus_off_ms);
        self.bus_off_ms = off_ms;
    }

    fn inject_spoke_fault(&mut self) {
        let services: Vec<String> = self.spokes.keys().cloned().collect();
        if services.is_empty() {
            return;
        }
        let service = self.dice.pick(&services).clone();
        if let Some(fault) = self.spokes[&service].misbehave(&mut self.dice) {
            self.say(&service, || format!("** gets the fault {fault}"));
            let in_ms = self.dice.between(100, 2_000);
            self.schedule(in_ms, FaultEvent::Recover(service));
        }
    }

    /// Writes an old record of an inbox or a spoke's topic again.
    fn copy_record(&mut self) {
        let inboxes =
            self.topology.stages().into_iter().map(|stage| self.names.inbox(self.topology.name(), &stage.name));
        let spokes = self.spokes.keys().map(|service| self.names.spoke(service));
        let topics: Vec<String> = inboxes.chain(spokes).collect();
        let topic = self.dice.pick(&topics).clone();
        let can_be_copied = |record: &Record| {
            let kind = record.headers.get(header::TYPE).unwrap_or_default();
            [
                Kind::Request,
                Kind::Command,
                Kind::Reply,
                Kind::Refusal,
                Kind::Failure,
                Kind::Timeout,
                Kind::Tuple,
                Kind::Call,
                Kind::Undo,
            ]
            .iter()
            .any(|known| known.as_str().as_bytes() == kind)
        };
        let mut records = self.records(&topic);
        records.retain(can_be_copied);
        if records.is_empty() {
            return;
        }
        let record = records.swap_remove(self.dice.index(records.len()));
        let copy = Outgoing {
            topic: Arc::clone(&record.topic),
            route: Route::To(record.partition),
            key: record.key,
            headers: record.headers,
            value: record.value,
        };
        self.say("a foreign client", || format!("** writes a copy of {}", story::records(std::slice::from_ref(&copy))));
        let id = copy.headers.get(header::ID).map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
        self.copies.push((topic, id));
        self.write(&[copy]);
    }

    fn write_garbage(&mut self) {
        let stages = self.topology.stages();
        let stage = self.dice.pick(&stages).clone();
        let inbox = self.names.inbox(self.topology.name(), &stage.name);
        let bytes: Vec<u8> =
            (0..self.dice.between(1, 60)).map(|_| u8::try_from(self.dice.roll(24)).unwrap_or(0)).collect();
        let lane = u32::try_from(self.dice.roll(stage.lanes.into())).unwrap_or(0);
        self.say("a foreign client", || format!("** writes garbage into {inbox}"));
        self.write(&[crate::arbitrary::record(&inbox, &bytes).to(lane)]);
    }
}
