//! One simulated process: the lanes of a stage, a spoke or a northbound, with its own view of the
//! bus and its own clock.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, DriftingClock, Faulty, MonoTime, Part, Turn};
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
    Spoke(Box<dyn Part>),
    North(Box<Front>),
}

pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) running: Running,
    pub(super) bus: Faulty,
    pub(super) clock: Arc<DriftingClock>,
    /// Paused until this time: it is not polled.
    pub(super) paused_until: Option<MonoTime>,
}

impl Process {
    /// Polls the tasks. Converts the time of the next poll from the process's clock to the world's
    /// clock.
    pub(super) fn turn(&mut self) -> Result<Turn, BusError> {
        let turn = match &mut self.running {
            Running::Lanes(shard) => shard.turn(Duration::ZERO),
            Running::Spoke(part) => part.turn(Duration::ZERO),
            Running::North(front) => front.turn(),
        }?;
        Ok(Turn { next: turn.next.map(|next| self.clock.world_time(next)), ..turn })
    }

    pub(super) fn is_up(&self, now: MonoTime) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
    }

    /// Shuts the process down.
    pub(super) fn stop(self) {
        match self.running {
            Running::Lanes(shard) => drop(Part::stop(shard)),
            Running::Spoke(part) => drop(part.stop()),
            Running::North(front) => {
                drop(Part::stop(Box::new(front.inlet)));
                drop(Part::stop(Box::new(front.outlet)));
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
    pub(super) fn open(bus: &Faulty, options: GatewayOptions) -> Result<Self, BusError> {
        let gateway = Arc::new(Gateway::new(options, bus.clock()));
        let inlet = Inlet::open(bus)?;
        let outlet = Outlet::open(Arc::new(bus.clone()), Arc::clone(&gateway))?;
        Ok(Self { gateway, handle: inlet.handle(), clock: bus.clock(), inlet, outlet })
    }

    fn turn(&mut self) -> Result<Turn, BusError> {
        let one = self.inlet.turn(Duration::ZERO)?;
        let other = self.outlet.turn(Duration::ZERO)?;
        Ok(Turn { worked: one.worked || other.worked, next: one.next.into_iter().chain(other.next).min() })
    }
}
