//! Words of a workflow's code that are saved: names of steps, services, signals.
//!
//! Code writes them as literals, `&'static str`, so a state that is loaded has to have them as such. Each different text that
//! is read is kept for as long as the process runs. There are as many as there are literals in the code of the workflows, some
//! dozens; the bound of [`MOST`] is there so that foreign data cannot fill the memory.
//!
//! ```
//! use hub::word::Word;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Failure {
//!     #[serde(with = "hub::word")]
//!     step: Word,
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

/// A literal of a workflow's code. By this name, since a field that is written as `&'static str` derives no
/// `DeserializeOwned`, whatever it is read with.
pub type Word = &'static str;

/// So many different texts are kept in one process; one more is a fault.
pub const MOST: usize = 4_096;

#[expect(clippy::disallowed_types, reason = "of the process, not of a lane; what it gives depends on the text alone")]
static WORDS: std::sync::Mutex<BTreeSet<Word>> = std::sync::Mutex::new(BTreeSet::new());

/// The text, for as long as the process runs; none where there are too many.
fn kept(text: &str) -> Option<Word> {
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(word) = words.get(text) {
        return Some(word);
    }
    if words.len() >= MOST {
        return None;
    }
    let word: Word = Box::leak(text.into());
    words.insert(word);
    Some(word)
}

/// As text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(word: &Word, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word)
}

/// The word with this text.
///
/// # Errors
/// Where it is no text, or one of more than [`MOST`] different ones.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    struct Reads;

    impl Visitor<'_> for Reads {
        type Value = Word;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
            kept(text).ok_or_else(|| E::custom(format!("more than {MOST} different words")))
        }
    }

    deserializer.deserialize_str(Reads)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Step(#[serde(with = "crate::word")] super::Word);

    #[test]
    fn a_word_comes_back_and_one_text_is_kept_once() {
        let text = serde_json::to_string(&Step("install rules")).unwrap();
        assert_eq!(text, r#""install rules""#);
        let [a, b]: [Step; 2] = [(); 2].map(|()| serde_json::from_str(&text).unwrap());
        assert_eq!(a, Step("install rules"));
        assert!(std::ptr::eq(a.0, b.0), "kept once");
        assert!(serde_json::from_str::<Step>("7").is_err());
    }
}
