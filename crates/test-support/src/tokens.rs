//! A pod's token as kube-apiserver issues it, to change one thing in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::TestKey;

/// A token being made: header and claims as JSON, in the order they were set.
#[derive(Clone, Debug)]
pub struct TokenBuilder {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl TokenBuilder {
    /// The issuer of [`TokenBuilder::valid`].
    pub const ISSUER: &'static str = "https://kubernetes.default.svc.cluster.local";
    /// The audience of [`TokenBuilder::valid`].
    pub const AUDIENCE: &'static str = "https://sts.test/aws";
    /// The ServiceAccount's uid.
    pub const SERVICE_ACCOUNT_UID: &'static str = "8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b";
    /// The pod's uid.
    pub const POD_UID: &'static str = "11111111-2222-4333-8444-555555555555";

    /// The token of pod `p1` with ServiceAccount `team-a/app`, issued `now` for an hour.
    pub fn valid(now: u64) -> Self {
        let claims = json!({
            "iss": Self::ISSUER,
            "sub": "system:serviceaccount:team-a:app",
            "aud": [Self::AUDIENCE],
            "exp": now.saturating_add(3600), "iat": now, "nbf": now,
            "jti": "5f0a1a9e-7f0c-4a52-9a43-0d6f5a3b2c1d",
            "kubernetes.io": {
                "namespace": "team-a",
                "serviceaccount": {"name": "app", "uid": Self::SERVICE_ACCOUNT_UID},
                "pod": {"name": "p1", "uid": Self::POD_UID},
                "node": {"name": "n1", "uid": "99999999-2222-4333-8444-555555555555"},
            },
        });
        let Value::Object(claims) = claims else {
            unreachable_object()
        };
        Self {
            header: Map::new(),
            claims,
        }
    }

    /// Sets a header member, over the ones that signing sets.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a claim; `null` is written as such.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a claim away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        drop(self.claims.remove(name));
        self
    }

    /// Sets what a JSON pointer inside the claims points to, the last step being made if it is absent.
    #[must_use]
    pub fn at(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut claims = Value::Object(self.claims);
        if let Some((parent, name)) = pointer.rsplit_once('/')
            && let Some(Value::Object(members)) = claims.pointer_mut(parent)
        {
            members.insert(name.to_owned(), value.into());
        }
        let Value::Object(claims) = claims else {
            unreachable_object()
        };
        self.claims = claims;
        self
    }

    /// The claims as text, to change in ways that JSON values cannot express.
    pub fn payload(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// The token, signed.
    pub fn sign(&self, key: &TestKey) -> String {
        self.sign_payload(key, &self.payload())
    }

    /// A token of this one's header and any payload, signed.
    pub fn sign_payload(&self, key: &TestKey, payload: &str) -> String {
        let mut header = Map::new();
        header.insert("alg".to_owned(), key.algorithm().into());
        header.insert("kid".to_owned(), key.kid().into());
        header.extend(self.header.clone());
        Self::compact(key, Value::Object(header).to_string(), payload)
    }

    /// A compact JWS of any two texts, or bytes, signed.
    pub fn compact(key: &TestKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let [header, payload] = [header.as_ref(), payload.as_ref()].map(encode);
        let message = format!("{header}.{payload}");
        let signature = encode(&key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[expect(clippy::panic, reason = "a test that is wrong must stop")]
fn unreachable_object() -> ! {
    panic!("a JSON object was made above")
}
