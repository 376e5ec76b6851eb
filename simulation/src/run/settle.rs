//! The end of a run: faults are off, and the system must become idle.
//!
//! First all processes run for a while, so that sessions expire and retries succeed. Operations
//! that still wait for a person or a deadline then get as much time as they need. One process of
//! each role stays, since several would need heartbeats every fraction of a second, and the clock
//! jumps from one deadline to the next.

use std::collections::BTreeSet;

use bus::Clock;
use wire::answer::Operation;
use wire::command::Command;

use super::polls::HEARTBEAT_MS;
use super::{FaultEvent, Run};
use crate::people::CommandSpec;
use crate::process::Process;

/// Without faults everything but waits ends within this: a degraded flow retries after a minute at
/// the latest, and client and session timeouts are seconds.
const CALM_MS: u64 = 600_000;
/// The longest simulated wait: 10 years, longer than any sensible deadline.
pub(super) const LONGEST_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// First interval between two checks of an operator, in milliseconds: less than a client's first
/// timeout.
pub(super) const FIRST_CHECK_MS: u64 = 5_000;
/// Maximum number of operations that an operator handles per check: more than a seed requests.
const MAX_LISTED: usize = 1_000;
/// Tag of the generator that chooses whether people signal after faults are off.
pub(super) const SIGNALS: u64 = 7;

impl Run<'_> {
    /// Switches faults off, restarts crashed spokes and resumes paused processes.
    pub(super) fn stop_faults(&mut self) {
        self.say("the simulation", || "all faults are off from here on".to_owned());
        self.faults_on = false;
        self.faults.stop();
        self.clients.back_off();
        self.set_bus_wall(0);
        for process in &mut self.processes {
            process.paused_until = None;
            process.clock.set_wall_error_ms(0);
        }
        for service in self.spokes.keys().cloned().collect::<Vec<_>>() {
            self.recover(&service, true);
        }
        if self.simulation.scenario.parks || self.simulation.scenario.signals.is_some() {
            self.schedule(0, FaultEvent::OperatorCheck);
        }
    }

    /// Polls until nothing is left to do.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        // The group expels a crashed process only after its session timeout, without an event.
        self.run_until(self.clock.mono().plus_ms(self.session_ms() + 2 * HEARTBEAT_MS), false)?;
        let start = self.clock.mono();
        let mut idle = self.run_until(start.plus_ms(CALM_MS), true)?;
        if !idle {
            self.say("the simulation", || "operations still wait: only one process of each role stays".to_owned());
            self.keep_one_process_of_each_role();
            idle = self.run_until(start.plus_ms(LONGEST_MS), true)?;
        }
        let seconds = self.clock.mono().since(start).as_secs();
        if !self.clients.are_done() {
            let left = [self.clients.waiting(), self.unfinished(), self.missing_signals()].concat();
            return Err(format!("{seconds} s after faults were switched off: {}", left.join("; ")));
        }
        if !idle {
            let left = [self.busy_processes(), self.unfinished()].concat().join("; ");
            return Err(format!("still busy {seconds} s after faults were switched off: {left}"));
        }
        Ok(())
    }

    fn keep_one_process_of_each_role(&mut self) {
        let mut roles = BTreeSet::new();
        let (stay, leave): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.processes).into_iter().partition(|process| roles.insert(process.role.clone()));
        self.processes = stay;
        for process in leave {
            self.disconnect(&process);
            process.stop();
        }
    }

    /// Resumes or aborts parked operations and signals to operations that wait for it, until no
    /// operation is live. The operator uses a northbound's list, which also contains operations
    /// that no client waits for.
    pub(super) fn operator_check(&mut self) {
        if let Some(front) = self.processes.iter().find_map(Process::front) {
            let (live, _) = front.gateway.operations().page(None, MAX_LISTED, |operation| operation.live);
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
                let is_unknown = !self.clients.have_requested(operation);
                self.people.send(
                    &CommandSpec { operation, workflow, key, command: &command, is_unknown },
                    front,
                    &self.faults,
                );
            }
        }
        if !self.clients.are_done() || !self.unfinished().is_empty() {
            self.schedule(self.check_ms, FaultEvent::OperatorCheck);
            // The interval doubles: an operation may wait for days.
            self.check_ms = (self.check_ms * 2).min(LONGEST_MS);
        }
    }

    /// One line per signal that an operation waits for, if the scenario provides none.
    fn missing_signals(&self) -> Vec<String> {
        let front =
            self.processes.iter().find_map(Process::front).filter(|_| self.simulation.scenario.signals.is_none());
        let waits = |operation: &Operation| operation.live && operation.signal.is_some();
        let listed = front.map(|front| front.gateway.operations().page(None, MAX_LISTED, waits).0).unwrap_or_default();
        let signals: BTreeSet<String> = listed.into_iter().filter_map(|(_, operation)| operation.signal).collect();
        let line = |signal| format!("no one sends the signal `{signal}`: provide it with `Scenario::signals`");
        signals.into_iter().map(line).collect()
    }

    /// One line per process whose task has something to do.
    fn busy_processes(&mut self) -> Vec<String> {
        let now = self.clock.mono();
        let due = |process: &mut Process| {
            let next = process.poll().ok()?.next?;
            let (name, ms) = (&process.name, next.since(now).as_millis());
            Some(format!("{name} has something to do in {ms} ms"))
        };
        self.processes.iter_mut().filter_map(due).collect()
    }
}
