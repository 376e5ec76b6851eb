//! JSON from outside: a duplicate field is refused instead of overwritten.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::{Code, Problem};

/// Parses JSON without duplicate fields.
///
/// # Errors
/// [`Code::InvalidField`] with the name of a duplicate field, otherwise [`Code::NotJson`].
pub fn read(text: &[u8]) -> Result<Value, Problem> {
    let twice = RefCell::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Unique { twice: &twice }.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| match twice.take() {
        // For a value of any type, serde_json has no other errors of this category.
        Some(name) if error.classify() == Category::Data => Problem::field(&name, "given twice", "to give it once"),
        _ => Problem::new(Code::NotJson, error.to_string()),
    })
}

/// The same for a part of a larger value; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// If it is not JSON or has a duplicate field.
pub fn unique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Unique { twice: &RefCell::default() }.deserialize(deserializer)
}

/// Reads any value and keeps the name of the first duplicate field.
#[derive(Clone, Copy)]
struct Unique<'a> {
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                let error = A::Error::custom(format_args!("field `{name}` is given twice"));
                *self.twice.borrow_mut() = Some(name);
                return Err(error);
            }
            object.insert(name, fields.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_by_serde_json() {
        for text in
            ["null", "true", "-3", "18446744073709551615", "1.5e3", r#""a\u00e9""#, "[]", r#"[1,{"a":{"b":[]}}]"#]
        {
            assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn a_duplicate_field_is_refused_by_name() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"c":1,"a":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            let problem = read(text.as_bytes()).unwrap_err();
            assert_eq!(problem.to_string(), "NAVE-0002: `a` is given twice; allowed is to give it once", "{text}");
            assert_eq!(problem.field.as_deref(), Some("a"));
        }
        assert!(read(br#"[{"a":1},{"a":1}]"#).is_ok(), "two objects may have a field with the same name");
    }

    #[test]
    fn invalid_json_is_refused_with_the_place_of_the_error() {
        for text in ["", "{", "{} {}", "nul", r#"{"a" 1}"#] {
            assert_eq!(read(text.as_bytes()).unwrap_err().code, Code::NotJson, "{text}");
        }
        assert!(read(b"[1,]").unwrap_err().detail.contains("line 1 column 4"));
    }
}
