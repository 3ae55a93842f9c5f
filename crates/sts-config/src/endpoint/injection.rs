//! `injector:` of an endpoint: how pods ask for its token. OpenUnison's key names are read too.

use std::time::Duration;

use super::Endpoint;
use super::files::{self, CompanionFile};
use crate::injector::ServiceAccountConfig;
use crate::problem::Problems;
use crate::reader::Section;

/// How pods ask for an endpoint's token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    /// Label and annotation are `tremolo.io/<label>`.
    pub label: String,
    /// The variable that holds the token file's path.
    pub token_env: String,
    /// The variable that holds the annotation's value.
    pub annotation_env: String,
    /// What the annotation must look like.
    pub annotation: AnnotationShape,
    /// What is written beside the token.
    pub files: Vec<CompanionFile>,
    /// Whose token the pod gets.
    pub mode: InjectionMode,
}

/// Whose token a pod gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InjectionMode {
    /// The kubelet's, with the endpoint's `audience`: no sidecar, and the cluster's own issuer.
    Projected,
    /// The endpoint's, which a sidecar keeps fresh.
    Sidecar,
}

/// What an annotation's value must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnnotationShape {
    /// The ARN of an IAM role.
    AwsRoleArn,
    /// Printable text that no shell and no kubelet expands.
    PlainText,
}

/// `Some(None)` for an endpoint without this part, `None` for one that is wrong.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Injection>> {
    if !section.has("injector") {
        section.pass_over("injector");
        return Some(None);
    }
    section.section("injector").and_then(read_part).map(Some)
}

fn read_part(mut section: Section<'_>) -> Option<Injection> {
    let label = section.required("label", parse_label);
    let token_env = either(&mut section, "tokenEnv", "token_environment_variable_name");
    let annotation_env = either(
        &mut section,
        "annotationEnv",
        "label_value_environment_variable_name",
    );
    let mode = section.or("mode", parse_mode, InjectionMode::Sidecar);
    let files = files::read(&mut section);
    // The sidecar always trusts the STS's own CA and nothing else, so OpenUnison's switch for that is already on.
    let trust: Option<bool> = section.flag("explicit_certificate_trust");
    section.finish()?;
    trust?;
    let annotation_env = annotation_env?;
    let annotation = if annotation_env == "AWS_ROLE_ARN" {
        AnnotationShape::AwsRoleArn
    } else {
        AnnotationShape::PlainText
    };
    Some(Injection {
        label: label?,
        token_env: token_env?,
        annotation_env,
        annotation,
        mode: mode?,
        files: files?,
    })
}

fn parse_mode(text: &str) -> Result<InjectionMode, &'static str> {
    match text {
        "projected" => Ok(InjectionMode::Projected),
        "sidecar" => Ok(InjectionMode::Sidecar),
        _ => Err("is neither sidecar nor projected"),
    }
}

/// What an endpoint's `injector` and the rest of the file say against each other.
pub(crate) fn check_injection(
    endpoints: &[Endpoint],
    accounts: Option<&ServiceAccountConfig>,
    problems: &Problems,
) {
    for endpoint in endpoints {
        let mode = endpoint.injection.as_ref().map(|injection| injection.mode);
        let has_files = endpoint
            .injection
            .as_ref()
            .is_some_and(|injection| !injection.files.is_empty());
        if mode == Some(InjectionMode::Projected) && has_files {
            problems.error(
                endpoint.place.key("injector.files"),
                "and `gcp` need a sidecar to write them: the endpoint's `injector.mode` is projected",
            );
        }
        let lifetime = endpoint.template.lifetime.get();
        if mode == Some(InjectionMode::Projected) && lifetime < SHORTEST_PROJECTED {
            problems.error(
                endpoint.place.key("lifetime"),
                "is less than 10m, which no API server issues a token for: the endpoint's `injector.mode` is projected",
            );
        }
    }
    let Some(accounts) = accounts else { return };
    let Some(wanted) = &accounts.endpoint else {
        return;
    };
    if !endpoints.iter().any(|endpoint| endpoint.name == *wanted) {
        problems.error(
            accounts.place.key("endpoint"),
            format!("is {wanted}, and no endpoint has that name"),
        );
    }
}

/// The API server's bound (<https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>).
const SHORTEST_PROJECTED: Duration = Duration::from_secs(600);

/// Our name of a key, or OpenUnison's; not both.
fn either(
    section: &mut Section<'_>,
    ours: &'static str,
    openunison: &'static str,
) -> Option<String> {
    if section.has(ours) && section.has(openunison) {
        let place = section.place_of(openunison);
        section.error(place, format!("and {ours} mean the same: leave one out"));
    }
    if section.has(openunison) {
        section.pass_over(ours);
        section.optional(openunison, parse_env)
    } else {
        section.pass_over(openunison);
        section.required(ours, parse_env)
    }
}

/// The name part of a label key (Kubernetes: at most 63 characters, alphanumeric at both ends).
fn parse_label(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let valid = bytes.len() <= 63
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().copied().all(inner);
    if valid {
        Ok(text.to_owned())
    } else {
        Err("is no label name: write it without the prefix tremolo.io/")
    }
}

pub(super) fn parse_env(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = text
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if starts && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("is no environment variable's name")
    }
}
