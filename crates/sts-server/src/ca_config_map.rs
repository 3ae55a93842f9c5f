//! Publishes the certificate of our CA in a ConfigMap, from where the injector hands it to every sidecar.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use svc_runtime::log::chain;
use svc_runtime::tls::CaBundle;
use svc_runtime::{Shutdown, follow_object};
use thiserror::Error;
use tokio::sync::watch;

/// The ConfigMap's key.
const KEY: &str = "ca.crt";

/// The source of the CA's certificate ended, which it does only with the process.
#[derive(Debug, Error)]
#[error("the serving certificate is not followed any more")]
pub(crate) struct PublishError;

/// Keeps the ConfigMap's `ca.crt` equal to our CA's certificate until shutdown, whoever changes it.
pub(crate) async fn publish(
    client: Client,
    namespace: String,
    name: String,
    mut ca: watch::Receiver<Option<CaBundle>>,
    shutdown: Shutdown,
) -> Result<(), PublishError> {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let states = follow_object(api.clone(), &name);
    tokio::pin!(states);
    let mut published = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            changed = ca.changed() => changed.or(Err(PublishError))?,
            Some(state) = states.next() => match state {
                Ok(config_map) => published = config_map.map(|found| found.data.unwrap_or_default()),
                Err(error) => tracing::warn!(config_map = name, error = %chain(&error), "ConfigMap cannot be watched"),
            },
        }
        let bundle = ca.borrow_and_update().clone();
        if let (Some(bundle), Some(data)) = (bundle, &published) {
            write_if_different(&api, &name, &bundle, data).await;
        }
    }
}

async fn write_if_different(
    api: &Api<ConfigMap>,
    name: &str,
    bundle: &CaBundle,
    data: &BTreeMap<String, String>,
) {
    if data.get(KEY).is_some_and(|text| text == bundle.as_pem()) {
        return;
    }
    let patch = serde_json::json!({"data": {KEY: bundle.as_pem()}});
    let parameters = PatchParams {
        field_manager: Some("kube-sts-server".to_owned()),
        ..PatchParams::default()
    };
    match api.patch(name, &parameters, &Patch::Merge(patch)).await {
        Ok(_) => tracing::info!(config_map = name, "CA certificate is published"),
        // The watch brings the object's next state, and with it the next try.
        Err(error) => {
            tracing::error!(config_map = name, error = %chain(&error), "CA certificate cannot be published");
        }
    }
}
