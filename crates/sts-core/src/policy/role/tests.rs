use super::*;
use crate::policy::Filter;

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

proptest::proptest! {
    /// Of two namespaces, only one can get a role by a pattern that names the namespace.
    #[test]
    fn no_role_is_two_subjects(
        left in "[ab-]{1,3}/[ab.-]{1,3}", right in "[ab-]{1,3}/[ab.-]{1,3}",
        pattern in "[ab/:*-]{0,3}\\$\\{namespace\\}[ab/:*_.-]{0,3}\\$\\{saname\\}[ab/:*-]{0,3}",
        role in "[ab/:_.-]{1,12}",
    ) {
        let parse = |text: &str| {
            let (namespace, name) = text.split_once('/')?;
            Some(Attributes::supposed(&"c1".parse().ok()?, &namespace.parse().ok()?, &name.parse().ok()?))
        };
        if let (Ok(pattern), Some(one), Some(other)) = (RolePattern::parse(&pattern), parse(&left), parse(&right)) {
            let role = Role::parse(&role).unwrap();
            let both = pattern.matches(&one, &role) && pattern.matches(&other, &role);
            proptest::prop_assert!(!both || left == right);
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
