use proptest::prelude::*;

use super::super::Filter;
use super::*;

/// How far it reaches where tokens of one cluster are taken.
#[track_caller]
fn reach(text: &str) -> Result<Breadth, FilterErrorKind> {
    let filter = Filter::parse(text).map_err(|error| error.kind)?;
    filter.breadth_within(&[here()])
}

fn here() -> ClusterName {
    "c1".parse().unwrap()
}

#[track_caller]
fn each_reaches(expected: Breadth, filters: &[&str]) {
    for filter in filters {
        assert_eq!(reach(filter), Ok(expected), "{filter}");
    }
}

#[test]
fn az_007_filters_that_are_true_of_strangers_and_of_those_they_name_are_refused() {
    let patterns: Vec<String> = ('a'..='o').map(|c| format!("(pod-name={c}*)")).collect();
    let patterns = patterns.concat();
    let many = format!("(|(namespace=a)(!(namespace=a)){patterns})");
    let letters: Vec<String> = ('a'..='z')
        .chain('0'..='9')
        .map(|c| format!("(namespace=*{c}*)"))
        .collect();
    let letters = format!("(|{})", letters.concat());
    for filter in [
        "(sub=system:serviceaccount:*)",
        "(username=*:*)",
        "(uid=*-*)",
        "(!(sub=kube-system:*))",
        "(!(namespace=-*))",
        "(!(sub=*:*:*:*:*))",
        "(|(namespace=ks)(!(groups=system:serviceaccounts:ks)))",
        "(|(namespace=a)(!(sub=system:serviceaccount:a:*)))",
        "(|(!(namespace=a))(sub=system:serviceaccount:a:*))",
        "(!(&(namespace=a)(sub=system:serviceaccount:b:app)))",
        "(groups=system:*)",
        "(groups=*:serviceaccounts:*)",
        "(|(credential-id=JTI=*)(!(credential-id=*)))",
        "(|(node-name=*)(namespace=a)(!(node-name=*)))",
        &many,
        &letters,
    ] {
        let error = Filter::parse(filter).expect_err(filter).kind;
        let refused = matches!(
            error,
            FilterErrorKind::EverySubject | FilterErrorKind::EveryStranger
        );
        assert!(refused, "{filter}: {error}");
    }
    // Tokens of one cluster are taken.
    assert!(Filter::parse("(!(cluster=c2*))").is_ok());
    for filter in ["(!(cluster=c2*))", "(cluster=c*)"] {
        assert_eq!(
            reach(filter),
            Err(FilterErrorKind::EverySubject),
            "{filter}"
        );
    }
}

#[test]
fn az_007_filters_that_say_who_is_meant_are_taken() {
    each_reaches(
        Breadth::Selects,
        &[
            "(namespace=reports)",
            "(&(namespace=apps)(saname=web))",
            "(|(namespace=a)(namespace=b)(&(namespace=c)(saname=d)))",
            "(sub=system:serviceaccount:apps:*)",
            "(sub=system:serviceaccount:team-*:app)",
            "(username=*:web)",
            "(groups=system:serviceaccounts:team-a)",
            "(groups=system:serviceaccounts:team-*)",
            "(namespace=team-*)",
            "(namespace=*-prod)",
            "(pod-name=web-*)",
            "(node-name=n1)",
            "(&(saname=*)(namespace=a))",
            "(&(!(namespace=kube-system))(saname=app))",
            "(&(namespace=team-*)(!(namespace=team-x)))",
            "(uid=8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b)",
            // One of the strangers, as it happens.
            "(namespace=b-nobody)",
            "(!(!(namespace=a)))",
        ],
    );
}

#[test]
fn az_008_filters_that_only_say_who_is_left_out_are_known_as_such() {
    let pairs: Vec<String> = (0..60)
        .map(|number| format!("(&(namespace=n{number})(saname=s{number}))"))
        .collect();
    let pairs = format!("(!(|{}))", pairs.concat());
    each_reaches(
        Breadth::Excludes,
        &[
            "(!(namespace=kube-system))",
            "(!(namespace=kube-*))",
            "(!(namespace=kube-*-system))",
            "(!(namespace=*-system))",
            "(!(saname=default))",
            "(!(sub=system:serviceaccount:kube-*:default))",
            "(!(sub=*:kube-system:*))",
            "(!(groups=system:serviceaccounts:kube-system))",
            "(!(groups=system:serviceaccounts:kube-*))",
            "(!(|(namespace=kube-system)(namespace=kube-public)))",
            "(!(&(namespace=a)(saname=b)(pod-name=p)))",
            "(&(!(namespace=a))(!(saname=default)))",
            "(|(namespace=a)(!(namespace=b)))",
            "(|(!(namespace=a))(saname=app))",
            "(|(!(namespace=a))(node-name=*))",
            "(!(uid=8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b))",
            &pairs,
            // What only a token's age leaves out.
            "(node-name=*)",
            "(!(node-name=n1))",
            "(credential-id=JTI=*)",
        ],
    );
}

#[test]
fn az_011_a_filter_as_long_as_can_be_is_tried_and_ends() {
    let names: Vec<String> = (0..134)
        .map(|number| format!("(namespace=*n{number})(saname=s{number}*)"))
        .collect();
    let names = names.concat();
    assert!((3500..4000).contains(&names.len()));
    assert_eq!(reach(&format!("(!(|{names}))")), Ok(Breadth::Excludes));
    let everybody = format!("(|(uid=*-*){names})");
    assert_eq!(reach(&everybody), Err(FilterErrorKind::EveryStranger));
}

fn somebody(namespace: &str, name: &str, node: Option<&str>) -> Attributes {
    let attributes = Attributes::supposed(
        &"c1".parse().unwrap(),
        &namespace.parse().unwrap(),
        &name.parse().unwrap(),
    )
    .with(Attribute::PodName, &format!("{name}-x2k8j"))
    .complete();
    match node {
        None => attributes,
        Some(node) => attributes.with(Attribute::NodeName, node),
    }
}

/// Names made of `a`, `b` and `-`, up to that length.
fn short_names(longest: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut texts = vec![String::new()];
    for _ in 0..longest {
        let longer = |text: &String| ["a", "b", "-"].map(|end| format!("{text}{end}"));
        texts = texts.iter().flat_map(longer).collect();
        let is_name = |text: &&String| !text.starts_with('-') && !text.ends_with('-');
        names.extend(texts.iter().filter(is_name).cloned());
    }
    names
}

/// Everybody who can be told from another by what [`of_names`] and [`of_patterns`] ask for, and people with names as there are.
fn people(longest: usize) -> Vec<Attributes> {
    let accounts = ["a", "b", "ab", "a-b", "app", "default"];
    let mut namespaces = short_names(longest);
    namespaces.extend(["default", "kube-system", "payments", "team-7", "x"].map(str::to_owned));
    let nodes = [None, Some("a"), Some("n1")];
    let mut people = Vec::new();
    for namespace in &namespaces {
        for name in accounts {
            people.extend(nodes.map(|node| somebody(namespace, name, node)));
        }
    }
    people
}

fn equal(attribute: Attribute, value: String) -> Node {
    Node::Equal(attribute, value)
}

/// Whole names, and those that are made of them.
fn of_names() -> impl Strategy<Value = Node> {
    let account = || proptest::sample::select(vec!["a", "b"]);
    prop_oneof![
        "[ab]".prop_map(|name| equal(Attribute::Namespace, name)),
        account().prop_map(|name| equal(Attribute::ServiceAccountName, name.to_owned())),
        ("[ab]", account()).prop_map(|(namespace, name)| equal(
            Attribute::Subject,
            format!("system:serviceaccount:{namespace}:{name}")
        )),
        "[ab]".prop_map(|name| equal(Attribute::Groups, format!("system:serviceaccounts:{name}"))),
        Just(Node::Present(Attribute::NodeName)),
        Just(equal(Attribute::NodeName, "a".to_owned())),
    ]
}

/// Parts of names.
fn of_patterns() -> impl Strategy<Value = Node> {
    let pattern = |attribute| {
        move |(first, last): (String, String)| Node::Substring(attribute, vec![first, last])
    };
    prop_oneof![
        ("[ab]{0,1}", "[ab-]{0,2}").prop_map(pattern(Attribute::Namespace)),
        ("[ab]{0,2}", "[ab]{0,1}").prop_map(pattern(Attribute::ServiceAccountName)),
        ("[a-b]{0,1}", ":?[ab-]{0,2}").prop_map(pattern(Attribute::Subject)),
        "[ab:-]{0,2}".prop_map(|piece| Node::Substring(
            Attribute::Subject,
            vec![String::new(), piece, String::new()]
        )),
    ]
}

fn trees(leaf: impl Strategy<Value = Node> + 'static) -> impl Strategy<Value = Node> {
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Node::And),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Node::Or),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    })
}

fn matches_all(node: &Node, people: &[Attributes]) -> bool {
    let matches = |one: &Attributes| node.evaluate(one) == Truth::True;
    people.iter().all(matches)
}

proptest! {
    /// Of whole names it can be said exactly: a filter is refused as too broad if, and only if, it matches everybody.
    #[test]
    #[test]
    fn az_007_a_filter_of_names_is_refused_as_too_broad_if_it_matches_everybody(node in trees(of_names())) {
        let refused = matches!(
            of(&node, None),
            Err(FilterErrorKind::EverySubject | FilterErrorKind::EveryStranger)
        );
        prop_assert_eq!(refused, matches_all(&node, &people(1)));
    }

    /// A filter that matches all of many people is refused, or known as one that only leaves somebody out.
    #[test]
    #[test]
    fn az_007_a_filter_that_matches_all_of_many_people_does_not_pass_for_a_narrow_one(
        node in trees(prop_oneof![of_names(), of_patterns()]),
    ) {
        if matches_all(&node, &people(3)) {
            prop_assert_ne!(of(&node, None), Ok(Breadth::Selects));
        }
    }
}
