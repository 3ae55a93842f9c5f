//! The `caBundle` of our MutatingWebhookConfiguration: where kube-apiserver looks for the CA of our certificate.
//!
//! By JSON patch (<https://www.rfc-editor.org/rfc/rfc6902>) of these fields alone, not by server-side
//! apply: docs/decisions/0006 says why.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::api::Patch;
use serde_json::{Value, json};
use svc_runtime::tls::{CaBundle, Place};

/// Every `caBundle` of the object.
#[derive(Debug)]
pub(crate) struct CaBundles;

impl Place for CaBundles {
    type Object = MutatingWebhookConfiguration;

    fn bundles(&self, object: &Self::Object) -> Vec<Vec<u8>> {
        let webhooks = object.webhooks.iter().flatten();
        webhooks.map(|webhook| found(webhook).to_vec()).collect()
    }

    /// A patch names an entry by its place, so it is tested first that the object is still the one that was seen.
    fn patch(&self, object: &Self::Object, wanted: &CaBundle) -> Patch<Value> {
        let seen = PatchOperation::Test(TestOperation {
            path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
            value: json!(object.metadata.resource_version),
        });
        let wanted = wanted.as_pem().as_bytes();
        let webhooks = object.webhooks.iter().flatten().enumerate();
        let wrong = webhooks.filter(|(_, webhook)| found(webhook) != wanted);
        let fill = wrong.map(|(index, _)| {
            let index = index.to_string();
            PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["webhooks", &index, "clientConfig", "caBundle"]),
                value: json!(ByteString(wanted.to_vec())),
            })
        });
        Patch::Json(JsonPatch([seen].into_iter().chain(fill).collect()))
    }

    fn what(&self) -> &'static str {
        "caBundle"
    }
}

fn found(webhook: &MutatingWebhook) -> &[u8] {
    let bundle = webhook.client_config.ca_bundle.as_ref();
    bundle.map_or(&[], |bundle| bundle.0.as_slice())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use svc_runtime::tls::Authority;

    use super::*;

    fn bundle() -> CaBundle {
        let hour = Duration::from_secs(3600);
        let authority = Authority::create("test", hour, svc_runtime::clock::now()).unwrap();
        authority.bundle().clone()
    }

    fn object(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let entries = bundles.iter().enumerate().map(|(index, bundle)| {
            let bundle = bundle.map(|pem| ByteString(pem.as_bytes().to_vec()));
            json!({
                "name": format!("hook{index}.example.com"),
                "clientConfig": {"caBundle": bundle},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            })
        });
        let webhooks: Vec<Value> = entries.collect();
        let metadata = json!({"name": "hooks", "resourceVersion": "7"});
        serde_json::from_value(json!({"metadata": metadata, "webhooks": webhooks})).unwrap()
    }

    fn patch(object: &MutatingWebhookConfiguration, wanted: &CaBundle) -> JsonPatch {
        let patch = CaBundles.patch(object, wanted);
        let Patch::Json(patch) = patch else {
            panic!("{patch:?}")
        };
        patch
    }

    #[test]
    fn writes_only_the_entries_that_are_wrong() {
        let ca = bundle();
        let stale = object(&[Some(ca.as_pem()), Some("old")]);
        let encoded = ByteString(ca.as_pem().as_bytes().to_vec());
        let expected = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": encoded},
        ]);
        assert_eq!(serde_json::to_value(patch(&stale, &ca)).unwrap(), expected);
    }

    /// Also the write of a replica that was stopped between seeing and writing.
    #[test]
    fn a_patch_of_an_object_that_has_changed_fails_as_a_whole() {
        let seen = object(&[None, None]);
        let patch = patch(&seen, &bundle());
        let mut changed = serde_json::to_value(seen).unwrap();
        changed["metadata"]["resourceVersion"] = json!("8");
        let before = changed.clone();
        assert!(json_patch::patch(&mut changed, &patch).is_err());
        assert_eq!(changed, before);
    }

    #[test]
    fn an_entry_without_a_bundle_is_an_empty_one() {
        let bundles = CaBundles.bundles(&object(&[None, Some("pem")]));
        assert_eq!(bundles, [Vec::new(), b"pem".to_vec()]);
    }
}
