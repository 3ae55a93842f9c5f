use proptest::prelude::*;

use super::*;

fn attributes(namespace: &str, node: Option<&str>) -> Attributes {
    Attributes {
        cluster: "c1".to_owned(),
        namespace: namespace.to_owned(),
        node_name: node.map(str::to_owned),
        node_uid: None,
        pod_name: "p1".to_owned(),
        pod_uid: "u1".to_owned(),
        service_account: "app".to_owned(),
        subject: format!("system:serviceaccount:{namespace}:app"),
        uid: "u2".to_owned(),
    }
}

#[track_caller]
fn check(filter: &str, namespace: &str, expected: bool) {
    let parsed = Filter::parse(filter).unwrap();
    assert_eq!(
        parsed.allows(&attributes(namespace, None)),
        expected,
        "{filter} for {namespace}"
    );
}

#[track_caller]
fn refuses(filter: &str) -> FilterErrorKind {
    Filter::parse(filter).expect_err(filter).kind
}

#[test]
fn az_001_002_equality_is_exact() {
    check("(namespace=team-a)", "team-a", true);
    for other in ["team-ab", "Team-A", "team-a ", "xteam-a"] {
        check("(namespace=team-a)", other, false);
    }
}

#[test]
fn az_003_004_005_what_is_not_known_allows_nobody() {
    check("(!(node-name=prod))", "a", false);
    check("(|(!(node-name=x))(namespace=a))", "a", true);
    check("(|(!(node-name=x))(namespace=a))", "b", false);
    check("(&(namespace=a)(!(node-name=x)))", "a", false);
    let known = Filter::parse("(!(node-name=x))").unwrap();
    assert!(known.allows(&attributes("a", Some("y"))));
}

#[test]
fn az_006_unknown_attributes_are_refused_with_their_place() {
    let error = Filter::parse("(&(namespace=a)(namspace=a))").unwrap_err();
    assert_eq!(error.at, 16);
    assert!(
        error
            .to_string()
            .starts_with("at character 17: no subject has an attribute \"namspace\"")
    );
}

#[test]
fn az_007_filters_that_match_everybody_are_refused() {
    for filter in [
        "(saname=*)",
        "(|(saname=*)(namespace=a))",
        "(&(saname=*)(cluster=*))",
        "(saname=***)",
    ] {
        assert_eq!(refuses(filter), FilterErrorKind::EverySubject, "{filter}");
    }
    assert!(Filter::parse("(node-name=*)").is_ok());
    assert!(Filter::parse("(&(saname=*)(namespace=a))").is_ok());
}

#[test]
fn az_008_substrings_are_anchored_and_do_not_overlap() {
    check("(namespace=team-*)", "team-", true);
    check("(namespace=team-*)", "team-a", true);
    check("(namespace=team-*)", "xteam-a", false);
    check("(namespace=a*a)", "a", false);
    check("(namespace=a*b*c)", "axbyc", true);
    check("(namespace=a*b*c)", "acb", false);
}

#[test]
fn az_009_escapes_are_literal() {
    check(r"(namespace=\2a)", "*", true);
    check(r"(namespace=\2a)", "anything", false);
    check(r"(namespace=\28\29\5c)", r"()\", true);
    assert_eq!(refuses(r"(namespace=\zz)"), FilterErrorKind::BadEscape);
    assert_eq!(refuses(r"(namespace=\2)"), FilterErrorKind::BadEscape);
    assert_eq!(refuses(r"(namespace=\ff)"), FilterErrorKind::BadEscape);
}

#[test]
fn az_010_malformed_filters_are_refused() {
    for filter in [
        "",
        "(namespace=b",
        "namespace=b",
        "(&)",
        "(|)",
        "(!)",
        "(=x)",
        "(namespace=)",
        "()",
        "(namespace=a))",
        "(namespace=a) ",
        "(namespace=a)(namespace=b)",
        "(namespace)",
        "(!(namespace=a)(namespace=b))",
    ] {
        assert!(Filter::parse(filter).is_err(), "{filter}");
    }
}

#[test]
fn az_011_depth_and_length_are_bounded() {
    let deep = format!("{}(namespace=a){}", "(!".repeat(10_000), ")".repeat(10_000));
    assert_eq!(refuses(&deep), FilterErrorKind::TooLarge);
    let nested = format!("{}(namespace=a){}", "(!".repeat(17), ")".repeat(17));
    assert_eq!(refuses(&nested), FilterErrorKind::TooLarge);
    assert_eq!(
        refuses(&format!("(namespace={})", "a".repeat(1 << 20))),
        FilterErrorKind::TooLarge
    );
}

#[test]
fn az_012_other_matches_are_refused() {
    for filter in [
        "(namespace~=a)",
        "(namespace>=a)",
        "(namespace<=a)",
        "(namespace:=a)",
    ] {
        assert_eq!(
            refuses(filter),
            FilterErrorKind::UnsupportedMatch,
            "{filter}"
        );
    }
}

#[test]
fn az_018_truth_tables_are_those_of_rfc_4511() {
    use Truth::{False as F, True as T, Undefined as U};
    let and = [[T, F, U], [F, F, F], [U, F, U]];
    let or = [[T, T, T], [T, F, U], [T, U, U]];
    let values = [T, F, U];
    for (i, left) in values.into_iter().enumerate() {
        for (j, right) in values.into_iter().enumerate() {
            assert_eq!(left.and(right), and[i][j], "{left:?} and {right:?}");
            assert_eq!(left.or(right), or[i][j], "{left:?} or {right:?}");
        }
    }
    assert_eq!([T.not(), F.not(), U.not()], [F, T, U]);
}

proptest! {
    #[test]
    fn az_013_values_are_never_read_as_syntax(value in ".{0,40}") {
        let parsed = Filter::parse(&format!("(namespace=x{})", escape(&value))).unwrap();
        let exact = format!("x{value}");
        prop_assert!(parsed.allows(&attributes(&exact, None)));
        let other = format!("{exact}y");
        prop_assert!(!parsed.allows(&attributes(&other, None)));
    }

    #[test]
    fn az_017_printing_and_parsing_are_inverse(filter in any_filter()) {
        let printed = filter.to_string();
        prop_assert_eq!(Filter::parse(&printed).unwrap(), filter);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        drop(Filter::parse(&text));
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        ("[a-z()*\\\\]{1,8}").prop_map(|value| Node::Equal(Attribute::Namespace, value)),
        Just(Node::Present(Attribute::NodeName)),
        ("[a-z*]{1,4}", "[a-z]{0,4}")
            .prop_map(|(a, b)| Node::Substring(Attribute::Subject, vec![a, b])),
    ];
    let tree = leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Node::And),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Node::Or),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    });
    tree.prop_map(Filter)
}
