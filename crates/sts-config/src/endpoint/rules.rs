//! `rules:`, OpenUnison's `azRules:`, and `allowAll:`.

use sts_core::policy::{Filter, Policy};

use crate::reader::Section;

/// The rules of an endpoint. None at all means nobody, unlike OpenUnison, where it means everybody; a warning says so.
pub(super) fn read(section: &mut Section<'_>) -> Option<Policy> {
    let allow_all = section.flag("allowAll")?;
    let rules = section
        .optional_list("rules", read_rule)
        .unwrap_or_default();
    let openunison = section
        .optional_list("azRules", read_rule)
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
        return Some(Policy::AllowAll);
    }
    if written.is_empty() {
        let place = section.place_of("rules");
        section.warning(place, "is empty: nobody gets a token. Write a filter, or `allowAll: true` if everybody should");
    }
    Some(Policy::AnyOf(
        written.into_iter().collect::<Option<Vec<_>>>()?,
    ))
}

fn read_rule(mut section: Section<'_>) -> Option<Filter> {
    let openunison = section.has("scope") || section.has("constraint");
    let filter = if openunison {
        let scope = section.required("scope", parse_scope);
        let filter = section.required("constraint", parse_filter);
        scope.and(filter)
    } else {
        section.required("filter", parse_filter)
    };
    section.finish()?;
    filter
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| format!("{text:?}: {error}"))
}

/// OpenUnison's scopes, in its case-insensitive spelling. All but `filter` look things up in a directory.
fn parse_scope(text: &str) -> Result<(), String> {
    match text.to_ascii_lowercase().as_str() {
        "filter" => Ok(()),
        "custom" | "dn" | "dynamicgroup" | "group" => Err(format!(
            "{text:?} needs OpenUnison's directory: write `scope: filter` with a constraint on namespace or saname"
        )),
        _ => Err(format!("{text:?} is no scope: write filter")),
    }
}
