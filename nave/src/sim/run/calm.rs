//! How a seed comes to rest once the weather is calm.
//!
//! First every process lives on for a while, so that sessions end and retries succeed. An operation that still waits for a
//! person or for a deadline then has as long as it wants: one process of each role stays, since several would have to give
//! signs of life every fraction of a second, and the clock jumps from one deadline to the next.

use std::collections::BTreeSet;

use bus::Clock;
use wire::answer::Operation;
use wire::command::Command;

use super::{BEAT_MS, Deed, Run};
use crate::sim::people::Word;
use crate::sim::process::Process;

/// In calm weather everything but waits ends within this: a degraded flow tries again after a minute at the latest, and
/// patience and session are seconds.
const CALM_MS: u64 = 600_000;
/// The longest wait that is simulated: 10 years, longer than any deadline that makes sense.
pub(super) const LONGEST_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// The first interval between two looks of an operator, in milliseconds: sooner than a client loses its patience.
pub(super) const LOOK_MS: u64 = 5_000;
/// Maximum number of operations that an operator sees to at one look: more than a seed asks for.
const LISTED: usize = 1_000;
/// The tag of the dice by which people signal in calm weather.
pub(super) const SIGNALS: u64 = 7;

impl Run<'_> {
    /// Nothing goes wrong any more; dead processes come back, and frozen ones go on.
    pub(super) fn calm_down(&mut self) {
        self.say("the world", || "the weather is calm from here on".to_owned());
        self.bad = false;
        self.weather.calm();
        self.clients.become_patient();
        self.set_bus_wall(0);
        for process in &mut self.processes {
            process.frozen = None;
            process.clock.set_wall_off_ms(0);
        }
        for service in self.spokes.keys().cloned().collect::<Vec<_>>() {
            self.recover(&service, true);
        }
        if self.simulation.scenario.parks || self.simulation.scenario.signals.is_some() {
            self.note(0, Deed::Look);
        }
    }

    /// Gives turns until nothing is left to do.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        // A dead process is not missed before its session is over, and nobody is told when.
        self.live_until(self.clock.mono().plus_ms(self.session_ms() + 2 * BEAT_MS), false)?;
        let calm = self.clock.mono();
        let mut idle = self.live_until(calm.plus_ms(CALM_MS), true)?;
        if !idle {
            self.say("the world", || "something waits for longer: one process of each role stays".to_owned());
            self.keep_one_process_of_each_role();
            idle = self.live_until(calm.plus_ms(LONGEST_MS), true)?;
        }
        let seconds = self.clock.mono().since(calm).as_secs();
        if !self.clients.are_content() {
            let left = [self.clients.waiting(), self.unfinished(), self.unsignalled()].concat();
            return Err(format!("{seconds} s after the weather was calm: {}", left.join("; ")));
        }
        if !idle {
            let left = [self.restless(), self.unfinished()].concat().join("; ");
            return Err(format!("{seconds} s after the weather was calm something goes on: {left}"));
        }
        Ok(())
    }

    fn keep_one_process_of_each_role(&mut self) {
        let mut roles = BTreeSet::new();
        let (stay, leave): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.processes).into_iter().partition(|process| roles.insert(process.role.clone()));
        self.processes = stay;
        for process in leave {
            self.gone(&process);
            process.stop();
        }
    }

    /// In calm weather nothing stays parked, and people answer. An operator looks at what a northbound lists, also at operations
    /// that no client waits for any more: resumes or aborts what is parked, signals to what waits for it, and looks again until
    /// nothing lives.
    pub(super) fn see_to_what_waits(&mut self) {
        if let Some(front) = self.processes.iter().find_map(Process::front) {
            let (live, _) = front.gateway.known().page(None, LISTED, |operation| operation.live);
            for (_, operation) in live {
                let signals = self.simulation.scenario.signals.as_ref().filter(|_| {
                    let has_deadline = operation.until.as_ref().is_some_and(|until| until.at.is_some());
                    operation.signal.is_some() && (self.people_signal || !has_deadline)
                });
                let command = if operation.state == "parked" {
                    if self.dice.chance(500) { Command::Resume } else { Command::Abort }
                } else if let Some(signals) = signals {
                    let (name, body) = signals(&mut self.dice);
                    Command::Signal { name, body }
                } else {
                    continue;
                };
                let Operation { operation, workflow, key, .. } = &operation;
                let nobodys = !self.clients.ask_for(operation);
                self.people.tell(&Word { operation, workflow, key, command: &command, nobodys }, front, &self.weather);
            }
        }
        if !self.clients.are_content() || !self.unfinished().is_empty() {
            self.note(self.look_ms, Deed::Look);
            // An operator who looks in vain looks less often: an operation may wait for days.
            self.look_ms = (self.look_ms * 2).min(LONGEST_MS);
        }
    }

    /// A line for each signal that an operation waits for, where the scenario gives none.
    fn unsignalled(&self) -> Vec<String> {
        let front =
            self.processes.iter().find_map(Process::front).filter(|_| self.simulation.scenario.signals.is_none());
        let waits = |operation: &Operation| operation.live && operation.signal.is_some();
        let listed = front.map(|front| front.gateway.known().page(None, LISTED, waits).0).unwrap_or_default();
        let signals: BTreeSet<String> = listed.into_iter().filter_map(|(_, operation)| operation.signal).collect();
        let line = |signal| format!("the signal `{signal}` never comes: give it with `Scenario::signals`");
        signals.into_iter().map(line).collect()
    }

    /// A line for each process that has something to do by itself.
    fn restless(&mut self) -> Vec<String> {
        let now = self.clock.mono();
        let due = |process: &mut Process| {
            let next = process.turn().ok()?.next?;
            let (name, ms) = (&process.name, next.since(now).as_millis());
            Some(format!("{name} has something to do in {ms} ms"))
        };
        self.processes.iter_mut().filter_map(due).collect()
    }
}
