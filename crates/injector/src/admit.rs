//! The whole walk of a pod, from the request's bytes to the response's, still without I/O.

use svc_runtime::tls::CaBundle;
use thiserror::Error;

use crate::decide::{Decision, Plan, SkipReason, decide};
use crate::patch::render_patch;
use crate::pod::PodView;
use crate::refusal::Refusal;
use crate::respond::{Answer, AuditFacts, render_response};
use crate::review::{PodName, PodReview, ReviewError, parse_review};
use crate::settings::{EndpointSettings, Settings};
use crate::warnings::warnings;

/// An answer, and what logs and metrics say of it.
#[derive(Debug)]
pub struct Admission {
    /// The response's body.
    pub body: Vec<u8>,
    /// The request's uid.
    pub uid: String,
    /// The pod, as messages name it.
    pub pod: PodName,
    /// What was done and why.
    pub outcome: Outcome,
}

/// What was done and why, in stable codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `inject`, `skip` or `deny`.
    pub decision: &'static str,
    /// The reason's code.
    pub reason: &'static str,
    /// Names of the endpoints concerned.
    pub endpoints: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// The answer cannot be written.
    #[error("the response cannot be written")]
    Respond(#[source] serde_json::Error),
    /// The question cannot be read.
    #[error(transparent)]
    Review(#[from] ReviewError),
}

/// Answers a review that the API server asks for `endpoint`.
///
/// # Errors
/// [`AdmitError::Review`] for a body that is no question about a pod.
pub fn admit(
    settings: &Settings,
    server_ca: Option<&CaBundle>,
    endpoint: &str,
    body: &[u8],
) -> Result<Admission, AdmitError> {
    let PodReview { uid, facts, pod } = parse_review(body)?;
    let decision = decide(settings, server_ca, endpoint, &facts, &pod);
    let (answer, outcome) = match &decision {
        Decision::Deny { refusal, endpoints } => refused(refusal, endpoints),
        Decision::Inject(plan) => injected(settings, plan, &pod),
        Decision::Skip(reason) => (untouched(), skipped(*reason, Vec::new())),
    };
    let body =
        render_response(&uid, &answer, audit(&outcome).as_ref()).map_err(AdmitError::Respond)?;
    Ok(Admission {
        body,
        uid,
        pod: facts.pod,
        outcome,
    })
}

fn refused<'a>(refusal: &'a Refusal, endpoints: &[&EndpointSettings]) -> (Answer<'a>, Outcome) {
    let endpoints = endpoints
        .iter()
        .map(|endpoint| endpoint.name.clone())
        .collect();
    (
        Answer::Deny(refusal),
        Outcome {
            decision: "deny",
            reason: refusal.code(),
            endpoints,
        },
    )
}

fn injected(settings: &Settings, plan: &Plan<'_>, pod: &PodView<'_>) -> (Answer<'static>, Outcome) {
    let patch = render_patch(settings, plan, pod);
    let endpoints = plan
        .endpoints()
        .map(|endpoint| endpoint.name.clone())
        .collect();
    let outcome = if patch.0.is_empty() {
        skipped(SkipReason::AlreadyInjected, endpoints)
    } else {
        Outcome {
            decision: "inject",
            reason: "label",
            endpoints,
        }
    };
    (
        Answer::Allow {
            patch,
            warnings: warnings(plan, pod),
        },
        outcome,
    )
}

fn untouched() -> Answer<'static> {
    Answer::Allow {
        patch: json_patch::Patch(Vec::new()),
        warnings: Vec::new(),
    }
}

fn skipped(reason: SkipReason, endpoints: Vec<String>) -> Outcome {
    Outcome {
        decision: "skip",
        reason: reason.code(),
        endpoints,
    }
}

/// A second pass over a pod says nothing new: the API server keeps the first value of an audit
/// annotation and logs a warning about another.
fn audit(outcome: &Outcome) -> Option<AuditFacts<'_>> {
    let Outcome {
        decision,
        reason,
        endpoints,
    } = outcome;
    let is_second_pass = *reason == SkipReason::AlreadyInjected.code();
    (!is_second_pass).then_some(AuditFacts {
        decision,
        endpoints,
        reason,
    })
}
