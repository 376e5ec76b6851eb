//! What waits in a lane, as its components say it themselves: so that whoever watches can see that nothing waits without an end.
//!
//! Nothing in a lane acts on it. It is asked by those who look from outside, as a simulation does after each turn.

use std::sync::Arc;

/// Something that waits in a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What waits, by its name: no two in a lane have the same.
    pub who: String,
    /// Its deadline with the lane's coordinator: the component's own key for it, and its generation.
    pub deadline: Option<(u64, u32)>,
    /// The calls whose end it waits for: each is what waits in a worker, by the same name.
    pub calls: Vec<String>,
    /// Who else will let it go on, in words: a person, or the one before it.
    pub others: Vec<String>,
}

/// A timer: the number in its lane of the component that keeps it, its own number, and its generation.
pub type TimerKey = (u16, u64, u32);

/// What waits in a lane, with what its timers are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// What waits, by component, with its deadline as the component that keeps it has it.
    pub all: Vec<(Arc<str>, Wait, Option<TimerKey>)>,
    /// Timers that are armed, as those components take it that keep them.
    pub timers: Vec<TimerKey>,
    /// True where every component with a state says what waits in it: then each timer has one that waits for it.
    pub complete: bool,
}
