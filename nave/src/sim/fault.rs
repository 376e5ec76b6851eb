//! What can go wrong in a simulation, by name.

macro_rules! faults {
    ($($name:ident = $text:literal, $odds:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $text] $name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// What it is, in words.
            pub fn text(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// How often it strikes, in a hundred thousand of the moments at which it could.
            pub(super) fn odds(self) -> u32 {
                match self { $(Fault::$name => $odds,)* }
            }
        }
    };
}

// At each turn of a part:
// - a few hundred turns a seed, so a kind that is at work strikes about once in one;
// at each commit, append, poll or record, of which there are fewer or more, accordingly.
faults! {
    Crash = "a process dies between two turns", 400;
    DiesBefore = "a process dies in a commit, before it happened", 1_000;
    DiesAfter = "a process dies in a commit, after it happened", 1_000;
    DiesInAppend = "a process dies in an append, with some of it written", 1_000;
    Freeze = "a process gets no turns for longer than its session", 200;
    Slow = "a process gets no turns for a while", 600;
    Join = "one more process joins", 200;
    Leave = "a process stops in order", 200;
    Expel = "all members of a group lose their place between two turns", 200;
    ExpelInCommit = "all members of a group lose their place between a poll and its commit", 800;
    CommitRefused = "a commit is refused", 2_000;
    CommitHappened = "a commit happens, and nobody says so", 2_000;
    CommitDidNot = "a commit does not happen, and nobody says so", 2_000;
    AppendRefused = "an append is refused", 2_000;
    AppendPartly = "an append is written in part or whole, and nobody says so", 2_000;
    PollRefused = "a member cannot read", 300;
    ReadRefused = "a reader cannot read", 300;
    TakeoverRefused = "a lane cannot be taken over", 5_000;
    ReplyLost = "what a spoke says is lost", 3_000;
    Twice = "a message from or to a spoke arrives twice", 3_000;
    Late = "a message from or to a spoke is late, and others overtake it", 3_000;
    Corrupt = "what a spoke says cannot be read", 2_000;
    RequestLost = "what a spoke is asked is lost", 2_000;
    RequestCorrupt = "what a spoke is asked cannot be read", 2_000;
    Copied = "an old record comes again", 300;
    Garbage = "a stranger writes garbage into an inbox", 200;
    WallJump = "the time of day of a process jumps", 200;
    BusWallJump = "the time of day of the bus jumps", 100;
    SpokeFault = "a spoke misbehaves on request", 500;
    Stall = "a partition answers nothing for a while", 300;
    Person = "a person tells an operation something", 500;
    Damage = "a stranger damages what is saved of a lane", 300;
}

/// How often each kind struck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck([u64; Fault::ALL.len()]);

impl Default for Struck {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Struck {
    /// Once more.
    pub(super) fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// So often.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// What struck here and there.
    pub(super) fn take(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}
