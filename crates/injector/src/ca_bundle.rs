//! Keeps the `caBundle` of our MutatingWebhookConfiguration equal to the CA of our own certificate.
//!
//! By JSON patch (<https://www.rfc-editor.org/rfc/rfc6902>) of these fields alone, not by server-side
//! apply: who applies `webhooks[name].clientConfig.caBundle` owns the entry too, so that it stays, half
//! empty and invalid, when whoever made the object applies it without the entry. An update owns the field.

use std::time::Duration;

use futures_util::StreamExt as _;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use svc_runtime::log::chain;
use svc_runtime::tls::CaBundle;
use svc_runtime::{Condition, Shutdown, follow_object};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Why the `caBundle` is not kept any more. Neither happens but with the process.
#[derive(Debug, Error)]
pub(crate) enum CaBundleError {
    /// The certificate is not followed any more.
    #[error("the serving certificate is not followed any more")]
    CertificateEnded,
    /// The watch of the object ended.
    #[error("the watch of the MutatingWebhookConfiguration ended")]
    WatchEnded,
}

/// Keeps the object's bundles equal to `ca` until shutdown.
pub(crate) async fn keep(
    api: Api<MutatingWebhookConfiguration>,
    name: String,
    mut ca: watch::Receiver<Option<CaBundle>>,
    condition: Condition,
    shutdown: Shutdown,
) -> Result<(), CaBundleError> {
    let states = follow_object(api.clone(), &name);
    tokio::pin!(states);
    let mut live = None;
    let mut write_at: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            changed = ca.changed() => changed.map(|()| Event::Ca).or(Err(CaBundleError::CertificateEnded))?,
            state = states.next() => match state.ok_or(CaBundleError::WatchEnded)? {
                Ok(object) => {
                    live = object;
                    Event::Object
                }
                Err(error) => {
                    tracing::warn!(webhook = name, error = %chain(&error), "webhook configuration cannot be watched");
                    continue;
                }
            },
            () = sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => Event::Due,
        };
        let wanted = ca.borrow_and_update().clone();
        let action = compare(&name, live.as_ref(), wanted.as_ref());
        tell(&action, &condition);
        write_at = match (action, event) {
            (Action::Wait(_) | Action::Keep, _) => None,
            (Action::Write(patch), Event::Due) => {
                write(&api, &name, &patch).await;
                Some(Instant::now() + RETRY)
            }
            (Action::Write(_), Event::Ca) => Some(Instant::now()),
            (Action::Write(_), Event::Object) => Some(Instant::now() + settle(live.as_ref())),
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Ca,
    Due,
    Object,
}

#[derive(Debug, PartialEq)]
enum Action {
    /// Every entry has our bundle.
    Keep,
    /// Nothing can be done, for this reason.
    Wait(String),
    /// Change this.
    Write(JsonPatch),
}

fn compare(
    name: &str,
    live: Option<&MutatingWebhookConfiguration>,
    wanted: Option<&CaBundle>,
) -> Action {
    let Some(wanted) = wanted else {
        return Action::Wait("there is no certificate yet".to_owned());
    };
    let Some(webhooks) = live.and_then(|object| object.webhooks.as_ref()) else {
        return Action::Wait(format!(
            "MutatingWebhookConfiguration {name} is not there or empty"
        ));
    };
    let bundle = ByteString(wanted.as_pem().as_bytes().to_vec());
    let operations: Vec<PatchOperation> = webhooks
        .iter()
        .enumerate()
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&bundle))
        .flat_map(|(index, webhook)| fill(index, webhook, &bundle))
        .collect();
    if operations.is_empty() {
        Action::Keep
    } else {
        Action::Write(JsonPatch(operations))
    }
}

/// A patch names an entry by its place, so it is tested first that the entry still stands there.
fn fill(index: usize, webhook: &MutatingWebhook, bundle: &ByteString) -> [PatchOperation; 2] {
    let index = index.to_string();
    let path = |tail: &[&str]| {
        let head = ["webhooks", index.as_str()];
        PointerBuf::from_tokens(head.iter().chain(tail).copied())
    };
    [
        PatchOperation::Test(TestOperation {
            path: path(&["name"]),
            value: json!(webhook.name),
        }),
        PatchOperation::Add(AddOperation {
            path: path(&["clientConfig", "caBundle"]),
            value: json!(bundle),
        }),
    ]
}

fn tell(action: &Action, condition: &Condition) {
    match action {
        Action::Keep => condition.met(),
        Action::Wait(reason) => condition.unmet(reason.as_str()),
        Action::Write(_) => condition.unmet("caBundle is not yet our CA's"),
    }
}

/// A bundle that is there but not ours may be another replica's, newer than the one we know: our own
/// news of the certificate is given a moment before we write. An empty one is filled at once.
fn settle(live: Option<&MutatingWebhookConfiguration>) -> Duration {
    let webhooks = live
        .and_then(|object| object.webhooks.as_ref())
        .into_iter()
        .flatten();
    let is_empty = |bundle: Option<&ByteString>| bundle.is_none_or(|bundle| bundle.0.is_empty());
    let mut bundles = webhooks.map(|webhook| webhook.client_config.ca_bundle.as_ref());
    if bundles.any(is_empty) {
        Duration::ZERO
    } else {
        SETTLE
    }
}

/// Where entries were moved or removed since we saw them, the patch fails as a whole, and the watch's
/// next state says what to do.
async fn write(api: &Api<MutatingWebhookConfiguration>, name: &str, patch: &JsonPatch) {
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::<()>::Json(patch.clone());
    match timeout(CALL_TIMEOUT, api.patch(name, &parameters, &patch)).await {
        Ok(Ok(_)) => tracing::info!(webhook = name, "caBundle is written"),
        Ok(Err(kube::Error::Api(status))) if OVERTAKEN.contains(&status.code) => {
            tracing::info!(
                webhook = name,
                status = status.code,
                "webhook configuration has changed meanwhile"
            );
        }
        Ok(Err(error)) => {
            tracing::error!(webhook = name, error = %chain(&error), "caBundle cannot be written");
        }
        Err(_) => tracing::error!(webhook = name, "caBundle cannot be written: no answer"),
    }
}

/// Conflict, and the API server's word for a failed test.
const OVERTAKEN: [u16; 2] = [409, 422];
const FIELD_MANAGER: &str = "kube-sts-injector";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use svc_runtime::tls::Authority;

    use super::*;

    fn bundle() -> CaBundle {
        Authority::create("test", svc_runtime::clock::now())
            .unwrap()
            .bundle()
            .clone()
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
        serde_json::from_value(json!({"metadata": {"name": "hooks"}, "webhooks": webhooks}))
            .unwrap()
    }

    #[test]
    fn keeps_what_is_right_and_writes_only_the_entries_that_are_wrong() {
        let ca = bundle();
        let ours = object(&[Some(ca.as_pem()), Some(ca.as_pem())]);
        assert_eq!(compare("hooks", Some(&ours), Some(&ca)), Action::Keep);
        let stale = object(&[Some(ca.as_pem()), Some("old")]);
        let encoded = ByteString(ca.as_pem().as_bytes().to_vec());
        let expected = json!([
            {"op": "test", "path": "/webhooks/1/name", "value": "hook1.example.com"},
            {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": encoded},
        ]);
        let action = compare("hooks", Some(&stale), Some(&ca));
        let Action::Write(patch) = action else {
            panic!("{action:?}")
        };
        assert_eq!(serde_json::to_value(patch).unwrap(), expected);
    }

    #[test]
    fn a_patch_of_entries_that_have_moved_fails_as_a_whole() {
        let ca = bundle();
        let Action::Write(patch) = compare("hooks", Some(&object(&[None, None])), Some(&ca)) else {
            panic!("nothing to write")
        };
        let mut moved = serde_json::to_value(object(&[None, None])).unwrap();
        moved["webhooks"].as_array_mut().unwrap().reverse();
        let before = moved.clone();
        assert!(json_patch::patch(&mut moved, &patch).is_err());
        assert_eq!(moved, before);
    }

    #[test]
    fn waits_with_a_reason_for_what_is_missing() {
        let ca = bundle();
        assert!(
            matches!(compare("hooks", None, Some(&ca)), Action::Wait(reason) if reason.contains("hooks"))
        );
        assert!(matches!(
            compare("hooks", Some(&object(&[None])), None),
            Action::Wait(_)
        ));
    }

    #[test]
    fn fills_an_empty_bundle_at_once_and_replaces_another_later() {
        assert_eq!(settle(Some(&object(&[None]))), Duration::ZERO);
        assert_eq!(settle(Some(&object(&[Some("")]))), Duration::ZERO);
        assert_eq!(settle(Some(&object(&[Some("other")]))), SETTLE);
    }
}
