//! A ring as a Secret, and a Secret as a ring. No I/O. `docs/keys.md` describes the format for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource as _, ResourceExt as _};
use sts_config::SigningAlgorithm;
use sts_core::ident::KeyId;
use sts_core::keys::ring::{Phase, Ring, RingKey, Stored};
use sts_core::sign::{PublicJwk, SigningKey};
use zeroize::Zeroizing;

use super::store::Labels;
use super::{Key, Keys, SigningKeyError};

/// The ring, JSON.
pub(super) const RING: &str = "sts.tremolo.io/ring";
/// Where it stands, a sentence.
const STATUS: &str = "sts.tremolo.io/status";
/// The active key and its algorithm.
const KID: &str = "sts.tremolo.io/kid";
const ALGORITHM: &str = "sts.tremolo.io/algorithm";
/// The user's wishes.
const ROTATE: &str = "sts.tremolo.io/rotate";
const REVOKE: &str = "sts.tremolo.io/revoke";

/// What `kubectl apply` leaves on what it applied: all of it, and so the private key of a user who applied a Secret with his own.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The data keys a user's own key may have: of a Secret of type `kubernetes.io/tls`, as OpenUnison's users have it, or a PEM file.
const GIVEN: [&str; 2] = ["tls.key", "signing-key.pem"];

/// What a Secret says.
pub(super) struct Content {
    pub(super) stored: Stored,
    pub(super) keys: Keys,
    /// The user's own key, and if it cannot be used, why.
    pub(super) given: Option<Result<Arc<SigningKey>, String>>,
    pub(super) rotate: Option<String>,
    pub(super) revoke: Vec<KeyId>,
}

/// Reads a Secret; none is an empty one.
pub(super) fn read(secret: Option<&Secret>, algorithm: SigningAlgorithm) -> Content {
    let annotation = |name: &str| secret?.annotations().get(name).cloned();
    let data = secret.and_then(|secret| secret.data.as_ref());
    let given = data.and_then(|data| read_given(data, algorithm));
    let (stored, keys) = match (annotation(RING), data.filter(|data| !data.is_empty())) {
        (Some(text), data) => read_ring(&text, data),
        (None, None) => (Stored::Empty, Keys::new()),
        (None, Some(data)) => (read_foreign(data, given.as_ref()), Keys::new()),
    };
    let revoke = annotation(REVOKE).unwrap_or_default();
    let revoke = revoke
        .split([',', ' '])
        .filter_map(|id| KeyId::parse(id).ok());
    Content {
        stored,
        keys,
        given,
        rotate: annotation(ROTATE),
        revoke: revoke.collect(),
    }
}

fn read_given(
    data: &BTreeMap<String, ByteString>,
    algorithm: SigningAlgorithm,
) -> Option<Result<Arc<SigningKey>, String>> {
    let (name, text) = GIVEN
        .iter()
        .find_map(|name| Some((name, data.get(*name)?)))?;
    let text = Zeroizing::new(String::from_utf8_lossy(&text.0).into_owned());
    Some(
        SigningKey::from_pem(&text, algorithm)
            .map(Arc::new)
            .map_err(|error| format!("{name}: {error}")),
    )
}

/// Data without a ring: a user's own key, or nothing we know.
fn read_foreign(
    data: &BTreeMap<String, ByteString>,
    given: Option<&Result<Arc<SigningKey>, String>>,
) -> Stored {
    match given {
        _ if data.keys().any(|name| ring_name(name).is_some()) => Stored::Damaged(format!(
            "it has keys of a ring, but its annotation {RING} is missing"
        )),
        Some(Ok(_)) => Stored::Empty,
        Some(Err(error)) => Stored::Damaged(error.clone()),
        None => Stored::Damaged(format!(
            "it has data, but neither a ring nor {} nor {}",
            GIVEN[0], GIVEN[1]
        )),
    }
}

fn read_ring(text: &str, data: Option<&BTreeMap<String, ByteString>>) -> (Stored, Keys) {
    let ring = match Ring::parse(text) {
        Ok(ring) => ring,
        Err(error) => {
            return (
                Stored::Damaged(format!("annotation {RING}: {error}")),
                Keys::new(),
            );
        }
    };
    let mut keys = Keys::new();
    let mut damage = None;
    for key in ring.keys() {
        match read_key(key, data) {
            Ok(found) => drop(keys.insert(key.id().clone(), found)),
            // What can be read is read: nothing of it may be lost in the repair.
            Err(found) => damage = damage.or(Some(found)),
        }
    }
    (damage.map_or(Stored::Whole(ring), Stored::Damaged), keys)
}

fn read_key(key: &RingKey, data: Option<&BTreeMap<String, ByteString>>) -> Result<Key, String> {
    let id = key.id();
    let text = |name: &str| {
        let bytes = &data?.get(name)?.0;
        Some(Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()))
    };
    let (private, public) = (private_name(id), public_name(id));
    if let Some(pem) = text(&private) {
        let found = SigningKey::from_pem(&pem, key.algorithm())
            .map_err(|error| format!("{private}: {error}"))?;
        return if found.key_id() == id {
            Ok(Key::Private(Arc::new(found)))
        } else {
            Err(format!("{private}: is another key than its name says"))
        };
    }
    let signs = !matches!(key.phase(), Phase::Retiring { .. });
    match text(&public) {
        Some(jwk) if !signs => {
            let found = PublicJwk::parse(&jwk).map_err(|error| format!("{public}: {error}"))?;
            if found.key_id() == id.as_str() {
                Ok(Key::Public(found))
            } else {
                Err(format!("{public}: is another key than its name says"))
            }
        }
        Some(_) | None => Err(format!("{private} is missing")),
    }
}

/// Writes a ring into the Secret that was read. What is not ours stays as it is, except for a copy of the user's key.
pub(super) fn render(
    mut secret: Secret,
    ring: &Ring,
    keys: &Keys,
) -> Result<Secret, SigningKeyError> {
    let data = secret.data.get_or_insert_default();
    data.retain(|name, _| ring_name(name).is_none());
    for key in ring.keys() {
        let (name, bytes) = match keys.get(key.id()) {
            Some(Key::Private(private)) => {
                let pem = private.to_pem().map_err(|source| SigningKeyError::Key {
                    place: "memory".to_owned(),
                    source,
                })?;
                (private_name(key.id()), pem.as_bytes().to_vec())
            }
            Some(Key::Public(public)) => {
                let jwk = serde_json::to_vec(public).map_err(SigningKeyError::Render)?;
                (public_name(key.id()), jwk)
            }
            None => continue,
        };
        data.insert(name, ByteString(bytes));
    }
    let annotations = secret.meta_mut().annotations.get_or_insert_default();
    annotations.insert(RING.to_owned(), ring.render());
    annotations.insert(STATUS.to_owned(), ring.status());
    for name in [KID, ALGORITHM, LAST_APPLIED] {
        annotations.remove(name);
    }
    if let Some(active) = ring.active() {
        annotations.insert(KID.to_owned(), active.id().to_string());
        annotations.insert(ALGORITHM.to_owned(), active.algorithm().name().to_owned());
    }
    Ok(secret)
}

/// A deletion is a wish for a new key. It is written down as one when the Secret is put back, so that any replica fulfils it.
pub(super) fn ask_after_deletion(secret: &mut Secret, ring: &Ring) {
    let annotations = secret.meta_mut().annotations.get_or_insert_default();
    let wish = format!("deletion-{}", ring.generation());
    annotations.insert(ROTATE.to_owned(), wish);
}

/// What others wrote on the Secret. The ring is left out: without its keys it would be a damaged one. So is what `kubectl apply` remembers:
/// a key that is deleted with its Secret must not come back as an annotation.
pub(super) fn foreign_labels(secret: &Secret) -> Labels {
    let metadata = secret.meta();
    let left_out = [RING, STATUS, KID, ALGORITHM, LAST_APPLIED];
    let annotations = metadata.annotations.clone().map(|mut annotations| {
        annotations.retain(|name, _| !left_out.contains(&name.as_str()));
        annotations
    });
    Labels {
        labels: metadata.labels.clone(),
        annotations,
    }
}

/// Whether the annotations for people say what the ring says.
pub(super) fn is_labelled(secret: &Secret, ring: &Ring) -> bool {
    let annotations = secret.annotations();
    annotations.get(STATUS) == Some(&ring.status())
        && annotations.get(KID).map(String::as_str) == ring.active().map(|key| key.id().as_str())
}

fn private_name(id: &KeyId) -> String {
    format!("{id}.pem")
}

fn public_name(id: &KeyId) -> String {
    format!("{id}.jwk")
}

/// The id of a data key that is a ring's: 32 bytes in base64url.
fn ring_name(name: &str) -> Option<&str> {
    let id = name
        .strip_suffix(".pem")
        .or_else(|| name.strip_suffix(".jwk"))?;
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (id.len() == 43 && id.bytes().all(inner)).then_some(id)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn what_kubectl_applied_is_not_put_back() {
        let annotations = [RING, LAST_APPLIED, "team"].map(|name| (name.to_owned(), String::new()));
        let secret = Secret {
            metadata: ObjectMeta {
                annotations: Some(annotations.into()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        };
        let kept = foreign_labels(&secret).annotations.unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["team"]);
    }

    #[test]
    fn what_kubectl_applied_does_not_stay_beside_a_ring() {
        let mut secret = Secret::default();
        let annotations = secret.meta_mut().annotations.get_or_insert_default();
        annotations.insert(LAST_APPLIED.to_owned(), "{}".to_owned());
        let written = render(secret, &Ring::default(), &Keys::new()).unwrap();
        assert!(!written.annotations().contains_key(LAST_APPLIED));
    }
}
