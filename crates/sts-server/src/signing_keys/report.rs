//! Each step of a ring as a log line, a count and a Kubernetes Event.

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Client, Resource as _};
use sts_core::ident::EndpointName;
use sts_core::keys::ring::{Ring, Step, Withheld};
use svc_runtime::EventWriter;
use svc_runtime::events::Happening;

use crate::metrics::Metrics;
use crate::run::EVENT_CONTROLLER;

/// Who says what happens to one ring.
pub(super) struct Report {
    endpoint: EndpointName,
    secret: String,
    metrics: Metrics,
    events: EventWriter,
    /// What was said last of a state that lasts.
    withheld: Option<Withheld>,
    is_full: bool,
}

impl Report {
    pub(super) fn new(
        endpoint: &EndpointName,
        secret: &str,
        metrics: Metrics,
        client: Client,
    ) -> Self {
        Self {
            endpoint: endpoint.clone(),
            secret: secret.to_owned(),
            metrics,
            events: EventWriter::new(client, EVENT_CONTROLLER),
            withheld: None,
            is_full: false,
        }
    }

    /// Says what a write changed. Only the replica that wrote says it.
    pub(super) async fn steps(&self, written: &Secret, steps: &[Step]) {
        let reference = written.object_ref(&());
        for step in steps {
            let (endpoint, secret, code) =
                (self.endpoint.as_str(), self.secret.as_str(), step.code());
            if step.is_warning() {
                tracing::warn!(endpoint, secret, step = code, "{step}");
            } else {
                tracing::info!(endpoint, secret, step = code, "{step}");
            }
            self.metrics.key_step(&self.endpoint, code);
            self.event(&reference, code, step.is_warning(), step.to_string())
                .await;
        }
    }

    /// Shows how many keys are in which phase, and says when signing is withheld or a key waits for room.
    pub(super) fn state(&mut self, ring: &Ring, withheld: Option<Withheld>, is_full: bool) {
        self.metrics
            .signing_keys(&self.endpoint, ring, withheld.is_none());
        let (endpoint, secret) = (self.endpoint.as_str(), self.secret.as_str());
        if self.withheld != withheld {
            if let Some(reason) = withheld {
                let code = reason.code();
                tracing::error!(
                    endpoint,
                    secret,
                    reason = code,
                    "no token is issued: {reason}"
                );
            } else {
                tracing::info!(endpoint, secret, "tokens are issued");
            }
            self.withheld = withheld;
        }
        if is_full && !self.is_full {
            tracing::warn!(
                endpoint,
                secret,
                "a new key waits: the most keys that may be published are"
            );
        }
        self.is_full = is_full;
    }

    async fn event(&self, reference: &ObjectReference, code: &str, is_warning: bool, note: String) {
        let happening = Happening {
            reason: format!("SigningKey{}", camel_case(code)),
            action: "KeyRotation",
            is_warning,
            note,
        };
        self.events.write(reference, happening).await;
    }
}

fn camel_case(code: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    code.split('_').map(word).collect()
}
