//! The kinds of faults that a simulation injects.

macro_rules! faults {
    ($($name:ident = $text:literal, $odds:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $text] $name,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// The description of the kind, as shown to users.
            pub fn text(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// Probability per opportunity, in 1/100,000.
            pub(super) fn odds(self) -> u32 {
                match self { $(Fault::$name => $odds,)* }
            }
        }
    };
}

// A fault between two polls has an opportunity before each poll. A seed takes a few hundred polls,
// so an active kind occurs about once per seed. The other kinds have an opportunity at each commit,
// append, read or record: their numbers are larger or smaller accordingly.
faults! {
    Crash = "a process crashes between two polls", 400;
    DiesBefore = "a process crashes before a commit takes effect", 1_000;
    DiesAfter = "a process crashes after a commit took effect", 1_000;
    DiesInAppend = "a process crashes in an append that is partly written", 1_000;
    Freeze = "a process is paused for longer than its session timeout", 200;
    Slow = "a process is paused for a short time", 600;
    Join = "another process joins", 200;
    Leave = "a process shuts down", 200;
    Expel = "all members are expelled from their group between two polls", 200;
    ExpelInCommit = "all members are expelled from their group between a read and its commit", 800;
    CommitRefused = "a commit is refused", 2_000;
    CommitHappened = "a commit takes effect, but its result is lost", 2_000;
    CommitDidNot = "a commit does not take effect, and its result is lost", 2_000;
    AppendRefused = "an append is refused", 2_000;
    AppendPartly = "an append is partly or wholly written, but its result is lost", 2_000;
    PollRefused = "a read of a group member fails", 300;
    ReadRefused = "a read of a reader fails", 300;
    TakeoverRefused = "a lane takeover fails", 5_000;
    ReplyLost = "a message from a spoke is lost", 3_000;
    Twice = "a message from or to a spoke is duplicated", 3_000;
    Late = "a message from or to a spoke is delayed and reordered", 3_000;
    Corrupt = "a message from a spoke is corrupt", 2_000;
    RequestLost = "a message to a spoke is lost", 2_000;
    RequestCorrupt = "a message to a spoke is corrupt", 2_000;
    Copied = "an old record is written again", 300;
    Garbage = "a foreign client writes garbage into an inbox", 200;
    WallJump = "the wall clock of a process jumps", 200;
    BusWallJump = "the wall clock of the bus jumps", 100;
    SpokeFault = "a fault is injected into a spoke", 500;
    Stall = "a partition is unavailable for a while", 300;
    Person = "a person sends a command to an operation", 500;
    Damage = "a foreign client damages the snapshot of a lane", 300;
}

/// Number of faults by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl Default for FaultCounts {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl FaultCounts {
    /// Counts one fault.
    pub(super) fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Number of faults of this kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds the counts of `other`.
    pub(super) fn take(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}
