//! What a public issuer serves, and how it differs from what it should. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use sts_core::ident::KeyId;

/// What a public issuer serves.
#[derive(Debug)]
pub(crate) struct Served {
    pub(super) discovery: Value,
    pub(super) key_set: Value,
    /// The ids of the keys that can be used.
    pub(super) key_ids: BTreeSet<KeyId>,
    /// How long it tells relying parties to keep the key set, if it says so.
    pub(super) max_age: Option<Duration>,
}

impl Served {
    /// The ids of the keys it serves, less those under whose id it serves another key than ours: with such a one nobody could verify.
    pub(super) fn key_ids_like(&self, key_set: Option<&str>) -> BTreeSet<KeyId> {
        let ours = key_set.map(parse).unwrap_or_default();
        let (ours, theirs) = (keys(&ours), keys(&self.key_set));
        let like = |id: &&KeyId| {
            let ours = ours.get(id.as_str());
            ours.is_none_or(|ours| theirs.get(id.as_str()) == Some(ours))
        };
        self.key_ids.iter().filter(like).cloned().collect()
    }

    /// Whether it serves these documents: all members alike, whatever the order.
    pub(crate) fn is(&self, discovery: &str, key_set: &str) -> bool {
        self.discovery == parse(discovery) && keys(&self.key_set) == keys(&parse(key_set))
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The keys of a set by their ids.
fn keys(set: &Value) -> BTreeMap<&str, &Value> {
    let keys = set.get("keys").and_then(Value::as_array);
    let named = |key| Some((Value::get(key, "kid")?.as_str()?, key));
    keys.into_iter().flatten().filter_map(named).collect()
}

/// The longest time that any cache is told to keep an answer: `max-age` or `s-maxage`, whichever is more (RFC 9111, section 5.2.2).
pub(super) fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = cache_control.split(',').filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let known = name.eq_ignore_ascii_case("max-age") || name.eq_ignore_ascii_case("s-maxage");
        known
            .then(|| value.trim_matches('"').parse().ok())
            .flatten()
    });
    seconds.max().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(key_set: &str) -> Served {
        let ids = ["one", "two"].map(|id| KeyId::parse(id).unwrap());
        Served {
            discovery: parse("{\"issuer\": \"a\"}"),
            key_set: parse(key_set),
            key_ids: ids.into(),
            max_age: None,
        }
    }

    const OURS: &str = r#"{"keys":[{"kid":"one","n":"1"},{"kid":"two","n":"2"}]}"#;

    #[test]
    fn another_key_under_the_id_of_ours_is_not_ours() {
        let served = served(r#"{"keys":[{"kid":"one","n":"1"},{"kid":"two","n":"forged"}]}"#);
        let like: Vec<String> = served
            .key_ids_like(Some(OURS))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(like, ["one"]);
        assert!(!served.is("{\"issuer\":\"a\"}", OURS));
    }

    #[test]
    fn the_order_of_keys_is_no_difference_and_another_member_is_one() {
        let turned = served(r#"{"keys":[{"n":"2","kid":"two"},{"kid":"one","n":"1"}]}"#);
        assert!(turned.is("{\"issuer\":\"a\"}", OURS));
        assert!(!turned.is("{\"issuer\":\"b\"}", OURS));
        let more = served(r#"{"keys":[{"kid":"one","n":"1"},{"kid":"two","n":"2","x5c":[]}]}"#);
        assert!(!more.is("{\"issuer\":\"a\"}", OURS));
    }

    #[test]
    fn the_longest_time_that_caches_are_told_counts() {
        let of = |text| max_age(text).map(|age| age.as_secs());
        assert_eq!(of("public, max-age=300"), Some(300));
        assert_eq!(of("s-maxage=\"900\", MAX-AGE=60"), Some(900));
        assert_eq!(of("no-cache"), None);
        assert_eq!(of("max-age=x"), None);
    }
}
