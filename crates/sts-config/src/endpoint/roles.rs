//! `roles:` which subject may ask for which role.

use sts_core::ident::ClusterName;
use sts_core::policy::{RoleBinding, RolePattern};

use super::Endpoint;
use super::rules::{self, WrittenRule};
use crate::problem::{Place, Problems};
use crate::reader::Section;

/// What `roles:` says.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) bindings: Vec<RoleBinding>,
    /// Their rules.
    pub(super) rules: Vec<WrittenRule>,
    /// The places of the patterns that bind by the subject's names alone, and do not name its cluster.
    pub(super) without_cluster: Vec<Place>,
}

struct Binding {
    core: RoleBinding,
    rule: Option<WrittenRule>,
    without_cluster: Option<Place>,
}

/// The bindings, and their rules with their places.
pub(super) fn read(section: &mut Section<'_>) -> Option<Roles> {
    let Some(entries) = section.optional_list("roles", read_binding) else {
        return (!section.has("roles")).then(Default::default);
    };
    if entries.is_empty() {
        let place = section.place_of("roles");
        section.error(
            place,
            "is empty: leave it out if roles are not to be bound, or write at least one `pattern`",
        );
        return None;
    }
    let mut roles = Roles::default();
    for entry in entries {
        let Binding {
            core,
            rule,
            without_cluster,
        } = entry?;
        roles.bindings.push(core);
        roles.rules.extend(rule);
        roles.without_cluster.extend(without_cluster);
    }
    Some(roles)
}

fn read_binding(mut section: Section<'_>) -> Option<Binding> {
    let place = section.place().clone();
    let pattern_place = section.place_of("pattern");
    let pattern = section.required("pattern", |text| {
        RolePattern::parse(text).map_err(|error| format!("{text:?}: {error}"))
    });
    let allow_all = section.flag("allowAll");
    let written = rules::one_of(&mut section);
    let bound = pattern.as_ref().is_none_or(RolePattern::names_the_subject);
    match (allow_all, &written) {
        (Some(true), Some(Some(_))) => section.error(
            place.key("allowAll"),
            "is true, so that the rule beside it means nothing: leave one of them out",
        ),
        (Some(false), Some(None)) if !bound => section.error(
            place,
            "says nothing of who may ask for the role: write `filter:` or `cel:`, ${namespace} in the pattern, or `allowAll: true` \
             (${saname} alone says nothing: every namespace can have a ServiceAccount of that name)",
        ),
        _ => {}
    }
    section.finish()?;
    let (pattern, written) = (pattern?, written?);
    let by_names_alone = !allow_all? && written.is_none();
    let without_cluster = (by_names_alone && !pattern.names_cluster()).then_some(pattern_place);
    let rule = written.as_ref().map(|written| written.rule.clone());
    Some(Binding {
        core: RoleBinding { pattern, rule },
        rule: written,
        without_cluster,
    })
}

/// What can only be said once it is known whose tokens the endpoint takes.
pub(super) fn check(endpoint: &Endpoint, problems: &Problems) {
    if endpoint.clusters.len() < 2 {
        return;
    }
    let names: Vec<&str> = endpoint.clusters.iter().map(ClusterName::as_str).collect();
    for place in &endpoint.without_cluster {
        problems.error(
            place.clone(),
            format!(
                "does not name the cluster, and the endpoint takes tokens of {}: namespaces of the same name would share the role. Write \
                 ${{cluster}} in the pattern, or `filter:` or `cel:` beside it, or `allowAll: true` if everybody may ask for it",
                names.join(" and ")
            ),
        );
    }
}
