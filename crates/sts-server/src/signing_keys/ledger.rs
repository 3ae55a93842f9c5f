//! The public record of all rings, in a ConfigMap: which keys were published until when, without anything secret.
//!
//! It is read where a key Secret is gone or cannot be used, so that the public keys of live tokens stay published even if the Secret was
//! deleted while no replica ran.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sts_core::ident::KeyId;
use sts_core::keys::ring::Ring;
use sts_core::sign::PublicJwk;
use tokio::time::{Instant, timeout};

use super::{Key, Keys, PATIENCE, SigningKeyError};

/// The record of one ring.
pub(super) struct Ledger {
    api: Api<ConfigMap>,
    config_map: String,
    ring: String,
    last_written: Option<(String, Instant)>,
}

/// How long what we wrote is taken to be there: somebody may empty the record, or delete it and have helm make it anew.
const TAKEN_FOR_THERE: Duration = Duration::from_secs(600);

/// What the record says.
pub(super) struct Record {
    pub(super) ring: Ring,
    pub(super) keys: Keys,
}

impl Ledger {
    /// `ring` is the name of the key Secret.
    pub(super) fn new(client: Client, namespace: &str, config_map: &str, ring: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            config_map: config_map.to_owned(),
            ring: ring.to_owned(),
            last_written: None,
        }
    }

    /// The record, if there is one that can be read.
    pub(super) async fn read(&self) -> Result<Option<Record>, SigningKeyError> {
        let found = timeout(PATIENCE, self.api.get_opt(&self.config_map)).await;
        let found = found.or(Err(SigningKeyError::Silence))?;
        let found = found.map_err(|source| self.failed("read", source))?;
        let text = found.and_then(|config_map| config_map.data?.remove(&self.entry()));
        Ok(text.and_then(|text| parse(&text)))
    }

    /// Writes the record where it differs from what we wrote last, and now and then all the same, which changes nothing where it is there.
    pub(super) async fn write(&mut self, ring: &Ring, keys: &Keys) -> Result<(), SigningKeyError> {
        let text = render(ring, keys);
        let is_there =
            |(written, at): &(String, Instant)| *written == text && at.elapsed() < TAKEN_FOR_THERE;
        if self.last_written.as_ref().is_some_and(is_there) {
            return Ok(());
        }
        let patch = json!({"data": {self.entry(): text}});
        let parameters = PatchParams {
            field_manager: Some("kube-sts-server".to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&patch);
        let written = timeout(
            PATIENCE,
            self.api.patch(&self.config_map, &parameters, &patch),
        )
        .await;
        let written = written.or(Err(SigningKeyError::Silence))?;
        written.map_err(|source| self.failed("written", source))?;
        self.last_written = Some((text, Instant::now()));
        Ok(())
    }

    fn entry(&self) -> String {
        format!("{}.json", self.ring)
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> SigningKeyError {
        SigningKeyError::Ledger {
            name: self.config_map.clone(),
            verb,
            source: Box::new(source),
        }
    }
}

fn render(ring: &Ring, keys: &Keys) -> String {
    let public: BTreeMap<&str, &PublicJwk> = keys
        .iter()
        .map(|(id, key)| match key {
            Key::Private(key) => (id.as_str(), key.public()),
            Key::Public(key) => (id.as_str(), key),
        })
        .collect();
    let ring: serde_json::Value = serde_json::from_str(&ring.render()).unwrap_or_default();
    let record = json!({"ring": ring, "keys": public});
    serde_json::to_string_pretty(&record).unwrap_or_default()
}

fn parse(text: &str) -> Option<Record> {
    let record: serde_json::Value = serde_json::from_str(text).ok()?;
    let ring = Ring::parse(&record.get("ring")?.to_string()).ok()?;
    let keys = record.get("keys")?.as_object()?;
    let keys = keys.iter().filter_map(|(id, jwk)| {
        let key = PublicJwk::parse(&jwk.to_string()).ok()?;
        // Another key under a known id would take that one's place.
        (key.key_id() == id.as_str()).then_some(())?;
        Some((KeyId::parse(id).ok()?, Key::Public(key)))
    });
    Some(Record {
        ring,
        keys: keys.collect(),
    })
}

#[cfg(test)]
mod tests {
    use sts_core::keys::Algorithm;
    use sts_core::sign::SigningKey;

    use super::*;

    #[test]
    fn a_key_under_the_name_of_another_is_not_read() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let (id, public) = (key.key_id().to_string(), key.public());
        let ring = Ring::default().render();
        let record = |name: &str| {
            let ring: serde_json::Value = serde_json::from_str(&ring).unwrap();
            json!({"ring": ring, "keys": {name: public}}).to_string()
        };
        assert_eq!(parse(&record(&id)).unwrap().keys.len(), 1);
        assert_eq!(parse(&record("another")).unwrap().keys.len(), 0);
    }
}
