//! `subject:`, OpenUnison's `additionalAttributes:`, and `aws:`, what a token says.

use std::collections::BTreeSet;

use sts_core::claims::{
    AdditionalClaim, AwsClaims, ClaimName, ClaimSource, RolesClaim, SessionTag, SourceIdentity,
    SubjectTemplate, Transitivity,
};
use sts_core::ident::ClusterName;
use sts_core::policy::Attribute;
use sts_core::template::Template;

use super::Endpoint;
use crate::problem::{Place, Problems};
use crate::reader::Section;

/// The most claims that can be added, and the most characters of their texts: a token must fit into a header, and AWS takes 20,000.
const MOST_CLAIMS: usize = 32;
const LONGEST_TEXT: usize = 1024;

/// What an endpoint's tokens say beside what all do.
pub(super) struct ClaimsPart {
    pub(super) subject: SubjectTemplate,
    pub(super) additional: Vec<AdditionalClaim>,
    pub(super) aws: AwsClaims,
}

pub(super) fn read(
    section: &mut Section<'_>,
    default_subject: SubjectTemplate,
) -> Option<ClaimsPart> {
    let subject = section.or("subject", parse_subject, default_subject);
    let additional = read_additional(section);
    let aws = match section.section("aws") {
        Some(aws) => read_aws(aws),
        None => (!section.has("aws")).then(AwsClaims::default),
    };
    Some(ClaimsPart {
        subject: subject?,
        additional: additional?,
        aws: aws?,
    })
}

fn parse_subject(text: &str) -> Result<SubjectTemplate, String> {
    let named = !text.contains("${");
    SubjectTemplate::parse(text).map_err(|error| {
        if named {
            format!("{text:?} is none of serviceAccount, openunison and a template such as k8s:${{namespace}}/${{saname}}")
        } else {
            format!("{text:?}: {error}")
        }
    })
}

fn read_additional(section: &mut Section<'_>) -> Option<Vec<AdditionalClaim>> {
    let place = section.place_of("additionalAttributes");
    let Some(entries) = section.optional_list("additionalAttributes", read_claim) else {
        return (!section.has("additionalAttributes")).then(Vec::new);
    };
    if entries.len() > MOST_CLAIMS {
        section.error(place.clone(), "are more than 32: tokens would be too long");
    }
    let claims: Vec<(AdditionalClaim, Place)> = entries.into_iter().collect::<Option<_>>()?;
    let mut seen = BTreeSet::new();
    for (claim, place) in &claims {
        if !seen.insert(claim.name().clone()) {
            section.error(place.clone(), "is another claim's name too");
        }
    }
    Some(claims.into_iter().map(|(claim, _)| claim).collect())
}

/// OpenUnison's types of `additionalAttributes`.
#[derive(Clone, Copy)]
enum Kind {
    Composite,
    Static,
    User,
}

fn read_claim(mut section: Section<'_>) -> Option<(AdditionalClaim, Place)> {
    let place = section.place_of("target");
    let name = section.required("target", |text| {
        ClaimName::parse(text).map_err(|error| format!("{text:?} {error}"))
    });
    let kind = section.required("type", parse_kind);
    let source = match kind {
        None => {
            section.pass_over("source");
            None
        }
        Some(Kind::Composite) => section.required("source", parse_composite),
        Some(Kind::Static) => section.required("source", parse_static),
        Some(Kind::User) => section.required("source", parse_user),
    };
    section.finish()?;
    Some((AdditionalClaim::new(name?, source?), place))
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    match text {
        "composite" => Ok(Kind::Composite),
        "static" => Ok(Kind::Static),
        "user" => Ok(Kind::User),
        "custom" => Err(
            "\"custom\" runs a Java class of OpenUnison's: write `type: composite` with ${…}, or `type: user`"
                .to_owned(),
        ),
        _ => Err(format!("{text:?} is none of user, static and composite")),
    }
}

fn parse_user(text: &str) -> Result<ClaimSource, String> {
    Attribute::parse(text)
        .map(ClaimSource::Attribute)
        .ok_or_else(|| {
            let known: Vec<&str> = Attribute::names().collect();
            format!(
                "no subject has an attribute {text:?}: known are {}",
                known.join(", ")
            )
        })
}

fn parse_static(text: &str) -> Result<ClaimSource, &'static str> {
    if text.len() > LONGEST_TEXT {
        return Err("is longer than 1024 bytes");
    }
    Ok(ClaimSource::Text(text.to_owned()))
}

fn parse_composite(text: &str) -> Result<ClaimSource, String> {
    if text.len() > LONGEST_TEXT {
        return Err("is longer than 1024 bytes".to_owned());
    }
    Template::parse(text)
        .map(ClaimSource::Template)
        .map_err(|error| format!("{text:?}: {error}"))
}

fn read_aws(mut section: Section<'_>) -> Option<AwsClaims> {
    let place = section.place_of("sessionTags");
    let tags = match section.optional_list("sessionTags", read_tag) {
        None => (!section.has("sessionTags")).then(Vec::new),
        Some(tags) => tags.into_iter().collect::<Option<Vec<_>>>(),
    };
    let identity_place = section.place_of("sourceIdentity");
    let identity_written = section.has("sourceIdentity");
    let identity = section.optional("sourceIdentity", |text| {
        SourceIdentity::parse(text).map_err(|error| format!("{text:?}: {error}"))
    });
    if identity
        .as_ref()
        .is_some_and(SourceIdentity::may_be_too_long)
    {
        section.warning(
            identity_place,
            "can have more than AWS's 64 characters: a subject whose names are that long gets no token",
        );
    }
    let roles = section.flag("roles");
    let roles = roles.map(|on| {
        if on {
            RolesClaim::Bound
        } else {
            RolesClaim::Absent
        }
    });
    let claims = tags.zip(roles).and_then(|(tags, roles)| {
        match AwsClaims::new(tags, identity.clone(), roles) {
            Ok(claims) => Some(claims),
            Err(error) => {
                section.error(place, error.to_string());
                None
            }
        }
    });
    section.finish()?;
    if identity_written && identity.is_none() {
        return None;
    }
    claims
}

fn read_tag(mut section: Section<'_>) -> Option<SessionTag> {
    let key = section.required("key", parse_text);
    let value = section.required("value", parse_text);
    let transitive = section.flag("transitive");
    let place = section.place().clone();
    let tag = key
        .zip(value)
        .zip(transitive)
        .and_then(|((key, value), transitive)| {
            let transitive = if transitive {
                Transitivity::Transitive
            } else {
                Transitivity::Once
            };
            match SessionTag::parse(&key, &value, transitive) {
                Ok(tag) => Some(tag),
                Err(error) => {
                    section.error(place.clone(), format!("{key:?}: {error}"));
                    None
                }
            }
        });
    if tag.as_ref().is_some_and(SessionTag::may_be_too_long) {
        section.warning(
            place,
            "can have more than AWS's 256 characters: a subject whose names are that long gets no token",
        );
    }
    section.finish()?;
    tag
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a section's reader expects of a parser"
)]
fn parse_text(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

/// AWS's audience by its own convention.
const AWS_AUDIENCE: &str = "sts.amazonaws.com";

/// What can only be said of an endpoint as a whole.
pub(crate) fn check(endpoint: &Endpoint, problems: &Problems) {
    let template = &endpoint.template;
    let place = |key: &str| endpoint.place.key(key);
    if endpoint.clusters.len() > 1 {
        check_clusters_are_named(endpoint, problems);
    }
    let names_role =
        template.aws.names_role() || template.additional.iter().any(AdditionalClaim::names_role);
    if names_role && !endpoint.policy.binds_roles() {
        problems.error(
            place("roles"),
            "is missing: a claim names the role, which means nothing unless it is bound to who may ask for it",
        );
    }
    let for_aws = endpoint
        .injection
        .as_ref()
        .is_some_and(|injection| injection.annotation_env == "AWS_ROLE_ARN");
    if for_aws && template.audience.as_str() != AWS_AUDIENCE {
        problems.warning(
            place("audience"),
            format!(
                "is not {AWS_AUDIENCE}: that is fine if the IAM identity provider's client ID is {}",
                template.audience
            ),
        );
    }
    if template.lifetime.get() > LONG_LIFETIME {
        problems.warning(
            place("lifetime"),
            "is more than an hour: a token that is stolen is good for that long",
        );
    }
}

/// From here on a lifetime is worth a word.
const LONG_LIFETIME: std::time::Duration = std::time::Duration::from_secs(3600);

/// Namespaces of the same name in two clusters are alike.
fn check_clusters_are_named(endpoint: &Endpoint, problems: &Problems) {
    let template = &endpoint.template;
    let names: Vec<&str> = endpoint.clusters.iter().map(ClusterName::as_str).collect();
    let names = names.join(" and ");
    if !template.subject.names_cluster() {
        problems.error(
            endpoint.place.key("subject"),
            format!(
                "does not name the cluster, and the endpoint takes tokens of {names}: their ServiceAccounts would share a `sub`. Write \
                 `subject: openunison`, a template with ${{cluster}}, or an endpoint for each"
            ),
        );
    }
    for (what, variable) in template.aws.without_cluster() {
        problems.error(
            endpoint.place.key("aws"),
            format!(
                "in {what} {variable} stands without ${{cluster}}, and the endpoint takes tokens of {names}: one of another cluster can have \
                 that name, and would pass for this one where AWS decides by it. Write ${{cluster}} too, or an endpoint for each"
            ),
        );
    }
}
