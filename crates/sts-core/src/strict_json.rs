//! JSON as a token may contain it: no duplicate members at any depth, no fractions where integers belong, little nesting.
//!
//! `serde_json::Value` keeps the last of two members of one name without a word, so that two readers of one token can see two
//! different subjects. Here any duplicate is an error, known member or not. Names that differ in case only count as one: Go's JSON reads
//! them so, and kube-apiserver finds a token's issuer with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// Nesting that no token or key set needs: kube-apiserver's tokens have three levels.
const DEEPEST: u8 = 8;

/// A JSON value of a token or a key set.
#[derive(Clone, PartialEq)]
pub(crate) enum StrictJson {
    Array(Vec<Self>),
    Bool,
    /// A number that is not a whole one of at most 64 bits: no claim of ours may be one.
    Fraction,
    Integer(i64),
    Null,
    Object(BTreeMap<String, Self>),
    Text(String),
}

/// The text is not JSON as we accept it. It says nothing about the text, which may be a secret.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("is not strict JSON")]
pub(crate) struct StrictJsonError;

impl StrictJson {
    /// Parses UTF-8 JSON text with nothing before or behind it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StrictJsonError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Seed { depth: 0 }.deserialize(&mut deserializer);
        match (value, deserializer.end()) {
            (Ok(value), Ok(())) => Ok(value),
            (Err(_), _) | (_, Err(_)) => Err(StrictJsonError),
        }
    }

    pub(crate) fn into_object(self) -> Option<BTreeMap<String, Self>> {
        if let Self::Object(members) = self {
            Some(members)
        } else {
            None
        }
    }

    pub(crate) fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Object(members) = self {
            Some(members)
        } else {
            None
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self {
            Some(values)
        } else {
            None
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self {
            Some(*number)
        } else {
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Seed {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = StrictJson;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<StrictJson, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Seed {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > DEEPEST {
            Err(E::custom("too deep"))
        } else {
            Ok(Self { depth })
        }
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = StrictJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<StrictJson, E> {
        Ok(StrictJson::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<StrictJson, E> {
        Ok(StrictJson::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<StrictJson, E> {
        Ok(StrictJson::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<StrictJson, E> {
        Ok(i64::try_from(number).map_or(StrictJson::Fraction, StrictJson::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<StrictJson, E> {
        Ok(StrictJson::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<StrictJson, E> {
        Ok(StrictJson::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<StrictJson, E> {
        Ok(StrictJson::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<StrictJson, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(below)? {
            values.push(value);
        }
        Ok(StrictJson::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<StrictJson, A::Error> {
        let below = self.below()?;
        let (mut members, mut names) = (BTreeMap::new(), BTreeSet::new());
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(below)?;
            if !names.insert(folded(&name)) {
                return Err(A::Error::custom("duplicate member"));
            }
            members.insert(name, value);
        }
        Ok(StrictJson::Object(members))
    }
}

/// A name without regard to case. Twice, since `\u{17f}` has only an upper case, `S`, and `\u{212a}` only a lower one, `k`: Go folds both.
fn folded(name: &str) -> String {
    let upper = name.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(text: &str) {
        assert!(StrictJson::parse(text.as_bytes()).is_err(), "{text}");
    }

    #[test]
    fn duplicate_members_are_refused_at_any_depth_and_in_any_spelling() {
        refuses(r#"{"iss":1,"iss":1}"#);
        refuses(r#"{"iss":1,"\u0069ss":1}"#);
        refuses(r#"{"a":[{"b":1,"b":2}]}"#);
        refuses(r#"{"iss":1,"Iss":1}"#);
        refuses("{\"iss\":1,\"i\u{17f}s\":1}");
        refuses("{\"kid\":1,\"\u{212a}id\":1}");
        assert!(StrictJson::parse(br#"{"iss":1,"is":1,"isss":{"iss":1}}"#).is_ok());
    }

    #[test]
    fn nesting_and_trailing_text_are_refused() {
        refuses(&format!("{}{}", "[".repeat(9), "]".repeat(9)));
        refuses(&"[".repeat(100_000));
        refuses("{}x");
        refuses("{}{}");
        assert!(
            StrictJson::parse(format!("{}{}", "[".repeat(8), "]".repeat(8)).as_bytes()).is_ok()
        );
    }

    #[test]
    fn lone_surrogates_and_invalid_utf8_are_refused() {
        refuses(r#"{"a":"\ud834"}"#);
        refuses(r#"{"\ud834":1}"#);
        assert!(StrictJson::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(StrictJson::parse(b"\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn numbers_that_are_not_integers_are_told_apart() {
        for text in ["1.0", "1e10", "18446744073709551615", "1e30"] {
            assert!(
                StrictJson::parse(text.as_bytes()).is_ok_and(|v| v == StrictJson::Fraction),
                "{text}"
            );
        }
    }
}
