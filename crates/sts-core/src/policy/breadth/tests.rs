use super::*;
use crate::policy::{CelError, CelRule};

/// How far it reaches where tokens of one cluster are taken.
#[track_caller]
fn reach(source: &str) -> Result<Breadth, CelError> {
    CelRule::parse(source).and_then(|rule| rule.breadth_within(&[here()]))
}

fn here() -> ClusterName {
    ClusterName::parse("c1").unwrap()
}

#[track_caller]
fn each_reaches(expected: Breadth, rules: &[&str]) {
    for rule in rules {
        assert_eq!(reach(rule), Ok(expected), "{rule}");
    }
}

#[test]
fn az_007_expressions_that_are_true_of_strangers_are_refused() {
    for rule in [
        "subject.namespace != ''",
        "size(subject.saname) > 0",
        "size(subject.namespace) <= 63",
        "subject.namespace == subject.namespace",
        "subject.sub.startsWith('system:serviceaccount:')",
        "subject.sub.contains(':')",
        "subject.saname.matches('.*')",
        "subject.namespace.matches('^[a-z0-9-]+$')",
        "'system:authenticated' in subject.groups",
        "subject.groups.exists(group, group.startsWith('system:'))",
        "subject.groups.exists(group, group != 'system:serviceaccounts:a')",
        "size(subject.groups) > 1",
        "subject.objectClass == 'inetOrgPerson'",
        "subject.namespace == 'a' || subject.namespace != 'a'",
        "!('a' in pod_labels) || 'a' in pod_labels",
        "subject.namespace < 'zzzz' || subject.namespace >= 'zzzz'",
        "subject.uid.matches('^[0-9a-f-]{36}$')",
        "has(subject.pod_name)",
        "has(subject.node_name) || !has(subject.node_name)",
    ] {
        assert_eq!(
            CelRule::parse(rule).err(),
            Some(CelError::EveryStranger),
            "{rule}"
        );
    }
}

/// Nobody has such a name: to leave it out is to leave nobody out.
#[test]
fn az_007_expressions_that_leave_nobody_out_are_refused() {
    for rule in [
        "subject.namespace != 'Team-A'",
        "subject.saname != 'a_b'",
        "subject.sub != 'app'",
        "!('team-a' in subject.groups)",
        "!(subject.namespace == 'a' && subject.namespace == 'b')",
        "subject.uid != 'app'",
    ] {
        assert_eq!(reach(rule), Err(CelError::EveryStranger), "{rule}");
    }
    // Tokens of one cluster are taken: to leave another out, or to ask for that one, says nothing.
    for rule in ["subject.cluster != 'c2'", "subject.cluster == 'c1'"] {
        assert_eq!(reach(rule), Err(CelError::EveryStranger), "{rule}");
        assert!(CelRule::parse(rule).is_ok(), "there may be other clusters");
    }
}

#[test]
fn az_007_naming_a_cluster_selects_where_there_are_several() {
    let rule = CelRule::parse("subject.cluster == 'c1'").unwrap();
    let both = CelRule::parse("subject.cluster in ['c1', 'c2']").unwrap();
    let other = CelRule::parse("subject.cluster != 'c3'").unwrap();
    let clusters = ["c1".parse().unwrap(), "c2".parse().unwrap()];
    assert_eq!(rule.breadth_within(&clusters), Ok(Breadth::Selects));
    assert_eq!(both.breadth_within(&clusters), Err(CelError::EveryStranger));
    assert_eq!(
        other.breadth_within(&clusters),
        Err(CelError::EveryStranger)
    );
}

/// What names somebody, however it does, is not taken for one that names nobody.
#[test]
fn az_007_expressions_that_say_who_is_meant_are_taken() {
    each_reaches(
        Breadth::Selects,
        &[
            "subject.namespace == 'a'",
            "subject.namespace == 'q' && subject.saname == 'zw-unheard-of'",
            "subject.namespace != 'a' && subject.saname == 'app'",
            "subject.namespace == subject.saname",
            "subject.namespace.startsWith('team-')",
            "subject.namespace.matches('^(team|squad)-[a-z]+$')",
            "subject.namespace < 'm'",
            "'system:serviceaccounts:team-a' in subject.groups",
            "subject.groups.exists(group, group == 'system:serviceaccounts:a')",
            "subject.node_name == 'n1'",
            "subject.namespace == 'a' && has(subject.node_name)",
            "subject.namespace == 'a' && !has(subject.node_name)",
            "subject.namespace == 'a' && pod_labels.tier != 'web'",
            "subject.namespace == 'a' && !('canary' in pod_labels)",
            "namespace_labels['team'] == 'a'",
            "namespace_labels.team in ['a', 'b'] && pod_labels.tier == 'web'",
            "subject.pod_name.startsWith('web-')",
        ],
    );
}

#[test]
fn az_008_expressions_that_only_say_who_is_left_out_are_known_as_such() {
    each_reaches(
        Breadth::Excludes,
        &[
            "subject.namespace != 'kube-system'",
            // One of the strangers, as it happens.
            "subject.namespace != 'q'",
            "!subject.namespace.matches('^mid-[0-9]$')",
            "!subject.namespace.startsWith('kube-')",
            "!subject.namespace.endsWith('-system')",
            "!subject.namespace.contains('-ops-')",
            "!subject.namespace.matches('^(kube|openshift)-')",
            "!subject.namespace.matches('^team-[0-9]{3}$')",
            "!(subject.namespace in ['kube-system', 'kube-public'])",
            "!(subject.namespace == 'a' && subject.saname == 'b')",
            "!(subject.namespace == 'a' && subject.saname == 'b' && subject.pod_name == 'p')",
            "!(subject.namespace == 'a' && subject.node_name == 'n1' && subject.pod_name == 'p')",
            "!(subject.namespace == 'a' && 'canary' in pod_labels && pod_labels.canary == 'yes')",
            "subject.namespace != 'a' || subject.saname.startsWith('app-')",
            "subject.namespace != 'a' || size(subject.saname) < 9",
            // True of almost everybody.
            "size(subject.namespace) > 1",
            "subject.namespace < 'zz'",
            "subject.namespace.matches('^[a-z]')",
            "subject.saname != 'a'",
            "subject.sub != 'system:serviceaccount:a:b'",
            "!('system:serviceaccounts:a' in subject.groups)",
            "!subject.groups.exists(group, group.endsWith(':team-a'))",
            "!('canary' in pod_labels)",
            "!('a' in namespace_labels && namespace_labels.a == 'b')",
            "subject.pod_name != 'p1'",
            "subject.uid != '8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b'",
        ],
    );
}

/// What every token of a newer cluster says, or none, tells no two of its subjects apart.
#[test]
fn az_008_what_only_a_tokens_age_leaves_out_is_known_as_such() {
    each_reaches(
        Breadth::Excludes,
        &[
            "has(subject.node_name)",
            "!has(subject.node_name)",
            "subject.node_name != ''",
            "subject.node_name != 'n1'",
            "has(subject.credential_id) && subject.objectClass == 'inetOrgPerson'",
        ],
    );
}

/// Whoever creates a pod chooses its labels.
#[test]
fn az_008_expressions_about_a_pods_labels_alone_are_known_as_such() {
    each_reaches(
        Breadth::PodLabels,
        &[
            "pod_labels.tier == 'web'",
            "pod_labels['a'] == '1' && pod_labels['b'] == '2'",
            "'canary' in pod_labels",
            "pod_labels.tier != 'web'",
            "pod_labels.tier.startsWith('we')",
            "pod_labels.tier == 'web' || subject.namespace == 'a'",
            "pod_labels.tier == 'web' && subject.namespace != 'kube-system'",
        ],
    );
}

/// All the strangers are there, and none is a name that cannot be.
#[test]
fn every_stranger_is_somebody() {
    assert_eq!(strangers(&LabelKeys::default(), &[]).len(), 20);
}

/// However many names an expression has, it is tried in bounded time, and refused rather than taken for a narrow one.
#[test]
fn az_011_what_is_tried_is_bounded() {
    let names: Vec<String> = (0..120).map(|number| format!("'n{number}'")).collect();
    let list = names.join(", ");
    let wide = format!("!(subject.namespace in [{list}] && subject.saname in [{list}])");
    assert_eq!(reach(&wide), Ok(Breadth::Excludes));
    let everybody = format!("subject.namespace in [{list}] || subject.saname != 'A'");
    assert_eq!(reach(&everybody), Err(CelError::EveryStranger));
}
