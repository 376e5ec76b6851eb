//! The interface of a simulated spoke.

use std::any::Any;
use std::sync::Arc;

use bus::{Bus, BusError, Task};
use wire::topics::Topics;

use super::dice::Dice;
use spoke::{HandledCall, Handler, SpokeOptions, SpokeService, SpokeTask};

/// A spoke: its tables and memory, which outlive the processes that serve it.
pub trait Host: Send {
    /// Starts a process that serves the spoke as group member `member`.
    ///
    /// # Errors
    /// As [`SpokeTask::join_with`].
    fn join(
        &self,
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        options: &SpokeOptions,
    ) -> Result<Box<dyn Task>, BusError>;

    /// The concrete spoke, for checks that know its type.
    fn as_any(&self) -> &dyn Any;

    /// Returns the calls handled since the last call of this function, in order.
    fn handled(&self) -> Vec<HandledCall>;

    /// Forgets the executed calls, if supported.
    fn forget(&self) {}

    /// Injects a random fault and describes it. Returns `None` if the spoke does not support
    /// faults.
    fn misbehave(&self, dice: &mut Dice) -> Option<String> {
        let _ = dice;
        None
    }

    /// Restarts the spoke. With `clear_faults`, it also clears injected faults.
    fn recover(&self, clear_faults: bool) {
        let _ = clear_faults;
    }
}

/// Creates a new spoke.
pub type MakeHost = Arc<dyn Fn() -> Box<dyn Host> + Send + Sync>;

impl<S: Handler> Host for SpokeService<S> {
    fn join(
        &self,
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        options: &SpokeOptions,
    ) -> Result<Box<dyn Task>, BusError> {
        Ok(Box::new(SpokeTask::join_with(bus, names, service, member, self.clone(), options)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn handled(&self) -> Vec<HandledCall> {
        self.journal()
    }

    fn forget(&self) {
        SpokeService::forget(self);
    }
}
