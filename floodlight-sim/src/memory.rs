//! What a speaker remembers: the calls it has carried out, and the calls that were undone.

use std::sync::Arc;

use wire::CallId;
use wire::speaker::{Reply, SwitchId};

use crate::newest::{Newest, Placed};
use crate::tables::Fact;

/// So many calls are remembered, the newest. A call can only come again while its operation lives, which is minutes; 100,000
/// calls are what fifty flows of the greatest length need, and take some 20 MB.
pub const REMEMBERED: usize = 100_000;

/// Replies by call id, and what must never be carried out again. It is changed through [`crate::tables::Tables`] alone.
#[derive(Debug)]
pub struct Memory {
    replies: Newest<CallId, Reply>,
    undone: Newest<CallId, ()>,
    cookies: Newest<(SwitchId, u64), Named>,
}

/// The kinds of what is remembered, each with a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memo {
    /// What calls were told.
    Replied,
    /// Calls that were undone.
    Undone,
    /// What cookies were used for.
    Named,
}

/// The flow and the number of the rule that a cookie was last used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The flow.
    pub flow: Arc<str>,
    /// The rule's number in it.
    pub number: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self::newest(REMEMBERED)
    }
}

impl Memory {
    /// A memory of the newest `bound` calls.
    pub fn newest(bound: usize) -> Self {
        Self { replies: Newest::new(bound), undone: Newest::new(bound), cookies: Newest::new(bound) }
    }

    /// What `call` was told when it was carried out.
    pub fn reply(&self, call: &CallId) -> Option<&Reply> {
        self.replies.get(call)
    }

    /// Keeps what `call` is told.
    pub(crate) fn keep(&mut self, call: CallId, reply: Reply) -> Placed {
        self.replies.put(call, reply)
    }

    /// From now on `call` is refused.
    pub(crate) fn undo(&mut self, call: CallId) -> Placed {
        self.undone.put(call, ())
    }

    /// True where `call` was undone.
    pub fn is_undone(&self, call: &CallId) -> bool {
        self.undone.get(call).is_some()
    }

    /// Keeps which rule a cookie stands for: reads and removals name the cookie alone, and faults name rules.
    pub(crate) fn name(&mut self, switch: SwitchId, cookie: u64, named: Named) -> Placed {
        self.cookies.put((switch, cookie), named)
    }

    /// Remembers what was remembered before; of each kind in the order of their numbers.
    pub(crate) fn restore(&mut self, number: u64, fact: Fact) {
        match fact {
            Fact::Replied { call, reply } => self.replies.restore(number, call, reply),
            Fact::Undone { call } => self.undone.restore(number, call, ()),
            Fact::Named { switch, cookie, named } => self.cookies.restore(number, (switch, cookie), named),
        }
    }

    /// The rule that `cookie` was last used for on `switch`, carried out or not.
    pub fn named(&self, switch: &SwitchId, cookie: u64) -> Option<&Named> {
        self.cookies.get(&(switch.clone(), cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_has_a_bound_and_forgets_the_oldest() {
        let mut memory = Memory::newest(2);
        let call = |n| CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, n);
        for n in 1..=3 {
            memory.keep(call(n), Reply::Installed { existed: false });
            memory.undo(call(n));
        }
        assert_eq!((memory.reply(&call(1)), memory.is_undone(&call(1))), (None, false));
        assert_eq!((memory.reply(&call(3)).is_some(), memory.is_undone(&call(3))), (true, true));
    }
}
