//! A signing key in a Secret: made once, by whichever replica is first.
//!
//! The chart creates the Secret without data. Filling it carries the resource version that was read, so that the API server takes one
//! replica's key and the others read that one.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use sts_config::SigningAlgorithm;
use sts_core::sign::SigningKey;
use zeroize::Zeroizing;

use super::{SigningKeyError, generate};

/// The data key of a key that we made: PKCS#8, PEM.
const OURS: &str = "signing-key.pem";
/// The data key of a user's own key, in a Secret of type `kubernetes.io/tls` as OpenUnison's users have it.
const TLS: &str = "tls.key";

/// Reads the Secret's key, or fills the Secret if it has no data.
pub(super) async fn load_or_create(
    client: &Client,
    namespace: &str,
    name: &str,
    algorithm: SigningAlgorithm,
) -> Result<SigningKey, SigningKeyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = get(&api, name).await?;
    if let Some(secret) = &secret
        && has_data(secret)
    {
        return parse(secret, name, algorithm);
    }
    let (key, pem) = generate(algorithm).await?;
    let filled = fill(secret.unwrap_or_default(), name, &key, &pem, algorithm);
    match put(&api, name, &filled).await {
        Ok(()) => {
            tracing::info!(secret = name, kid = %key.key_id(), "signing key was made");
            Ok(key)
        }
        // Another replica was first: its key counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let secret = get(&api, name).await?;
            secret.map_or_else(
                || {
                    Err(SigningKeyError::SecretMissing {
                        name: name.to_owned(),
                    })
                },
                |secret| parse(&secret, name, algorithm),
            )
        }
        Err(kube::Error::Api(status))
            if filled.resource_version().is_none() && status.code == 403 =>
        {
            Err(SigningKeyError::SecretMissing {
                name: name.to_owned(),
            })
        }
        Err(source) => Err(SigningKeyError::Kubernetes {
            name: name.to_owned(),
            verb: "written",
            source: Box::new(source),
        }),
    }
}

async fn get(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, SigningKeyError> {
    api.get_opt(name)
        .await
        .map_err(|source| SigningKeyError::Kubernetes {
            name: name.to_owned(),
            verb: "read",
            source: Box::new(source),
        })
}

/// Creates a Secret that was not there; replaces one that was, if it is still the one that was read.
async fn put(api: &Api<Secret>, name: &str, secret: &Secret) -> Result<(), kube::Error> {
    let parameters = PostParams {
        field_manager: Some("kube-sts-server".to_owned()),
        ..PostParams::default()
    };
    if secret.resource_version().is_some() {
        api.replace(name, &parameters, secret).await.map(drop)
    } else {
        api.create(&parameters, secret).await.map(drop)
    }
}

fn has_data(secret: &Secret) -> bool {
    secret.data.as_ref().is_some_and(|data| !data.is_empty())
}

fn parse(
    secret: &Secret,
    name: &str,
    algorithm: SigningAlgorithm,
) -> Result<SigningKey, SigningKeyError> {
    let data = secret.data.as_ref();
    let pem = data.and_then(|data| data.get(OURS).or_else(|| data.get(TLS)));
    let pem = pem.ok_or_else(|| SigningKeyError::NoKeyInSecret {
        name: name.to_owned(),
    })?;
    let text = Zeroizing::new(String::from_utf8(pem.0.clone()).unwrap_or_default());
    SigningKey::from_pem(&text, algorithm).map_err(|source| SigningKeyError::Key {
        place: format!("Secret {name}"),
        source,
    })
}

fn fill(
    mut secret: Secret,
    name: &str,
    key: &SigningKey,
    pem: &str,
    algorithm: SigningAlgorithm,
) -> Secret {
    secret.meta_mut().name = Some(name.to_owned());
    let annotations = secret.annotations_mut();
    annotations.insert("sts.tremolo.io/kid".to_owned(), key.key_id().to_string());
    annotations.insert(
        "sts.tremolo.io/algorithm".to_owned(),
        algorithm.name().to_owned(),
    );
    secret.data = Some(BTreeMap::from([(
        OURS.to_owned(),
        ByteString(pem.as_bytes().to_vec()),
    )]));
    secret
}
