//! The ConfigMap with our CA's certificates, from where the injector hands them to every sidecar.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Patch;
use serde_json::{Value, json};
use svc_runtime::tls::{CaBundle, Place};

/// Its key `ca.crt`.
#[derive(Debug)]
pub(crate) struct CaConfigMap;

impl Place for CaConfigMap {
    type Object = ConfigMap;

    fn bundles(&self, object: &Self::Object) -> Vec<Vec<u8>> {
        let text = object.data.as_ref().and_then(|data| data.get(KEY));
        vec![text.map(|pem| pem.clone().into_bytes()).unwrap_or_default()]
    }

    /// With its `resourceVersion` the API server answers 409 if the object is not the one that was seen any more.
    fn patch(&self, object: &Self::Object, wanted: &CaBundle) -> Patch<Value> {
        Patch::Merge(json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "data": {KEY: wanted.as_pem()},
        }))
    }

    fn what(&self) -> &'static str {
        "CA certificate"
    }
}

const KEY: &str = "ca.crt";
