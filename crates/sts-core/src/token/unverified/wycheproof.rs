//! Project Wycheproof's vectors. Their payloads are no claims, so they enter where payloads do not matter yet.

use serde_json::Value;
use test_support::wycheproof;

use super::*;

/// Whether the key set is taken and has signed the text, as for any token.
fn accepts(keys: &Value, text: &str) -> bool {
    let Ok(keys) = KeySet::parse(keys.to_string().as_bytes()) else {
        return false;
    };
    Jws::parse(text).is_ok_and(|(jws, _)| jws.verify(&keys.keys).is_ok())
}

/// The number of each vector, and whether it is accepted.
fn verdicts(file: &str, key_set: fn(&Value) -> Value) -> Vec<(u64, bool)> {
    let vectors = wycheproof(file);
    let groups = vectors["testGroups"].as_array().unwrap();
    let verdicts = groups.iter().flat_map(|group| {
        // A symmetric key has no public half: the set must be refused, or it would be taken for a secret that we share.
        let key = group.get("public").or_else(|| group.get("private"));
        let keys = key_set(key.unwrap());
        let tests = group["tests"].as_array().unwrap().iter();
        tests.map(move |test| {
            let text = test["jws"].as_str().unwrap();
            (test["tcId"].as_u64().unwrap(), accepts(&keys, text))
        })
    });
    verdicts.collect()
}

fn accepted(verdicts: &[(u64, bool)]) -> Vec<u64> {
    let accepted = verdicts.iter().filter(|(_, accepted)| *accepted);
    accepted.map(|(number, _)| *number).collect()
}

/// The other valid vectors are of algorithms that we do not take, or of keys that are for another use or algorithm; two have a character
/// in them that base64url has not.
#[test]
fn jwt_038_wycheproof_signatures() {
    let verdicts = verdicts(
        "json_web_signature_test.json",
        |key| serde_json::json!({"keys": [key]}),
    );
    let expected = [18, 33, 259, 260, 261, 262, 263, 345, 349, 378];
    assert_eq!(accepted(&verdicts), expected);
    assert_eq!(verdicts.len(), 401);
}

/// Number 7, a key of the ROCA kind, is left out for its odd length and not for its flaw, which nobody here looks for.
#[test]
fn jwks_003_wycheproof_keys() {
    let verdicts = verdicts("json_web_key_test.json", Value::clone);
    assert_eq!(accepted(&verdicts), [5]);
    assert_eq!(verdicts.len(), 26);
}
