//! Who turns the lanes of a stage: threads in a running process, the test itself in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Clock, Part, Turn};
use topology::driver::{MakePart, Threads};

/// Turns the parts of one stage.
pub trait Crew {
    /// One part more.
    ///
    /// # Errors
    /// Where the system gives no thread.
    fn spawn(&mut self, name: &str, make: MakePart) -> std::io::Result<()>;

    /// Gives its parts a turn, where nobody else does.
    ///
    /// # Errors
    /// Where one ends with a fault.
    fn turn(&mut self) -> Result<Turn, BusError>;

    /// Polls its parts soon, where they wait for something to come.
    fn wake(&self) {}

    /// True where a part ended with a fault.
    fn has_failed(&self) -> bool;

    /// Ends its parts, within `most`; says what they left undone.
    fn stop(self: Box<Self>, most: Duration) -> Vec<String>;
}

/// Makes a crew for a stage.
pub type MakeCrew = Box<dyn Fn() -> Box<dyn Crew> + Send>;

/// Each part on a thread of its own.
pub struct OnThreads {
    threads: Threads,
    clock: Arc<dyn Clock>,
}

impl OnThreads {
    /// A crew without parts.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { threads: Threads::default(), clock }
    }
}

impl Crew for OnThreads {
    fn spawn(&mut self, name: &str, make: MakePart) -> std::io::Result<()> {
        self.threads.spawn(name, Arc::clone(&self.clock), make)
    }

    fn turn(&mut self) -> Result<Turn, BusError> {
        Ok(Turn { worked: false, next: None })
    }

    fn wake(&self) {
        self.threads.wake();
    }

    fn has_failed(&self) -> bool {
        self.threads.has_failed()
    }

    fn stop(self: Box<Self>, most: Duration) -> Vec<String> {
        self.threads.stop_within(most, &*self.clock)
    }
}

/// All parts on the thread of who asks: for virtual time.
#[derive(Default)]
pub struct InTurn(Vec<Box<dyn Part>>);

impl Crew for InTurn {
    fn spawn(&mut self, name: &str, make: MakePart) -> std::io::Result<()> {
        self.0.push(make().map_err(|error| std::io::Error::other(format!("{name}: {error}")))?);
        Ok(())
    }

    fn turn(&mut self) -> Result<Turn, BusError> {
        let mut all = Turn { worked: false, next: None };
        for part in &mut self.0 {
            let turn = part.turn(Duration::ZERO)?;
            all.worked |= turn.worked;
            all.next = all.next.into_iter().chain(turn.next).min();
        }
        Ok(all)
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn stop(self: Box<Self>, _most: Duration) -> Vec<String> {
        self.0.into_iter().flat_map(Part::stop).collect()
    }
}
