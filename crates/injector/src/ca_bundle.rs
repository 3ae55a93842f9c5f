//! Keeps the `caBundle` of our MutatingWebhookConfiguration equal to the CA of our own certificate.
//!
//! Server-side apply with a field manager of our own, of these fields alone: whoever made the object
//! keeps the rest (<https://kubernetes.io/docs/reference/using-api/server-side-apply/>).

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
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
    /// Apply this.
    Write(Value),
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
    if webhooks
        .iter()
        .all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle))
    {
        return Action::Keep;
    }
    let entries: Vec<Value> = webhooks
        .iter()
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    Action::Write(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": entries,
    }))
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

async fn write(api: &Api<MutatingWebhookConfiguration>, name: &str, patch: &Value) {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(patch);
    match timeout(CALL_TIMEOUT, api.patch(name, &parameters, &patch)).await {
        Ok(Ok(_)) => tracing::info!(webhook = name, "caBundle is written"),
        Ok(Err(error)) => {
            tracing::error!(webhook = name, error = %chain(&error), "caBundle cannot be written");
        }
        Err(_) => tracing::error!(webhook = name, "caBundle cannot be written: no answer"),
    }
}

const FIELD_MANAGER: &str = "kube-sts-injector";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
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
    fn keeps_what_is_right_and_writes_every_entry_when_one_is_wrong() {
        let ca = bundle();
        let ours = object(&[Some(ca.as_pem()), Some(ca.as_pem())]);
        assert_eq!(compare("hooks", Some(&ours), Some(&ca)), Action::Keep);
        let stale = object(&[Some(ca.as_pem()), Some("old")]);
        let encoded = ByteString(ca.as_pem().as_bytes().to_vec());
        let expected = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "hooks"},
            "webhooks": [
                {"name": "hook0.example.com", "clientConfig": {"caBundle": encoded}},
                {"name": "hook1.example.com", "clientConfig": {"caBundle": encoded}},
            ],
        });
        assert_eq!(
            compare("hooks", Some(&stale), Some(&ca)),
            Action::Write(expected)
        );
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
