//! A cluster's own issuer documents: what its API server says, made fit for the public.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    NotPublic, PublicDiscovery, PublicKey, PublicKeySet, Publication, path_under,
    refuse_private_keys,
};
use crate::ident::Issuer;
use crate::time::UnixSeconds;

/// What an API server says of its issuer, looked at.
#[derive(Clone, Debug)]
pub struct ClusterDocuments {
    issuer: Issuer,
    key_set_path: String,
    algorithms: Vec<String>,
    keys: Vec<PublicKey>,
}

/// Since when published keys were not seen at the API server any more, in this process's life.
#[derive(Clone, Debug, Default)]
pub struct Absences(BTreeMap<String, UnixSeconds>);

/// For how long a key stays published that the API server does not show any more: with several API servers, one that was restarted with
/// another set of keys and one that was not answer in turn.
const LINGER: Duration = Duration::from_secs(15 * 60);

/// Where a cluster's key set is published if the API server's own place is not public.
const PUBLIC_PATH: &str = "openid/v1/jwks";

/// What Kubernetes' tokens say.
const CLAIMS: [&str; 8] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "kubernetes.io",
];

/// Whether the place of the key set is ours to choose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeySetPlace {
    /// It is where the API server says, under the issuer.
    AsServed,
    /// The API server names a place that the outside world does not reach: the document is to name one under the issuer.
    Rewritten,
}

impl ClusterDocuments {
    /// Looks at what an API server says.
    ///
    /// # Errors
    /// [`NotPublic`] if it is another issuer's, or holds a private key, or cannot be used.
    pub fn parse(
        issuer: &Issuer,
        discovery: &str,
        key_set: &str,
        place: KeySetPlace,
    ) -> Result<Self, NotPublic> {
        refuse_private_keys(discovery, key_set)?;
        // Members that we do not know are left out here: the API server's documents may have more in time.
        let read: PublicDiscovery =
            serde_json::from_str(discovery).or(Err(NotPublic::Discovery))?;
        let jwks_uri = match place {
            KeySetPlace::AsServed => read.jwks_uri,
            KeySetPlace::Rewritten => format!("{issuer}/{PUBLIC_PATH}"),
        };
        let key_set_path = path_under(issuer, &read.issuer, &jwks_uri)?;
        let set: PublicKeySet = serde_json::from_str(key_set).or(Err(NotPublic::KeySet))?;
        Ok(Self {
            issuer: issuer.clone(),
            key_set_path,
            algorithms: read.id_token_signing_alg_values_supported,
            keys: set.keys,
        })
    }

    /// Where the key set is published, behind the issuer, without the first slash.
    pub fn key_set_path(&self) -> &str {
        &self.key_set_path
    }

    /// The documents to publish: the API server's keys, and those that are published and that it has not left out for long.
    ///
    /// # Errors
    /// [`NotPublic`].
    pub fn publication(
        &self,
        published: Option<&[u8]>,
        absences: &mut Absences,
        now: UnixSeconds,
    ) -> Result<Publication, NotPublic> {
        let published =
            published.and_then(|bytes| serde_json::from_slice::<PublicKeySet>(bytes).ok());
        let published = published.map(|set| set.keys).unwrap_or_default();
        let mut keys = self.keys.clone();
        keys.extend(absences.lingering(&self.keys, published, now));
        keys.sort_by(|one, other| one.kid.cmp(&other.kid));
        keys.dedup_by(|one, other| one.kid == other.kid);
        let key_set = serde_json::to_string(&PublicKeySet { keys }).or(Err(NotPublic::KeySet))?;
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let discovery = serde_json::to_string_pretty(&PublicDiscovery {
            issuer: self.issuer.to_string(),
            jwks_uri: format!("{}/{}", self.issuer, self.key_set_path),
            // Required by OpenID discovery and missing in the API server's; nobody can be sent there.
            authorization_endpoint: Some("urn:kubernetes:programmatic_authorization".to_owned()),
            response_types_supported: texts(&["id_token"]),
            subject_types_supported: texts(&["public"]),
            id_token_signing_alg_values_supported: self.algorithms.clone(),
            claims_supported: Some(texts(&CLAIMS)),
        });
        // As strictly as any other: what we wrote ourselves is no exception.
        Publication::of(
            &self.issuer,
            &discovery.or(Err(NotPublic::Discovery))?,
            &key_set,
        )
    }
}

impl Absences {
    /// The published keys that stay although the API server does not show them.
    fn lingering(
        &mut self,
        shown: &[PublicKey],
        published: Vec<PublicKey>,
        now: UnixSeconds,
    ) -> Vec<PublicKey> {
        let absent: Vec<PublicKey> = published
            .into_iter()
            .filter(|key| shown.iter().all(|known| known.kid != key.kid))
            .collect();
        self.0
            .retain(|kid, _| absent.iter().any(|key| key.kid == *kid));
        for key in &absent {
            self.0.entry(key.kid.clone()).or_insert(now);
        }
        let lingers = |key: &PublicKey| {
            let since = self.0.get(&key.kid).copied().unwrap_or(now);
            now.since(since) < LINGER
        };
        absent.into_iter().filter(lingers).collect()
    }
}
