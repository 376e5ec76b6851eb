//! The waits of a lane, as its components report them. Checks from outside use them to find waits
//! that never end; a simulation does so after each poll. No lane code depends on them.

use std::sync::Arc;

/// One wait of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The name of the wait, unique in its lane.
    pub name: String,
    /// Its deadline at the lane's coordinator: the component's key for it, and its generation.
    pub deadline: Option<(u64, u32)>,
    /// The calls that it waits for, each by the name of the worker's wait.
    pub calls: Vec<String>,
    /// Other events that end the wait, as text: an action of a person, or the end of the previous
    /// operation.
    pub others: Vec<String>,
}

/// The identity of a timer: component number in the lane, timer number, generation.
pub type TimerKey = (u16, u64, u64);

/// All waits of a lane, with their timers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// Each wait with its component and the timer of its deadline.
    pub all: Vec<(Arc<str>, Wait, Option<TimerKey>)>,
    /// True if every component with state reports its waits. Then each timer belongs to a wait.
    pub complete: bool,
}
