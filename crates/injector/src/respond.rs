//! The only builder of admission responses.
//!
//! kube's own response type writes the patch as a list of numbers (kube-rs/kube#1781), so the few
//! fields are ours (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::Serialize;

use crate::refusal::{Fault, Refusal};

/// What the API server is told.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The pod is taken, changed by the patch; an empty patch is left out.
    Allow {
        /// What changes.
        patch: Patch,
        /// What its author ought to know.
        warnings: Vec<String>,
    },
    /// The pod is refused.
    Deny(&'a Refusal),
}

/// `auditAnnotations`: what was done, for which endpoints, why. The API server puts the webhook's
/// name before each key.
#[derive(Debug)]
pub struct AuditFacts<'a> {
    /// `inject`, `skip` or `deny`.
    pub decision: &'static str,
    /// The endpoints concerned.
    pub endpoints: &'a [String],
    /// The reason's code.
    pub reason: &'static str,
}

/// The AdmissionReview that answers the question `uid`.
///
/// # Errors
/// Only if JSON cannot be written, which its types exclude.
pub fn render_response(
    uid: &str,
    answer: &Answer<'_>,
    audit: Option<&AuditFacts<'_>>,
) -> Result<Vec<u8>, serde_json::Error> {
    let audit_annotations = audit.map(audit_annotations).unwrap_or_default();
    let response = match answer {
        Answer::Allow { patch, warnings } => RawResponse {
            uid,
            allowed: true,
            patch: render_patch(patch)?,
            patch_type: (!patch.0.is_empty()).then_some("JSONPatch"),
            status: None,
            warnings,
            audit_annotations,
        },
        Answer::Deny(refusal) => RawResponse {
            uid,
            allowed: false,
            patch: None,
            patch_type: None,
            status: Some(status(refusal)),
            warnings: &[],
            audit_annotations,
        },
    };
    serde_json::to_vec(&RawReview {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response,
    })
}

fn render_patch(patch: &Patch) -> Result<Option<String>, serde_json::Error> {
    if patch.0.is_empty() {
        return Ok(None);
    }
    serde_json::to_vec(patch).map(|json| Some(STANDARD.encode(json)))
}

fn status(refusal: &Refusal) -> RawStatus {
    let (code, reason) = match refusal.fault() {
        Fault::Ours => (503, "ServiceUnavailable"),
        Fault::Pod => (400, "BadRequest"),
    };
    RawStatus {
        code,
        reason,
        message: refusal.to_string(),
    }
}

fn audit_annotations(facts: &AuditFacts<'_>) -> BTreeMap<&'static str, String> {
    let AuditFacts {
        decision,
        endpoints,
        reason,
    } = facts;
    let mut annotations = BTreeMap::from([
        ("decision", (*decision).to_owned()),
        ("reason", (*reason).to_owned()),
    ]);
    if !endpoints.is_empty() {
        annotations.insert("endpoints", endpoints.join(","));
    }
    annotations
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: RawResponse<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawResponse<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<RawStatus>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct RawStatus {
    code: u16,
    reason: &'static str,
    message: String,
}
