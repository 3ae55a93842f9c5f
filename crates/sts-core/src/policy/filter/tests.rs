use proptest::prelude::*;

use super::*;

/// A subject of which all is known. `node-uid` is the attribute that may hold any text.
fn attributes(namespace: &str, node: Option<&str>) -> Attributes {
    let parse = |text: &str| crate::ident::Namespace::parse(text).unwrap();
    let account = "app".parse().unwrap();
    let attributes = Attributes::supposed(&"c1".parse().unwrap(), &parse("any"), &account)
        .with(Attribute::Namespace, namespace)
        .with(Attribute::PodName, "p1")
        .complete();
    match node {
        None => attributes,
        Some(node) => attributes
            .with(Attribute::NodeName, node)
            .with(Attribute::NodeUid, node),
    }
}

#[track_caller]
fn check(filter: &str, namespace: &str, expected: bool) {
    let parsed = Filter::parse(filter).unwrap();
    assert_eq!(
        parsed.evaluate(&attributes(namespace, None)) == Truth::True,
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
    let evaluate = |node| known.evaluate(&attributes("a", node));
    assert_eq!(evaluate(Some("y")), Truth::True);
    assert_eq!(evaluate(None), Truth::Undefined);
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
fn az_008_a_wildcard_is_found_at_any_depth() {
    let has = |text| Filter::parse(text).unwrap().has_wildcard();
    assert!(has("(namespace=team-*)"));
    assert!(has("(&(saname=app)(|(namespace=a)(!(namespace=team-*))))"));
    assert!(!has("(&(saname=app)(namespace=a))"));
}

#[test]
fn az_007_what_narrows_nothing_among_the_clusters_that_are_taken_is_refused() {
    let filter = Filter::parse("(cluster=blue)").unwrap();
    let within = |names: &[&str]| {
        let clusters: Vec<ClusterName> = names
            .iter()
            .map(|name| ClusterName::parse(name).unwrap())
            .collect();
        filter.breadth_within(&clusters)
    };
    assert!(within(&["blue"]).is_err(), "everybody");
    assert!(within(&["green"]).is_err(), "nobody");
    assert_eq!(within(&["blue", "green"]), Ok(Breadth::Selects));
}

#[test]
fn az_009_escapes_are_literal() {
    let literal = |filter, node| {
        let filter = Filter::parse(filter).unwrap();
        filter.evaluate(&attributes("a", Some(node))) == Truth::True
    };
    assert!(literal(r"(node-uid=\2a)", "*"));
    assert!(!literal(r"(node-uid=\2a)", "anything"));
    assert!(literal(r"(node-uid=\28\29\5c\00)", "()\\\0"));
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
    assert_eq!([T.negate(), F.negate(), U.negate()], [F, T, U]);
}

proptest! {
    #[test]
    fn az_013_values_are_never_read_as_syntax(value in ".{0,40}") {
        let parsed = Filter::parse(&format!("(node-uid=x{})", escape(&value))).unwrap();
        let evaluate = |node: &str| parsed.evaluate(&attributes("a", Some(node)));
        let exact = format!("x{value}");
        prop_assert_eq!(evaluate(&exact), Truth::True);
        prop_assert_eq!(evaluate(&format!("{exact}y")), Truth::False);
    }

    #[test]
    fn az_017_printing_and_parsing_are_inverse(filter in any_filter()) {
        let printed = filter.to_string();
        prop_assert_eq!(parse::parse(&printed).unwrap(), filter.0);
    }

    /// Whatever is found to match everybody or nobody does, for every subject that can be made of the values in it.
    #[test]
    fn az_007_what_is_refused_as_too_broad_is(filter in any_filter(), namespace in "[ab]{1,2}", node in proptest::option::of("[ab]{1,2}")) {
        let truth = filter.evaluate(&attributes(&namespace, node.as_deref()));
        match cases::check(&filter.0, None) {
            Err(FilterErrorKind::EverySubject) => prop_assert_eq!(truth, Truth::True),
            Err(_) => prop_assert_ne!(truth, Truth::True),
            Ok(()) => {}
        }
    }

    /// De Morgan holds in three values.
    #[test]
    fn az_018_not_and_is_or_not(left in any_filter(), right in any_filter(), namespace in "[ab]{1,2}") {
        let not = |node: &Node| Node::Not(Box::new(node.clone()));
        let subject = attributes(&namespace, None);
        let and = Node::And(vec![left.0.clone(), right.0.clone()]);
        let or = Node::Or(vec![not(&left.0), not(&right.0)]);
        prop_assert_eq!(not(&and).evaluate(&subject), or.evaluate(&subject));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        drop(Filter::parse(&text));
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        ("[ab]{1,2}").prop_map(|value| Node::Equal(Attribute::Namespace, value)),
        ("[ab()*\\\\]{1,4}").prop_map(|value| Node::Equal(Attribute::NodeUid, value)),
        Just(Node::Present(Attribute::NodeName)),
        Just(Node::Present(Attribute::Namespace)),
        ("[ab]{1,2}", "[ab]{0,2}")
            .prop_map(|(a, b)| Node::Substring(Attribute::Namespace, vec![a, b])),
        ("[a-z]{1,4}", "[a-z]{0,4}")
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
