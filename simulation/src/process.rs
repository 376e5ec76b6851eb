//! One simulated process: the lanes of a stage, a spoke or a northbound, with its own view of the
//! bus and its own clock.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, DriftingClock, FaultyBus, MonoTime, PollOutcome, Task};
use northbound::{Gateway, GatewayOptions, Inlet, InletHandle, Outlet};
use topology::Shard;

/// The role of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Runs lanes of a stage.
    Stage(String),
    /// Serves a spoke.
    Spoke(String),
    /// Is the northbound with this index.
    North(usize),
}

/// The tasks of a process.
pub(super) enum Running {
    Lanes(Box<Shard>),
    Spoke(Box<dyn Task>),
    North(Box<Front>),
}

pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) running: Running,
    pub(super) bus: FaultyBus,
    pub(super) clock: Arc<DriftingClock>,
    /// Paused until this time: it is not polled.
    pub(super) paused_until: Option<MonoTime>,
}

impl Process {
    /// Polls the tasks. Converts the time of the next poll from the process's clock to the world's
    /// clock.
    pub(super) fn poll(&mut self) -> Result<PollOutcome, BusError> {
        let outcome = match &mut self.running {
            Running::Lanes(shard) => shard.poll(Duration::ZERO),
            Running::Spoke(part) => part.poll(Duration::ZERO),
            Running::North(front) => front.poll(),
        }?;
        Ok(PollOutcome { next: outcome.next.map(|next| self.clock.true_time(next)), ..outcome })
    }

    pub(super) fn is_up(&self, now: MonoTime) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
    }

    /// Shuts the process down.
    pub(super) fn stop(self) {
        match self.running {
            Running::Lanes(shard) => drop(Task::stop(shard)),
            Running::Spoke(part) => drop(part.stop()),
            Running::North(front) => {
                drop(Task::stop(Box::new(front.inlet)));
                drop(Task::stop(Box::new(front.outlet)));
            }
        }
    }

    pub(super) fn front(&self) -> Option<&Front> {
        match &self.running {
            Running::North(front) => Some(front),
            Running::Lanes(_) | Running::Spoke(_) => None,
        }
    }

    pub(super) fn shard(&self) -> Option<&Shard> {
        match &self.running {
            Running::Lanes(shard) => Some(shard),
            Running::Spoke(_) | Running::North(_) => None,
        }
    }
}

/// A northbound without its HTTP server.
pub(super) struct Front {
    pub(super) gateway: Arc<Gateway>,
    pub(super) handle: InletHandle,
    pub(super) clock: Arc<dyn Clock>,
    inlet: Inlet,
    outlet: Outlet,
}

impl Front {
    pub(super) fn open(bus: &FaultyBus, options: GatewayOptions) -> Result<Self, BusError> {
        let gateway = Arc::new(Gateway::new(options, bus.clock()));
        let inlet = Inlet::open(bus)?;
        let outlet = Outlet::open(Arc::new(bus.clone()), Arc::clone(&gateway))?;
        Ok(Self { gateway, handle: inlet.handle(), clock: bus.clock(), inlet, outlet })
    }

    fn poll(&mut self) -> Result<PollOutcome, BusError> {
        let one = self.inlet.poll(Duration::ZERO)?;
        let other = self.outlet.poll(Duration::ZERO)?;
        Ok(PollOutcome { worked: one.worked || other.worked, next: one.next.into_iter().chain(other.next).min() })
    }
}
