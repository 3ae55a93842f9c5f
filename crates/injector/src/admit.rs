//! The whole walk of a pod, from the request's bytes to the response's, still without I/O.

use svc_runtime::tls::CaBundle;
use thiserror::Error;

use crate::decide::{Decision, Entry, SkipReason, decide};
use crate::near_miss::near_misses;
use crate::patch::render_patch;
use crate::plan::Plan;
use crate::pod::PodView;
use crate::preview::refusals;
use crate::refusal::Refusal;
use crate::respond::{Answer, AuditFacts, render_response};
use crate::review::{PodName, PodReview};
use crate::settings::{EndpointSettings, Settings};
use crate::warnings::{bounded, warnings};

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
}

/// Answers a review that the API server asks by `entry`.
///
/// # Errors
/// [`AdmitError::Respond`] if JSON cannot be written, which its types exclude.
pub fn admit(
    settings: &Settings,
    server_ca: Option<&CaBundle>,
    entry: Entry<'_>,
    review: PodReview<'_>,
) -> Result<Admission, AdmitError> {
    let PodReview { uid, facts, pod } = review;
    let decision = decide(settings, server_ca, entry, &facts, &pod);
    let hints = || near_misses(settings, entry, &pod);
    let (answer, outcome) = match &decision {
        Decision::Deny { refusal, endpoints } => refused(refusal, endpoints),
        Decision::Inject(plan) => {
            let ahead = refusals(settings, plan, &facts, &pod);
            let hints = ahead.into_iter().chain(hints()).collect();
            injected(settings, plan, &pod, hints)
        }
        Decision::Skip(reason) => {
            let mut warnings: Vec<_> = reason.warning().map(str::to_owned).into_iter().collect();
            if reason.is_of_the_pod() {
                warnings.extend(hints());
            }
            (untouched(warnings), skipped(*reason, Vec::new()))
        }
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

fn injected(
    settings: &Settings,
    plan: &Plan<'_>,
    pod: &PodView<'_>,
    hints: Vec<String>,
) -> (Answer<'static>, Outcome) {
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
            reason: plan
                .identity
                .as_ref()
                .map_or("label", |identity| identity.origin.code()),
            endpoints,
        }
    };
    (
        Answer::Allow {
            patch,
            warnings: warnings(settings, plan, pod, hints),
        },
        outcome,
    )
}

fn untouched(hints: Vec<String>) -> Answer<'static> {
    Answer::Allow {
        patch: json_patch::Patch(Vec::new()),
        warnings: bounded(hints),
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
