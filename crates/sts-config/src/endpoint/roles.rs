//! `roles:` which subject may ask for which role.

use sts_core::ident::ClusterName;
use sts_core::policy::{RoleBinding, RolePattern, Rule};

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
    /// The patterns that do not name the subject's cluster.
    pub(super) without_cluster: Vec<WithoutCluster>,
}

/// A role pattern that does not name the subject's cluster, nor is for everybody: where tokens of several clusters are taken, its rule must.
#[derive(Clone, Debug)]
pub struct WithoutCluster {
    /// Its place.
    pub place: Place,
    /// The rule beside it.
    pub rule: Option<Rule>,
}

struct Binding {
    core: RoleBinding,
    rule: Option<WrittenRule>,
    without_cluster: Option<WithoutCluster>,
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
    let rule = written.as_ref().map(|written| written.rule.clone());
    let without_cluster = (!allow_all? && !pattern.names_cluster()).then(|| WithoutCluster {
        place: pattern_place,
        rule: rule.clone(),
    });
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
    let names = |clusters: &[&ClusterName]| {
        let names: Vec<&str> = clusters.iter().map(|cluster| cluster.as_str()).collect();
        names.join(" and ")
    };
    for WithoutCluster { place, rule } in &endpoint.without_cluster {
        let holds = |cluster: &&ClusterName| {
            let rule = rule.as_ref();
            rule.is_none_or(|rule| rule.can_hold_in(cluster))
        };
        let sharing: Vec<&ClusterName> = endpoint.clusters.iter().filter(holds).collect();
        if sharing.len() < 2 {
            continue;
        }
        let that = if rule.is_some() {
            "the rule beside it can allow subjects"
        } else {
            "the endpoint takes tokens"
        };
        problems.error(
            place.clone(),
            format!(
                "does not name the cluster, and {that} of {}: namespaces of the same name would share the role. Write ${{cluster}} in the \
                 pattern; or an entry for each cluster, with it in its rule, such as `filter: (&(cluster=…)(namespace=…))`; or \
                 `allowAll: true` if everybody may ask for it",
                names(&sharing)
            ),
        );
    }
}
