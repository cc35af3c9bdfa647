//! Manifests and configurations: strict JSON, of which the few fields the store needs are read (D-11).

use std::{collections::HashSet, fmt};

use oci_spec::image::{Descriptor, Digest};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use crate::error::{Error, Result};

/// Largest manifest, index or configuration, and deepest nesting.
const MAX_SIZE: usize = 8 << 20;
const MAX_DEPTH: usize = 64;
const MAX_LAYERS: usize = 1000;

/// What the store needs of a manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    manifests: Option<de::IgnoredAny>,
}

/// What the store needs of a configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    pub(crate) variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        let manifest: Self = parse("manifest", bytes)?;
        if manifest.manifests.is_some() {
            return Err(unusable("manifest", "it is a manifest and an index at once"));
        }
        if manifest.media_type.as_deref().is_some_and(|own| own != media_type) {
            return Err(unusable("manifest", "its media type is not the one it was sent with"));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(unusable("manifest", "it has more than 1000 layers"));
        }
        Ok(manifest)
    }
}

impl Configuration {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        parse("configuration", bytes)
    }

    /// What each layer decompresses to, the lowest first.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }
}

pub(crate) fn unusable(document: &'static str, problem: impl ToString) -> Error {
    Error::Document { document, problem: problem.to_string() }
}

fn parse<'d, T: Deserialize<'d>>(document: &'static str, bytes: &'d [u8]) -> Result<T> {
    check(bytes).map_err(|problem| unusable(document, problem))?;
    serde_json::from_slice(bytes).map_err(|problem| unusable(document, problem))
}

/// Refuses JSON that parsers read differently: a key twice, nesting without end, anything after it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_SIZE {
        return Err("it is larger than 8 MiB".to_owned());
    }
    let mut input = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0 }.deserialize(&mut input).map_err(|error| error.to_string())?;
    input.end().map_err(|error| error.to_string())
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self { depth: self.depth + 1 })
        } else {
            Err(E::custom("it is nested deeper than 64 levels"))
        }
    }
}

impl<'d> DeserializeSeed<'d> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'d>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Strict {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'d>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format!("the key {key:?} is there twice")));
            }
            fields.next_value_seed(self.deeper()?)?;
            seen.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_json_is_refused() {
        for good in ["{}", "[1, -2, 3.5, null, true, \"x\"]", "{\"a\": {\"a\": 1}}"] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(check(deep(64).as_bytes()).is_ok());
        assert!(check(deep(66).as_bytes()).is_err());
        for bad in ["{\"a\": 1, \"a\": 2}", "{} {}", "{", "", "[1,]", "nul"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
