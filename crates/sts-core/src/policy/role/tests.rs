use proptest::prelude::*;

use super::*;
use crate::policy::Filter;
use crate::template::tests::subjects_in;

fn subject(namespace: &str, name: &str) -> Attributes {
    Attributes::supposed(
        &"c1".parse().unwrap(),
        &namespace.parse().unwrap(),
        &name.parse().unwrap(),
    )
}

#[track_caller]
fn matches(pattern: &str, role: &str) -> bool {
    let pattern = RolePattern::parse(pattern).unwrap();
    pattern.matches(&subject("team-a", "app"), &Role::parse(role).unwrap())
}

#[test]
fn patterns_are_the_whole_role() {
    let role = "arn:aws:iam::123456789012:role/app";
    assert!(matches(role, role));
    for other in [
        "arn:aws:iam::123456789012:role/app2",
        "arn:aws:iam::123456789012:role/ap",
        "xarn:aws:iam::123456789012:role/app",
        "arn:aws:iam::123456789012:role/App",
    ] {
        assert!(!matches(role, other), "{other}");
    }
}

#[test]
fn wildcards_stop_at_slashes_and_colons() {
    let pattern = "arn:aws:iam::123456789012:role/team/app-*";
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/team/{name}");
    assert!(matches(pattern, &role("app-")));
    assert!(matches(pattern, &role("app-x-y")));
    for other in ["app-x/y", "app-x:y", "ap", "xapp-"] {
        assert!(!matches(pattern, &role(other)), "{other}");
    }
    assert!(matches("a*b*c", "axbyc"));
    assert!(matches("a*b*c", "abbbc"));
    assert!(!matches("a*b*c", "acb"));
    assert!(matches("*/x", "y/x") && !matches("*/x", "y/z/x"));
}

#[test]
fn variables_are_the_subjects_own() {
    let pattern = "arn:aws:iam::123456789012:role/${namespace}/${saname}";
    let role = |path: &str| format!("arn:aws:iam::123456789012:role/{path}");
    assert!(matches(pattern, &role("team-a/app")));
    for other in ["team-b/app", "team-a/app2", "team-a/*", "${namespace}/app"] {
        let Ok(other) = Role::parse(&role(other)) else {
            continue;
        };
        assert!(!matches(pattern, other.as_str()), "{other}");
    }
}

/// A long role against many wildcards costs the product of both, no more.
#[test]
fn a_hostile_role_costs_little() {
    let pattern = format!("{}b", "*a".repeat(500));
    let role = "a".repeat(2048);
    assert!(!matches(&pattern, &role));
}

#[test]
fn patterns_that_two_subjects_could_meet_are_refused() {
    let error = |pattern: &str| RolePattern::parse(pattern).expect_err(pattern);
    let namespace = Variable::Attribute(Attribute::Namespace);
    for pattern in ["role/${namespace}-${saname}", "${namespace}${saname}"] {
        assert_eq!(
            error(pattern),
            RolePatternError::Ambiguous(namespace),
            "{pattern}"
        );
    }
    for pattern in [
        "role/${namespace}*",
        "role/*${namespace}",
        "role/*-${namespace}",
        "role/${namespace}-x-*",
    ] {
        assert_eq!(
            error(pattern),
            RolePatternError::WildcardBeside(namespace),
            "{pattern}"
        );
    }
    for pattern in [
        "role/${namespace}/*",
        "*:${namespace}",
        "${namespace}_${saname}",
    ] {
        assert!(RolePattern::parse(pattern).is_ok(), "{pattern}");
    }
}

#[test]
fn patterns_that_say_nothing_are_refused() {
    let error = |pattern: &str| RolePattern::parse(pattern).expect_err(pattern);
    assert_eq!(error("*"), RolePatternError::EveryRole);
    assert_eq!(error("*:*/*"), RolePatternError::EveryRole);
    assert_eq!(error(""), RolePatternError::Text);
    assert_eq!(error("a\nb"), RolePatternError::Text);
    let unfit = Variable::Attribute(Attribute::PodName);
    assert_eq!(error("x/${pod-name}"), RolePatternError::Unfit(unfit));
    assert!(matches!(
        error("x/${nmespace}"),
        RolePatternError::Template(_)
    ));
}

#[test]
fn the_first_binding_that_fits_both_is_named() {
    let binding = |pattern: &str, filter: &str| RoleBinding {
        pattern: RolePattern::parse(pattern).unwrap(),
        rule: Some(Filter::parse(filter).unwrap().into()),
    };
    let bindings = [
        binding("x", "(namespace=team-b)"),
        binding("x", "(saname=app)"),
        binding("y", "(namespace=team-a)"),
    ];
    let decide = |role: &str| decide(&bindings, &subject("team-a", "app"), &role.parse().unwrap());
    assert!(matches!(decide("x"), Decision::Allowed(pattern) if pattern == "x"));
    assert!(matches!(decide("y"), Decision::Allowed(pattern) if pattern == "y"));
    assert!(matches!(decide("z"), Decision::Refused));
    let unknown = [binding("x", "(node-name=n1)")];
    let open = super::decide(&unknown, &subject("a", "b"), &"x".parse().unwrap());
    assert!(matches!(open, Decision::Open(_)));
}

/// A pattern with both of a subject's names, mostly one in which something tells where they end.
fn patterns_of_both() -> impl Strategy<Value = String> {
    let between = prop_oneof![
        3 => "[ab*-]{0,1}[/:_.][ab*-]{0,1}",
        1 => "[ab/:*_.-]{0,3}",
    ];
    ("[ab/:*-]{0,2}", between, "[ab/:*-]{0,2}").prop_map(|(before, between, behind)| {
        format!("{before}${{namespace}}{between}${{saname}}{behind}")
    })
}

/// A role by the pattern, each `*` of which stands for the next of these texts.
fn role_by(pattern: &str, namespace: &str, name: &str, texts: &[String]) -> Role {
    let mut texts = texts.iter();
    let filled: String = pattern
        .split_inclusive('*')
        .map(|piece| match piece.strip_suffix('*') {
            Some(piece) => format!("{piece}{}", texts.next().unwrap()),
            None => piece.to_owned(),
        })
        .collect();
    let named = filled
        .replace("${namespace}", namespace)
        .replace("${saname}", name);
    Role::parse(&named).unwrap()
}

proptest! {
    /// Whoever gets a role by a pattern with both names is the only one who does: nobody else whose names can be read out of the role.
    #[test]
    fn no_role_is_two_subjects(
        text in patterns_of_both(),
        namespace in "[ab]|[ab]-?[ab]", name in "[ab]|[ab][.-]?[ab]",
        stars in proptest::collection::vec("[ab_.-]{0,2}", 8),
    ) {
        if let Ok(pattern) = RolePattern::parse(&text) {
            let role = role_by(&text, &namespace, &name, &stars);
            prop_assert!(pattern.matches(&subject(&namespace, &name), &role), "{role} by {text}");
            for (other, account) in subjects_in(role.as_str()) {
                let same = other.as_str() == namespace && account.as_str() == name;
                let also = pattern.matches(&subject(other.as_str(), account.as_str()), &role);
                prop_assert!(same || !also, "{role} by {text}: {other}/{account} too");
            }
        }
    }
}

#[test]
fn only_the_namespace_names_the_subject() {
    let names = |pattern: &str| RolePattern::parse(pattern).unwrap().names_the_subject();
    assert!(names("role/${namespace}/*"));
    for pattern in ["role/${saname}", "role/${cluster}/${saname}", "role/x"] {
        assert!(!names(pattern), "{pattern}");
    }
}
