//! What is to go wrong, as a file says it. Reading the file is for whoever runs the speaker; `docs/floodlight-sim.toml` is
//! one, with every field explained.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use wire::Problem;

use crate::fault::Fault;
use crate::faults::MAX_FAULTS;
use crate::part::Heartbeats;

/// The longest text that is read, in bytes: [`MAX_FAULTS`] faults of a few hundred each.
pub const LONGEST_PLAN: usize = 1 << 20;

/// What is to go wrong from the start.
///
/// ```
/// use floodlight_sim::{FaultPlan, SpeakerHandle};
/// let plan = FaultPlan::from_toml("seed = 7\n[[faults]]\nkind = \"mute\"\nwhen = { percent = 5 }")?;
/// let speaker = SpeakerHandle::new();
/// speaker.apply(&plan).expect("a plan that was read can be applied to a new speaker");
/// assert_eq!((speaker.seed(), speaker.faults().len()), (7, 1));
/// # Ok::<(), floodlight_sim::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    /// What chance is drawn from.
    pub seed: u64,
    /// The faults, in order; each can strike.
    pub faults: Vec<Fault>,
    /// One heartbeat in so many milliseconds; 0: none.
    pub heartbeat_every_ms: u64,
    /// True: it answers, and does not say that it lives.
    pub heart_stopped: bool,
}

impl Default for FaultPlan {
    /// Nothing goes wrong.
    fn default() -> Self {
        Self { seed: 0, faults: Vec::new(), heartbeat_every_ms: Heartbeats::EVERY_MS, heart_stopped: false }
    }
}

/// What is wrong with a plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct PlanError {
    /// Where.
    pub place: Place,
    /// What: the field, its value, and what is allowed.
    pub detail: String,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This line, from 1.
    Line(usize),
    /// All of it.
    Text,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Text => f.write_str("the plan"),
        }
    }
}

/// A plan as it is said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    seed: Option<u64>,
    heartbeats: Option<SaidHeartbeats>,
    #[serde(default)]
    faults: Vec<Spanned<Fault>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidHeartbeats {
    every_ms: Option<u64>,
    stopped: Option<bool>,
}

impl FaultPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Names the line, the field, its value, and what is allowed: for what is no TOML, for a field that is not known, and
    /// for a fault that would never strike.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        let whole = |detail: String| PlanError { place: Place::Text, detail };
        if text.len() > LONGEST_PLAN {
            return Err(whole(format!("it has {} bytes; allowed are {LONGEST_PLAN}", text.len())));
        }
        let said: Said = read(text)?;
        if said.faults.len() > MAX_FAULTS {
            return Err(whole(format!("`faults` has {} entries; allowed are {MAX_FAULTS}", said.faults.len())));
        }
        for fault in &said.faults {
            let place = Place::Line(line_of(text, fault.span().start));
            fault.get_ref().check().map_err(|Problem { detail, .. }| PlanError { place, detail })?;
        }
        let plan = Self::default();
        let heartbeats = said.heartbeats.unwrap_or(SaidHeartbeats { every_ms: None, stopped: None });
        Ok(Self {
            seed: said.seed.unwrap_or(plan.seed),
            faults: said.faults.into_iter().map(Spanned::into_inner).collect(),
            heartbeat_every_ms: heartbeats.every_ms.unwrap_or(plan.heartbeat_every_ms),
            heart_stopped: heartbeats.stopped.unwrap_or(plan.heart_stopped),
        })
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, PlanError> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| placed(text, &error, ""))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // A value that knows its span shows as a field of its own.
        let path = error.path().to_string().replace(".$__serde_spanned_private_value", "");
        placed(text, error.inner(), &path)
    })
}

fn placed(text: &str, error: &toml::de::Error, path: &str) -> PlanError {
    let place = error.span().map_or(Place::Text, |span| Place::Line(line_of(text, span.start)));
    let message = error.message();
    let detail = if path.is_empty() || path == "." { message.to_owned() } else { format!("`{path}`: {message}") };
    PlanError { place, detail }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    #[test]
    fn the_example_is_a_plan() {
        let plan = FaultPlan::from_toml(include_str!("../../docs/floodlight-sim.toml")).unwrap();
        assert_eq!((plan.seed, plan.heartbeat_every_ms, plan.heart_stopped), (42, 500, false));
        let kinds: Vec<&str> = plan.faults.iter().map(|fault| fault.kind.as_str()).collect();
        assert_eq!(kinds, ["silence", "lie", "delay_reply", "reorder", "wrong_key", "corrupt", "crash"]);
        assert_eq!(plan.faults[6].kind, FaultKind::Crash { after: 1_000, told: false });
        assert_eq!(plan.faults[2].when.percent.unwrap().to_string(), "12.5 %");
    }

    #[test]
    fn nothing_said_is_nothing_wrong() {
        assert_eq!(FaultPlan::from_toml("# nothing"), Ok(FaultPlan::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, error) in [
            ("sed = 7", "line 1: `sed`: unknown field `sed`, expected one of `seed`, `heartbeats`, `faults`"),
            ("\nseed = -7", "line 2: `seed`: invalid value: integer `-7`, expected u64"),
            (
                "seed = 1\n[heartbeats]\nevery = 7",
                "line 3: `heartbeats.every`: unknown field `every`, expected `every_ms` or `stopped`",
            ),
            ("[[faults]]\ntimes = 1", "line 1: `faults[0]`: missing field `kind`"),
            (
                "[[faults]]\nkind = \"noise\"",
                "line 2: `faults[0].kind`: unknown variant `noise`, expected one of `silence`, `mute`, `delay_reply`, `delay_execution`, `error`, `duplicate`, `reorder`, `wrong_key`, `corrupt`, `oversized`, `lie`, `crash`",
            ),
            (
                "[[faults]]\nkind = \"mute\"\n[[faults]]\nkind = \"mute\"\nwhen = { percent = 120 }",
                "line 5: `faults[1].when.percent`: percent is `120`; allowed is a number above 0, at most 100, with at most two decimals",
            ),
            (
                "[[faults]]\nkind = \"mute\"\n\n[[faults]]\nkind = \"mute\"\ntimes = 0",
                "line 4: `times` is 0; allowed is a whole number from 1, or nothing for ever",
            ),
            (
                "[[faults]]\nkind = \"mute\"\nwhen = { switch = \"x\" }",
                "line 1: `switch` is `x`; allowed is `of:` and the number of a rule, from 1 to 1000, in two digits or more: of:01, of:10, of:100",
            ),
        ] {
            assert_eq!(FaultPlan::from_toml(text).unwrap_err().to_string(), error);
        }
        assert_eq!(FaultPlan::from_toml("seed = 1\nseed = 2").unwrap_err().place, Place::Line(2));
        assert_eq!(FaultPlan::from_toml("seed = ").unwrap_err().place, Place::Line(1));
        assert_eq!(FaultPlan::from_toml(&"#".repeat(LONGEST_PLAN + 1)).unwrap_err().place, Place::Text);
        let many = "[[faults]]\nkind = \"mute\"\n".repeat(MAX_FAULTS + 1);
        assert_eq!(
            FaultPlan::from_toml(&many).unwrap_err().to_string(),
            "the plan: `faults` has 1001 entries; allowed are 1000"
        );
    }
}
