//! `rules:`, OpenUnison's `azRules:`, and `allowAll:`.

use sts_core::ident::ClusterName;
use sts_core::policy::{Breadth, CelRule, Filter, Rule, Subjects};

use super::Endpoint;
use crate::problem::{Place, Problems};
use crate::reader::Section;

/// A rule, and where it stands in the file.
#[derive(Clone, Debug)]
pub struct WrittenRule {
    /// The rule.
    pub rule: Rule,
    /// Its place.
    pub place: Place,
}

/// Whom an endpoint's rules allow. None at all means nobody, unlike OpenUnison, where it means everybody; a warning says so.
pub(super) fn read(section: &mut Section<'_>) -> Option<(Subjects, Vec<WrittenRule>)> {
    let allow_all = section.flag("allowAll")?;
    let rules = section
        .optional_list("rules", read_rule)
        .unwrap_or_default();
    let openunison = section
        .optional_list("azRules", read_openunison)
        .unwrap_or_default();
    let written = rules.into_iter().chain(openunison).collect::<Vec<_>>();
    if allow_all && !written.is_empty() {
        let place = section.place_of("allowAll");
        section.error(
            place,
            "is true, so that the rules beside it mean nothing: leave one of them out",
        );
        return None;
    }
    if allow_all {
        return Some((Subjects::All, Vec::new()));
    }
    if written.is_empty() {
        let place = section.place_of("rules");
        section.warning(place, "is empty: nobody gets a token. Write a filter, or `allowAll: true` if everybody should");
    }
    let written: Vec<_> = written.into_iter().collect::<Option<_>>()?;
    let rules = written.iter().map(|written| written.rule.clone());
    Some((Subjects::AnyOf(rules.collect()), written))
}

fn read_rule(mut section: Section<'_>) -> Option<WrittenRule> {
    // An OpenUnison rule may stand here too.
    if section.has("scope") || section.has("constraint") {
        return read_openunison(section);
    }
    let place = section.place().clone();
    let written = one_of(&mut section);
    if matches!(written, Some(None)) {
        section.error(
            place,
            "is no rule: write `filter:` with an LDAP filter, or `cel:` with an expression",
        );
    }
    section.finish()?;
    written?
}

/// The rule of `filter:` or `cel:`; `Some(None)` where there is neither.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
pub(super) fn one_of(section: &mut Section<'_>) -> Option<Option<WrittenRule>> {
    let key = match (section.has("filter"), section.has("cel")) {
        (true, true) => {
            let place = section.place_of("cel");
            section.pass_over("filter");
            section.pass_over("cel");
            section.error(place, "and filter are two rules: write one entry for each");
            return None;
        }
        (true, false) => "filter",
        (false, true) => "cel",
        (false, false) => {
            section.pass_over("filter");
            section.pass_over("cel");
            return Some(None);
        }
    };
    let place = section.place_of(key);
    section.pass_over("filter");
    section.pass_over("cel");
    let rule = if key == "cel" {
        section.optional(key, parse_cel)
    } else {
        section.optional(key, parse_filter)
    };
    rule.map(|rule| Some(WrittenRule { rule, place }))
}

fn read_openunison(mut section: Section<'_>) -> Option<WrittenRule> {
    let place = section.place_of("constraint");
    let scope = section.required("scope", Scope::parse);
    let rule = match scope {
        None => {
            section.pass_over("constraint");
            None
        }
        Some(Scope::Dn) => section.required("constraint", parse_dn),
        Some(Scope::Filter) => section.required("constraint", parse_filter),
    };
    section.finish()?;
    Some(WrittenRule { rule: rule?, place })
}

fn parse_filter(text: &str) -> Result<Rule, String> {
    Filter::parse(text)
        .map(Rule::Filter)
        .map_err(|error| format!("{text:?}: {error}"))
}

fn parse_cel(text: &str) -> Result<Rule, String> {
    CelRule::parse(text)
        .map(Rule::Cel)
        .map_err(|error| format!("{text:?}: {error}"))
}

/// OpenUnison's scopes that mean something without its directory.
#[derive(Clone, Copy)]
enum Scope {
    Dn,
    Filter,
}

impl Scope {
    /// OpenUnison takes them without regard to case.
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "dn" => Ok(Self::Dn),
            "filter" => Ok(Self::Filter),
            "group" => Err(format!(
                "{text:?} looks a group up in OpenUnison's directory, which there is none of: write `scope: filter` with a constraint on \
                 namespace or saname; a namespace's ServiceAccounts are (groups=system:serviceaccounts:<namespace>) too"
            )),
            "dynamicgroup" => Err(format!(
                "{text:?} looks a group's memberURL up in OpenUnison's directory, which there is none of: write `scope: filter` with the filter \
                 of that memberURL as its constraint"
            )),
            "custom" => Err(format!(
                "{text:?} runs a Java class of OpenUnison's: write what it decides as `scope: filter`, or under `rules:` as `cel:`"
            )),
            _ => Err(format!(
                "{text:?} is no scope: write filter or dn (group, dynamicGroup and custom need OpenUnison)"
            )),
        }
    }
}

/// Where OpenUnison has ServiceAccounts in its directory.
const DIRECTORY: &str = ",ou=oauth2,o=Tremolo";

/// OpenUnison compares the end of `username=system:serviceaccount:<namespace>:<name>,ou=oauth2,o=Tremolo` with the constraint.
fn parse_dn(text: &str) -> Result<Rule, String> {
    if DIRECTORY.ends_with(text) {
        return Err(format!(
            "{text:?} is where every ServiceAccount is: write `allowAll: true` if everybody should get a token"
        ));
    }
    let Some(name) = text.strip_suffix(DIRECTORY) else {
        return Err(format!(
            "{text:?} is the end of no ServiceAccount's DN, which is \
             username=system:serviceaccount:<namespace>:<name>{DIRECTORY}"
        ));
    };
    let subject = name.strip_prefix("username=").and_then(Filter::of_subject);
    subject.map(Rule::Filter).ok_or_else(|| {
        format!(
            "{text:?} does not name one ServiceAccount: write username=system:serviceaccount:<namespace>:<name>{DIRECTORY}, or \
             `scope: filter` with a constraint on namespace or saname"
        )
    })
}

/// What can only be said once it is known whose tokens the endpoint takes, and how it knows that they are alive.
pub(crate) fn check(endpoint: &Endpoint, problems: &Problems) {
    for WrittenRule { rule, place } in &endpoint.written {
        check_labels(endpoint, rule, place, problems);
        let breadth = match rule {
            Rule::Cel(rule) => rule
                .breadth_within(&endpoint.clusters)
                .map_err(|error| error.to_string()),
            Rule::Filter(filter) => filter
                .breadth_within(&endpoint.clusters)
                .map_err(|error| error.to_string()),
        };
        match breadth {
            Err(reason) => {
                let names: Vec<&str> = endpoint.clusters.iter().map(ClusterName::as_str).collect();
                problems.error(
                    place.clone(),
                    format!(
                        "\"{rule}\": {reason} (the endpoint takes tokens of {})",
                        names.join(", ")
                    ),
                );
            }
            Ok(Breadth::Excludes) => problems.warning(
                place.clone(),
                format!("\"{rule}\" says who gets no token, and so gives one to everybody else, also in namespaces to come"),
            ),
            Ok(Breadth::PodLabels) => problems.warning(
                place.clone(),
                format!("\"{rule}\" asks for nothing but labels of the pod, which whoever creates one chooses, in any namespace: ask for the namespace or its labels too"),
            ),
            Ok(Breadth::Selects) => {}
        }
        let wildcard = match rule {
            Rule::Cel(rule) => rule.has_wildcard(),
            Rule::Filter(filter) => filter.has_wildcard(),
        };
        if wildcard {
            problems.warning(
                place.clone(),
                format!("\"{rule}\" has a wildcard: whoever may create a namespace, ServiceAccount or pod of such a name gets a token"),
            );
        }
    }
}

fn check_labels(endpoint: &Endpoint, rule: &Rule, place: &Place, problems: &Problems) {
    let asks = rule.labels().is_some_and(|labels| !labels.is_empty());
    if asks && !endpoint.verification.knows_labels() {
        let name = endpoint.verification.name();
        problems.error(
            place.clone(),
            format!(
                "asks for labels, which `verification: {name}` does not know: write `verification: tokenReview` or `watch`, or name \
                 namespaces and ServiceAccounts instead"
            ),
        );
    }
}
