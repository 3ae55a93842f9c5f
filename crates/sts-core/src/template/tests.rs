use std::collections::BTreeSet;

use super::*;
use crate::ident::{Namespace, ServiceAccountName};

/// Everybody whose names stand somewhere in a text: whoever it was made for, and whoever else it could be taken to be made for. Names in
/// it are taken to have at most five characters, so that these are not too many.
pub(crate) fn subjects_in(text: &str) -> Vec<(Namespace, ServiceAccountName)> {
    let starts = (0..text.len()).filter_map(|start| text.get(start..));
    let parts: BTreeSet<&str> = starts
        .flat_map(|rest| (1..=5).filter_map(move |length| rest.get(..length)))
        .collect();
    let names: Vec<ServiceAccountName> =
        parts.iter().filter_map(|part| part.parse().ok()).collect();
    let namespaces = parts
        .iter()
        .filter_map(|part| part.parse::<Namespace>().ok());
    namespaces
        .flat_map(|namespace| {
            names
                .iter()
                .map(move |name| (namespace.clone(), name.clone()))
        })
        .collect()
}

fn subject() -> Attributes {
    Attributes::supposed(
        &"c1".parse().unwrap(),
        &"team-a".parse().unwrap(),
        &"app".parse().unwrap(),
    )
}

#[track_caller]
fn render(template: &str) -> Option<String> {
    let role = Role::parse("r1").unwrap();
    let template = Template::parse(template).unwrap();
    template.render(&subject(), Some(&role))
}

#[test]
fn variables_are_replaced_and_everything_else_stays() {
    assert_eq!(render("${namespace}/${saname}").unwrap(), "team-a/app");
    assert_eq!(
        render("a $ b $x {namespace}").unwrap(),
        "a $ b $x {namespace}"
    );
    assert_eq!(
        render("${role} of ${username}").unwrap(),
        "r1 of system:serviceaccount:team-a:app"
    );
    assert_eq!(render("").unwrap(), "");
    assert_eq!(render("${objectClass}").unwrap(), "inetOrgPerson");
}

#[test]
fn what_is_absent_makes_no_text() {
    assert_eq!(render("node ${node-name}"), None);
    let template = Template::parse("${role}").unwrap();
    assert_eq!(template.render(&subject(), None), None);
}

#[test]
fn values_are_never_read_as_variables() {
    let hostile = subject().with(Attribute::NodeUid, "${namespace}");
    let template = Template::parse("${node-uid}").unwrap();
    assert_eq!(template.render(&hostile, None).unwrap(), "${namespace}");
}

#[test]
fn mistakes_name_their_place() {
    let error = |text: &str| Template::parse(text).expect_err(text);
    assert_eq!(error("ab${nmespace}").at, 2);
    assert!(matches!(
        error("${groups}").kind,
        TemplateErrorKind::SeveralValues(Attribute::Groups)
    ));
    let unclosed = error("${namespace}/${saname");
    assert_eq!(
        (unclosed.at, unclosed.kind),
        (13, TemplateErrorKind::Unclosed)
    );
}

#[test]
fn ends_must_be_marked() {
    let ambiguous = |text: &str| Template::parse(text).unwrap().ambiguous().is_some();
    for text in [
        "${namespace}-${saname}",
        "${namespace}${saname}",
        "${saname}.${namespace}.${cluster}",
    ] {
        assert!(ambiguous(text), "{text}");
    }
    for text in [
        "${namespace}:${saname}",
        "${namespace}.${saname}",
        "${saname}_${namespace}",
        "x${uid}y",
    ] {
        assert!(!ambiguous(text), "{text}");
    }
}
