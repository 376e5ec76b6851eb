//! Fault plans: faults and heartbeats from a TOML text. The caller reads the file;
//! `docs/floodlight-sim.toml` is an example that explains every field.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use spoke::SpokeOptions;
use toml::Spanned;
use wire::Problem;

use crate::fault::Fault;
use crate::faults::MAX_FAULTS;

/// The maximum size of a plan, in bytes: [`MAX_FAULTS`] faults of a few hundred bytes each.
pub const MAX_PLAN_BYTES: usize = 1 << 20;

/// The faults and heartbeats of a speaker from its start.
///
/// ```
/// use floodlight_sim::{FaultPlan, SpeakerHandle};
/// let plan = FaultPlan::from_toml("seed = 7\n[[faults]]\nkind = \"mute\"\nwhen = { percent = 5 }")?;
/// let speaker = SpeakerHandle::new();
/// speaker.apply(&plan).expect("a parsed plan applies to a new speaker");
/// assert_eq!((speaker.seed(), speaker.faults().len()), (7, 1));
/// # Ok::<(), floodlight_sim::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    /// The seed of random choices.
    pub seed: u64,
    /// The faults, in order. All are valid.
    pub faults: Vec<Fault>,
    /// The interval between heartbeats, in milliseconds; 0 for none.
    pub heartbeat_every_ms: u64,
    /// True: the speaker starts with its heartbeats stopped.
    pub heartbeats_stopped: bool,
}

impl Default for FaultPlan {
    /// No faults, and heartbeats at the default interval.
    fn default() -> Self {
        Self { seed: 0, faults: Vec::new(), heartbeat_every_ms: SpokeOptions::HEARTBEAT_MS, heartbeats_stopped: false }
    }
}

/// An error in a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct PlanError {
    /// The location of the error.
    pub place: PlanLocation,
    /// The field, its value, and the allowed values.
    pub detail: String,
}

/// A location in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanLocation {
    /// A line, from 1.
    Line(usize),
    /// The whole text.
    Text,
}

impl fmt::Display for PlanLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanLocation::Line(line) => write!(f, "line {line}"),
            PlanLocation::Text => f.write_str("the plan"),
        }
    }
}

/// A plan as written: all fields are optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    seed: Option<u64>,
    heartbeats: Option<RawHeartbeats>,
    #[serde(default)]
    faults: Vec<Spanned<Fault>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeartbeats {
    every_ms: Option<u64>,
    stopped: Option<bool>,
}

impl FaultPlan {
    /// Parses a plan.
    ///
    /// # Errors
    /// The text is not TOML, has an unknown or invalid field, or has a fault that can never apply.
    /// The error names the line, the field, its value, and the allowed values.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        let whole = |detail: String| PlanError { place: PlanLocation::Text, detail };
        if text.len() > MAX_PLAN_BYTES {
            return Err(whole(format!("the size is {} bytes; the limit is {MAX_PLAN_BYTES}", text.len())));
        }
        let raw: RawPlan = read(text)?;
        if raw.faults.len() > MAX_FAULTS {
            return Err(whole(format!("`faults` has {} entries; the limit is {MAX_FAULTS}", raw.faults.len())));
        }
        for fault in &raw.faults {
            let place = PlanLocation::Line(line_of(text, fault.span().start));
            fault.get_ref().check().map_err(|Problem { detail, .. }| PlanError { place, detail })?;
        }
        let plan = Self::default();
        let heartbeats = raw.heartbeats.unwrap_or(RawHeartbeats { every_ms: None, stopped: None });
        Ok(Self {
            seed: raw.seed.unwrap_or(plan.seed),
            faults: raw.faults.into_iter().map(Spanned::into_inner).collect(),
            heartbeat_every_ms: heartbeats.every_ms.unwrap_or(plan.heartbeat_every_ms),
            heartbeats_stopped: heartbeats.stopped.unwrap_or(plan.heartbeats_stopped),
        })
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, PlanError> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| placed(text, &error, ""))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // `Spanned` adds a private field to the path.
        let path = error.path().to_string().replace(".$__serde_spanned_private_value", "");
        placed(text, error.inner(), &path)
    })
}

fn placed(text: &str, error: &toml::de::Error, path: &str) -> PlanError {
    let place = error.span().map_or(PlanLocation::Text, |span| PlanLocation::Line(line_of(text, span.start)));
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
    fn the_documented_example_is_a_valid_plan() {
        let plan = FaultPlan::from_toml(include_str!("../../docs/floodlight-sim.toml")).unwrap();
        assert_eq!((plan.seed, plan.heartbeat_every_ms, plan.heartbeats_stopped), (42, 500, false));
        let kinds: Vec<&str> = plan.faults.iter().map(|fault| fault.kind.as_str()).collect();
        assert_eq!(kinds, ["silence", "lie", "delay_reply", "reorder", "wrong_key", "corrupt", "crash"]);
        assert_eq!(plan.faults[6].kind, FaultKind::Crash { after: 1_000, answered: false });
        assert_eq!(plan.faults[2].when.percent.unwrap().to_string(), "12.5 %");
    }

    #[test]
    fn an_empty_plan_has_no_faults() {
        assert_eq!(FaultPlan::from_toml("# nothing"), Ok(FaultPlan::default()));
    }

    #[test]
    fn an_error_names_its_line() {
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
                "line 4: `times` is 0; allowed is a whole number from 1; omit it for no limit",
            ),
            (
                "[[faults]]\nkind = \"mute\"\nwhen = { switch = \"x\" }",
                "line 1: `switch` is `x`; allowed is `of:` and a rule number from 1 to 1000 with at least two digits: of:01, of:10, of:100",
            ),
        ] {
            assert_eq!(FaultPlan::from_toml(text).unwrap_err().to_string(), error);
        }
        assert_eq!(FaultPlan::from_toml("seed = 1\nseed = 2").unwrap_err().place, PlanLocation::Line(2));
        assert_eq!(FaultPlan::from_toml("seed = ").unwrap_err().place, PlanLocation::Line(1));
        assert_eq!(FaultPlan::from_toml(&"#".repeat(MAX_PLAN_BYTES + 1)).unwrap_err().place, PlanLocation::Text);
        let many = "[[faults]]\nkind = \"mute\"\n".repeat(MAX_FAULTS + 1);
        assert_eq!(
            FaultPlan::from_toml(&many).unwrap_err().to_string(),
            "the plan: `faults` has 1001 entries; the limit is 1000"
        );
    }
}
