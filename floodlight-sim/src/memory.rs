//! The memory of a speaker: replies to executed calls, and undone calls.

use std::sync::Arc;

use flow_messages::speaker::{Reply, SwitchId};
use wire::CallId;

use crate::bounded_map::{BoundedMap, Placed};
use crate::tables::Fact;

/// The maximum number of remembered calls, the newest. A call repeats only during its operation,
/// which takes minutes. 100,000 calls are fifty flows of maximum length, in about 20 MB.
pub const MAX_REMEMBERED: usize = 100_000;

/// Replies by call id, and calls that must never be executed. Only [`crate::tables::Tables`]
/// changes it.
#[derive(Debug)]
pub struct Memory {
    replies: BoundedMap<CallId, Reply>,
    undone: BoundedMap<CallId, ()>,
    cookies: BoundedMap<(SwitchId, u64), Named>,
}

/// The kinds of remembered facts. Each has its own limit of [`MAX_REMEMBERED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    /// Replies to calls.
    Replied,
    /// Undone or refused calls.
    Undone,
    /// Rules by cookie.
    Named,
}

/// The rule that a cookie was last used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The flow.
    pub flow: Arc<str>,
    /// The number of the rule in the flow.
    pub number: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_bound(MAX_REMEMBERED)
    }
}

impl Memory {
    /// Creates a memory of the newest `bound` facts of each kind.
    pub fn with_bound(bound: usize) -> Self {
        Self { replies: BoundedMap::new(bound), undone: BoundedMap::new(bound), cookies: BoundedMap::new(bound) }
    }

    /// The reply to `call`, if it was executed.
    pub fn reply(&self, call: &CallId) -> Option<&Reply> {
        self.replies.get(call)
    }

    /// Stores the reply to `call`.
    pub(crate) fn keep(&mut self, call: CallId, reply: Reply) -> Placed {
        self.replies.put(call, reply)
    }

    /// Marks `call` as undone: it is refused from now on.
    pub(crate) fn undo(&mut self, call: CallId) -> Placed {
        self.undone.put(call, ())
    }

    /// Returns true if `call` was undone or refused.
    pub fn is_undone(&self, call: &CallId) -> bool {
        self.undone.get(call).is_some()
    }

    /// Stores the rule of a cookie: reads and removals name only the cookie, but faults name rules.
    pub(crate) fn name(&mut self, switch: SwitchId, cookie: u64, named: Named) -> Placed {
        self.cookies.put((switch, cookie), named)
    }

    /// Restores a stored fact. The facts of each kind must come in the order of their numbers.
    pub(crate) fn restore(&mut self, number: u64, fact: Fact) {
        match fact {
            Fact::Replied { call, reply } => self.replies.restore(number, call, reply),
            Fact::Undone { call } => self.undone.restore(number, call, ()),
            Fact::Named { switch, cookie, named } => self.cookies.restore(number, (switch, cookie), named),
        }
    }

    /// The rule that `cookie` was last used for on `switch`, executed or not.
    pub fn named(&self, switch: &SwitchId, cookie: u64) -> Option<&Named> {
        self.cookies.get(&(switch.clone(), cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Memory::with_bound(2);
        let call = |n| CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, n);
        for n in 1..=3 {
            memory.keep(call(n), Reply::Installed { existed: false });
            memory.undo(call(n));
        }
        assert_eq!((memory.reply(&call(1)), memory.is_undone(&call(1))), (None, false));
        assert_eq!((memory.reply(&call(3)).is_some(), memory.is_undone(&call(3))), (true, true));
    }
}
