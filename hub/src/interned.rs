//! Names from a workflow's code that are saved: names of steps, services, signals.
//!
//! Code writes them as literals of type `&'static str`, so loading has to produce that type too.
//! Each distinct text is interned for the lifetime of the process. Workflows use some dozens of
//! names. [`MAX_INTERNED`] keeps foreign data from filling the memory.
//!
//! ```
//! use hub::interned::Interned;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Failure {
//!     #[serde(with = "hub::interned")]
//!     step: Interned,
//! }
//!
//! let failure: Failure = serde_json::from_str(r#"{"step":"book"}"#)?;
//! assert_eq!(failure.step, "book");
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::PoisonError;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// A string literal of a workflow's code. The alias is needed: serde derives no `DeserializeOwned`
/// for a field written as `&'static str`, whatever its `with` says.
pub type Interned = &'static str;

/// Maximum number of distinct texts in one process. One more is an error.
pub const MAX_INTERNED: usize = 4_096;

#[expect(clippy::disallowed_types, reason = "process-wide, not lane state; the result depends only on the text")]
static INTERNED: std::sync::Mutex<BTreeSet<Interned>> = std::sync::Mutex::new(BTreeSet::new());

/// Returns the interned text, or `None` if the limit is reached.
fn intern(text: &str) -> Option<Interned> {
    let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = interned.get(text) {
        return Some(name);
    }
    if interned.len() >= MAX_INTERNED {
        return None;
    }
    let name: Interned = Box::leak(text.into());
    interned.insert(name);
    Some(name)
}

/// Serializes the text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(name: &Interned, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

/// Deserializes and interns a text.
///
/// # Errors
/// If it is not a text, or there are more than [`MAX_INTERNED`] distinct texts.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interned, D::Error> {
    struct InternVisitor;

    impl Visitor<'_> for InternVisitor {
        type Value = Interned;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an interned name")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Interned, E> {
            intern(text).ok_or_else(|| E::custom(format!("more than {MAX_INTERNED} different names")))
        }
    }

    deserializer.deserialize_str(InternVisitor)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Step(#[serde(with = "crate::interned")] super::Interned);

    #[test]
    fn a_name_round_trips_and_is_interned_once() {
        let text = serde_json::to_string(&Step("install rules")).unwrap();
        assert_eq!(text, r#""install rules""#);
        let [a, b]: [Step; 2] = [(); 2].map(|()| serde_json::from_str(&text).unwrap());
        assert_eq!(a, Step("install rules"));
        assert!(std::ptr::eq(a.0, b.0), "interned once");
        assert!(serde_json::from_str::<Step>("7").is_err());
    }
}
