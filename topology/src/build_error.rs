//! The errors of a topology, as its author reads them.

use std::fmt;

/// One error of a topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum BuildError {
    /// A component lists two saved states with one name.
    #[error("component `{component}` lists two saved states `{state}`; give each a name of its own in `Bolt::state`")]
    DuplicateState {
        /// The component.
        component: String,
        /// The name.
        state: &'static str,
    },
    /// A component saves what a spout without a position sends it in the lane. Calls of such a spout
    /// are not replayed: after a crash the state would lack tuples whose effects were committed.
    #[error(
        "spout `{spout}` has no position and feeds the saved state of `{component}` within a lane, so a crash would lose \
         tuples; give it a position, `Spout::Position`, or read one of the streams between them by topic, with \
         `shuffle` or `fields`"
    )]
    SpoutFeedsState {
        /// The spout.
        spout: String,
        /// The component with the saved state.
        component: String,
    },
    /// The name of a topology, stage or component has a bad length or a bad character.
    #[error("{kind} `{name}` has a bad name: allowed are 1 to 64 characters of A-Z a-z 0-9 _ -")]
    BadName {
        /// The kind of thing that has the name.
        kind: &'static str,
        /// The bad name.
        name: String,
    },
    /// Two components have the same name.
    #[error("two components have the name `{0}`")]
    DuplicateName(String),
    /// The hashes of two component names collide. A coordinator identifies components by this hash.
    #[error("components `{0}` and `{1}` have the same number, a 16-bit hash of the name: rename one of them")]
    NumbersCollide(String, String),
    /// A component has 0 lanes.
    #[error("component `{0}` has 0 lanes; at least 1 is needed")]
    NoLanes(String),
    /// A stage with several lanes has a spout that would leave all lanes but one idle.
    #[error(
        "spout `{spout}` reads in one lane, but its stage `{stage}` has {lanes}; give the stage 1 lane, and read the spout \
         by topic in a stage with {lanes} lanes, with `shuffle` or `fields`"
    )]
    OneLane {
        /// The spout.
        spout: String,
        /// Its stage.
        stage: String,
        /// The number of lanes of the stage.
        lanes: u32,
    },
    /// Components of one stage have different numbers of lanes.
    #[error(
        "stage `{stage}` has components with {} lanes; components that local edges join need the same number",
        list(lanes)
    )]
    LanesDiffer {
        /// The stage.
        stage: String,
        /// The numbers of lanes that its components set.
        lanes: Vec<u32>,
    },
    /// Components of one stage set different stage names, or two stages have the same name.
    #[error("stage `{0}` has several names or shares its name: also {1}")]
    StageNames(String, String),
    /// A component reads a component that does not exist.
    #[error("`{reader}` reads `{component}`, which does not exist; existing components: {known}")]
    UnknownComponent {
        /// The reading component.
        reader: String,
        /// The missing component.
        component: String,
        /// The existing components.
        known: String,
    },
    /// A component reads a stream that its source does not have.
    #[error("`{reader}` reads stream `{stream}` of `{component}`, which has only: {known}")]
    UnknownStream {
        /// The reading component.
        reader: String,
        /// The source.
        component: String,
        /// The missing stream.
        stream: String,
        /// The streams of the source.
        known: String,
    },
    /// A component reads a stream with the wrong tuple type.
    #[error("`{reader}` reads stream `{stream}` of `{component}` as {expected}, but it carries {found}")]
    WrongType {
        /// The reading component.
        reader: String,
        /// The source.
        component: String,
        /// The stream.
        stream: String,
        /// The type that the reader expects.
        expected: &'static str,
        /// The type of the stream.
        found: &'static str,
    },
    /// A stream has no reader.
    #[error("stream `{stream}` of `{component}` has no reader; read it, or mark it with `may_be_unread`")]
    Unread {
        /// The source.
        component: String,
        /// The stream.
        stream: String,
    },
    /// A bolt reads no stream.
    #[error("bolt `{0}` reads no stream")]
    ReadsNothing(String),
    /// The arrangement names a stage that does not exist.
    #[error("the arrangement names stage `{stage}`, which does not exist; existing stages: {known}")]
    UnknownStage {
        /// The missing stage.
        stage: String,
        /// The existing stages.
        known: String,
    },
    /// A timeout is shorter than the longest duration of the work that it covers.
    #[error("{0}")]
    Budget(String),
    /// A limit of tracked tuples is set for a component that does not track its tuples.
    #[error("`{component}` sets `{limit}`, but is no spout with `Spout::TRACKS`; remove `{limit}`")]
    NotTracking {
        /// The component.
        component: String,
        /// The limit.
        limit: &'static str,
    },
    /// A limit of tracked tuples is 0: the spout could emit nothing, or every root would fail.
    #[error("`{component}` sets `{limit}` to 0; at least 1 is needed")]
    ZeroLimit {
        /// The component.
        component: String,
        /// The limit.
        limit: &'static str,
    },
    /// The topology has no components.
    #[error("the topology has no components")]
    Empty,
}

/// All errors of a topology, sorted; printed with numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildErrors {
    /// The topology's name.
    pub topology: String,
    /// Its errors; never empty.
    pub errors: Vec<BuildError>,
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        let errors = if count == 1 { "error" } else { "errors" };
        write!(f, "{}: topology \"{}\" cannot be built ({count} {errors})", wire::Code::CannotBuild, self.topology)?;
        for (i, error) in self.errors.iter().enumerate() {
            write!(f, "\n  {}  {error}", i + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {}

/// Lists numbers for a message.
fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
