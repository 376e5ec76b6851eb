//! The limit on interned names. In a file of its own because it uses up the limit of its process.

use hub::interned;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

fn read(text: &str) -> Result<&'static str, Error> {
    let text: StrDeserializer<'_, Error> = text.into_deserializer();
    interned::deserialize(text)
}

#[test]
fn beyond_the_limit_only_interned_names_are_read() {
    for n in 0..interned::MAX_INTERNED {
        assert_eq!(read(&format!("name {n}")).unwrap(), format!("name {n}"));
    }
    assert_eq!(read("one more").unwrap_err().to_string(), "more than 4096 different names");
    assert_eq!(read("name 7").unwrap(), "name 7");
}
