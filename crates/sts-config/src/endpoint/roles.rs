//! `roles:` which subject may ask for which role.

use sts_core::policy::{RoleBinding, RolePattern};

use super::rules::{self, WrittenRule};
use crate::reader::Section;

/// The bindings, and their rules with their places.
pub(super) fn read(section: &mut Section<'_>) -> Option<(Vec<RoleBinding>, Vec<WrittenRule>)> {
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
    let entries: Vec<_> = entries.into_iter().collect::<Option<_>>()?;
    let (bindings, rules): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    Some((bindings, rules.into_iter().flatten().collect()))
}

fn read_binding(mut section: Section<'_>) -> Option<(RoleBinding, Option<WrittenRule>)> {
    let place = section.place().clone();
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
            "says nothing of who may ask for the role: write `filter:` or `cel:`, ${namespace} or ${saname} in the pattern, or \
             `allowAll: true`",
        ),
        _ => {}
    }
    section.finish()?;
    let (pattern, written) = (pattern?, written?);
    allow_all?;
    let rule = written.as_ref().map(|written| written.rule.clone());
    Some((RoleBinding { pattern, rule }, written))
}
