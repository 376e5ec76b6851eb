//! The loop of a run: due events, clients, each process once, and then the next moment.

use bus::{Bus, Clock, MonoTime, Outgoing};

use super::step_checks::Before;
use super::{FaultEvent, Run, settle};
use crate::clients::NORTHBOUNDS;
use crate::process::{Process, Role, Running};
use crate::story;

/// Longest time between two polls of a live process, in milliseconds: polls send heartbeats.
pub(super) const HEARTBEAT_MS: u64 = 300;
/// Maximum number of faults between polls: each causes work, and much work in one instant takes
/// many polls.
const MAX_INJECTED: u32 = 60;
/// A run with more polls is considered an endless loop: seeds take a few thousand.
const MAX_POLLS: u64 = 200_000;

impl Run<'_> {
    /// Polls until the time `until`. With `idle`, stops early and returns true when nothing is left
    /// to do.
    pub(super) fn run_until(&mut self, until: MonoTime, idle: bool) -> Result<bool, String> {
        loop {
            let now = self.clock.mono();
            if now >= until {
                return Ok(false);
            }
            let mut worked = self.run_events();
            worked |= self.poll_clients(now)?;
            let (polled, next) = self.poll_all()?;
            if worked || polled {
                continue;
            }
            if !self.faults_on {
                // A spoke with an injected crash may crash only now, after sending its pending
                // replies.
                self.spokes.values().for_each(|spoke| spoke.recover(true));
            }
            let due = self.events.keys().next().map(|(at, _)| *at);
            let woken = self.processes.iter().filter_map(|process| process.paused_until).min();
            let next =
                next.into_iter().chain(due).chain(woken).chain(self.faults.next()).chain(self.clients.next()).min();
            if idle && next.is_none() {
                return Ok(true);
            }
            let next = next.unwrap_or(until);
            // A task that is due but did no work waits for something that takes time.
            let next = next.max(now.plus_ms(1)).min(now.plus_ms(self.max_step_ms())).min(until);
            self.clock.advance_to(next);
        }
    }

    /// Longest step of the clock: members of a group with several members must send heartbeats.
    fn max_step_ms(&self) -> u64 {
        let alone = |process: &Process| self.processes.iter().filter(|other| other.role == process.role).count() == 1;
        if self.processes.iter().all(alone) { settle::LONGEST_MS } else { HEARTBEAT_MS }
    }

    fn poll_clients(&mut self, now: MonoTime) -> Result<bool, String> {
        let mut fronts = [None; NORTHBOUNDS];
        for process in self.processes.iter().filter(|process| process.is_up(now)) {
            if let (Role::North(number), Running::North(front)) = (&process.role, &process.running) {
                fronts[*number] = Some(&**front);
            }
        }
        self.clients.step(now, &fronts, &self.faults)
    }

    /// Polls each process once, in random order. Returns whether any did work, and the time of the
    /// next poll.
    fn poll_all(&mut self) -> Result<(bool, Option<MonoTime>), String> {
        let mut order: Vec<String> = self.processes.iter().map(|process| process.name.clone()).collect();
        self.dice.shuffle(&mut order);
        let (mut worked, mut next) = (false, None);
        for name in order {
            if self.faults_on && self.injected < MAX_INJECTED {
                self.inject_faults();
            }
            let now = self.clock.mono();
            let Some(place) = self.processes.iter().position(|process| process.name == name && process.is_up(now))
            else {
                continue;
            };
            self.processes[place].paused_until = None;
            self.polls += 1;
            self.watch.read_inboxes();
            let before = Before::of(&self.processes[place]);
            let outcome = self.processes[place].poll();
            self.record_reported_damage(place, &before)?;
            if self.processes[place].bus.is_dead() {
                self.crash(place);
                worked = true;
                continue;
            }
            let outcome = outcome.map_err(|error| format!("{name} failed: {error}"))?;
            if outcome.worked {
                worked = true;
                self.check_after_poll()?;
                self.check_lanes(place, &before)?;
            }
            next = next.into_iter().chain(outcome.next).min();
        }
        if self.polls > MAX_POLLS {
            return Err(format!("not finished after {MAX_POLLS} polls: {}", self.unfinished().join("; ")));
        }
        Ok((worked, next))
    }

    fn run_events(&mut self) -> bool {
        let now = self.clock.mono();
        let mut worked = false;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now) {
            worked = true;
            match entry.remove() {
                FaultEvent::Start(role) => self.start(&role),
                FaultEvent::Deliver(records) => {
                    self.say("the network", || format!("delivers late {}", story::records(&records)));
                    self.write(&records);
                }
                FaultEvent::Recover(service) => self.recover(&service, false),
                FaultEvent::OperatorCheck => self.operator_check(),
            }
        }
        worked
    }

    pub(super) fn recover(&mut self, service: &str, calm: bool) {
        if let Some(spoke) = self.spokes.get(service) {
            spoke.recover(calm);
        }
    }

    /// Writes records to the bus. The bus rejects messages of a lying spoke to a lane that does not
    /// exist.
    pub(super) fn write(&mut self, records: &[Outgoing]) {
        let written = self.bus.writer("network").and_then(|mut writer| writer.append(records));
        if let Err(error) = written {
            self.say("the network", || format!("fails to write: {error}"));
        }
    }
}
