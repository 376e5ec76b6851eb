//! The bound on words that are kept. A file of its own: it uses them all up in its process.

use hub::word;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

fn read(text: &str) -> Result<&'static str, Error> {
    let text: StrDeserializer<'_, Error> = text.into_deserializer();
    word::deserialize(text)
}

#[test]
fn foreign_words_are_refused_when_there_are_too_many_and_known_ones_are_read_ever_after() {
    for n in 0..word::MOST {
        assert_eq!(read(&format!("word {n}")).unwrap(), format!("word {n}"));
    }
    assert_eq!(read("one more").unwrap_err().to_string(), "more than 4096 different words");
    assert_eq!(read("word 7").unwrap(), "word 7");
}
