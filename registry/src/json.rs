//! JSON from outside, read strictly: one value per key, bounded depth, nothing after the end.
//!
//! Two readers of one document must not be able to disagree about it (CVE-2021-41190), so a duplicate key is
//! an error rather than "the last one wins". `null` members are dropped: Go's encoders write them for empty
//! collections, and here they mean the same as absence.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{Error, Result, error::printable};

const MAX_DEPTH: u8 = 64;

/// Reads a document into a typed value.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    from_value(parse_value(bytes, what)?, what)
}

/// Reads a document into a tree.
pub(crate) fn parse_value(bytes: &[u8], what: &str) -> Result<Value> {
    let refuse = |error: serde_json::Error| refused(what, error);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).map_err(refuse)?;
    deserializer.end().map_err(refuse)?;
    Ok(value)
}

/// Gives a tree its type.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value, what: &str) -> Result<T> {
    T::deserialize(value).map_err(|error| refused(what, error))
}

fn refused(what: &str, error: impl fmt::Display) -> Error {
    Error::Document { what: what.to_owned(), problem: printable(&error.to_string()) }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(StrictVisitor(self, PhantomData))
    }
}

struct StrictVisitor<'de>(Strict, PhantomData<&'de ()>);

impl<'de> Visitor<'de> for StrictVisitor<'de> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.0.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.0.deeper()?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key {key:?} appears twice")));
            }
            map.insert(key, value);
        }
        map.retain(|_, value| !value.is_null());
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value> {
        parse_value(text.as_bytes(), "a document")
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":null,"a":2}"#, r#"{"a":1} x"#, r#"{"a":1}{}"#, ""]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_limited_at_sixty_four() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(64)).is_ok());
        assert!(read(&nested(65)).is_err());
        assert!(read(&nested(1_000_000)).is_err());
    }

    #[test]
    fn null_means_absent() {
        assert_eq!(read(r#"{"a":null,"b":{"c":null}}"#).unwrap(), serde_json::json!({"b":{}}));
    }
}
