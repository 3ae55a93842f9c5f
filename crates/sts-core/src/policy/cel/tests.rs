use std::collections::BTreeSet;

use super::*;

fn subject() -> Attributes {
    Attributes::supposed(
        &"c1".parse().unwrap(),
        &"team-a".parse().unwrap(),
        &"app".parse().unwrap(),
    )
}

/// With what is known of the pod's labels.
fn with_labels(labels: &[(&str, Option<&str>)]) -> Attributes {
    let pod = labels
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), value.map(str::to_owned)));
    subject().complete().with_labels(KnownLabels {
        pod: pod.collect(),
        namespace: Labels::new(),
    })
}

#[track_caller]
fn truth(source: &str, attributes: &Attributes) -> Truth {
    CelRule::parse(source).unwrap().evaluate(attributes)
}

#[track_caller]
fn refuses(source: &str) -> CelError {
    CelRule::parse(source).expect_err(source)
}

#[test]
fn the_attributes_of_filters_are_variables() {
    let subject = subject()
        .with(Attribute::PodName, "p1")
        .with(Attribute::NodeName, "n1");
    for rule in [
        "subject.namespace == 'team-a' && subject.saname == 'app'",
        "subject.namespace.startsWith('team-') && subject.cluster in ['c1', 'c2']",
        "subject.sub == 'system:serviceaccount:team-a:app'",
        "subject.saname.matches('^a[p]+$')",
        "subject.pod_name == 'p1' && subject.node_name == 'n1'",
        "'system:serviceaccounts:team-a' in subject.groups",
        "subject.groups.exists(group, group.endsWith(':team-a'))",
    ] {
        assert_eq!(truth(rule, &subject), Truth::True, "{rule}");
        let negated = format!("!({rule})");
        assert_eq!(truth(&negated, &subject), Truth::False, "{negated}");
    }
}

#[test]
fn az_003_what_a_subject_does_not_have_allows_nothing() {
    let subject = subject();
    for rule in [
        "subject.node_name == 'n1'",
        "!(subject.node_name == 'n1')",
        "subject.node_name != 'n1'",
        "subject.namespace == 'team-a' && subject.node_name != 'n1'",
        "pod_labels['tier'] == 'web'",
        "!(pod_labels['tier'] == 'web')",
        "!has(pod_labels.tier)",
    ] {
        assert_eq!(truth(rule, &subject), Truth::Undefined, "{rule}");
    }
    let either = "subject.node_name != 'n1' || subject.namespace == 'team-a'";
    assert_eq!(truth(either, &subject), Truth::True);
    let both = "subject.node_name != 'n1' && subject.namespace == 'team-b'";
    assert_eq!(truth(both, &subject), Truth::False);
}

/// A preview must not take for absent what it does not know.
#[test]
fn has_asks_for_what_is_known_only() {
    let known = subject().complete();
    let rule = "!has(subject.node_name)";
    assert_eq!(truth(rule, &known), Truth::True);
    assert_eq!(truth(rule, &subject()), Truth::Undefined);
}

#[test]
fn labels_can_be_asked_for_where_they_are_known() {
    let name = "app.kubernetes.io/name";
    let rule = CelRule::parse("pod_labels['app.kubernetes.io/name'] == 'web'").unwrap();
    let is = |labels: &[_]| rule.evaluate(&with_labels(labels));
    assert_eq!(is(&[(name, Some("web"))]), Truth::True);
    assert_eq!(is(&[(name, Some("db"))]), Truth::False);
    assert_eq!(is(&[(name, None)]), Truth::Undefined);
    assert!(!rule.is_open(&with_labels(&[(name, None)])));
    let namespaces = vec!["subject.namespace == 'a-b-c.d'"; 60].join(" || ");
    assert!(
        CelRule::parse(&namespaces).is_ok(),
        "many alternatives are not deep"
    );
    for absent in [
        "subject.namespace == 'team-a' && !has(pod_labels.canary)",
        "subject.namespace == 'team-a' && !('canary' in pod_labels)",
    ] {
        let with = |value| truth(absent, &with_labels(&[("canary", value)]));
        assert_eq!(with(None), Truth::True, "{absent}");
        assert_eq!(with(Some("1")), Truth::False, "{absent}");
    }
}

/// That nobody has looked for a label must not count as that it is not there.
#[test]
fn az_003_a_label_that_nobody_has_looked_for_allows_nothing() {
    let other = with_labels(&[("tier", Some("web"))]);
    for source in [
        "!('canary' in pod_labels)",
        "!has(pod_labels.canary) && pod_labels.tier == 'web'",
        "!('canary' in namespace_labels)",
    ] {
        let rule = CelRule::parse(source).unwrap();
        assert_eq!(rule.evaluate(&other), Truth::Undefined, "{source}");
        assert!(rule.is_open(&other), "{source}");
    }
    let elsewhere = "subject.namespace == 'team-b' && 'canary' in pod_labels";
    assert_eq!(truth(elsewhere, &other), Truth::False, "whatever it is");
}

#[test]
fn rules_say_which_labels_they_ask_for() {
    let rule = CelRule::parse(
        "pod_labels['a/b'] == 'x' || has(pod_labels.c) || 'd' in pod_labels || namespace_labels.e in ['f']",
    );
    let labels = rule.unwrap().labels().clone();
    let keys = |keys: BTreeSet<LabelKey>| {
        let texts = keys.iter().map(LabelKey::as_str).collect::<Vec<_>>();
        texts.join(" ")
    };
    assert_eq!(keys(labels.pod), "a/b c d");
    assert_eq!(keys(labels.namespace), "e");
    for rule in [
        "pod_labels == {'a': 'b'}",
        "size(pod_labels) == 1",
        "pod_labels[subject.namespace] == 'a'",
        "subject.namespace in pod_labels",
        "pod_labels.all(key, key == 'a')",
        "'a' in [pod_labels]",
    ] {
        let name = "pod_labels";
        assert_eq!(refuses(rule), CelError::LabelsAsAWhole { name }, "{rule}");
    }
    let error = refuses("!('no key' in namespace_labels)");
    assert!(matches!(error, CelError::LabelKey { .. }), "{error:?}");
}

#[test]
fn az_006_names_that_are_not_there_are_refused_at_load() {
    let name = "nmespace".to_owned();
    let error = refuses("subject.nmespace == 'a' || !has(subject.nmespace)");
    assert_eq!(error, CelError::UnknownAttribute { name });
    for (rule, name) in [
        ("names == 'a'", "names"),
        ("subject['namespace'] == 'a'", "subject"),
        ("subject.namespace == 'a' || namesapce == 'b'", "namesapce"),
        ("subject.groups.exists(g, h == 'x')", "h"),
        ("request.host == 'a'", "request"),
    ] {
        let name = name.to_owned();
        assert_eq!(refuses(rule), CelError::UnknownVariable { name }, "{rule}");
    }
    for (rule, name) in [
        ("subject.namespace.lower() == 'a'", "lower"),
        ("timestamp(subject.namespace) == 1", "timestamp"),
        ("subject.namespace == 'a' && Thing{a: 1} == 2", "Thing"),
    ] {
        let name = name.to_owned();
        assert_eq!(refuses(rule), CelError::UnknownFunction { name }, "{rule}");
    }
}

/// Else labels that nobody has looked for would count as none, and a subject as somebody else.
#[test]
fn az_006_our_names_cannot_be_given_to_something_else() {
    for (rule, name) in [
        (
            "subject.namespace == 'a' && (size(pod_labels) == 0 || ['x'].exists(pod_labels, false))",
            "pod_labels",
        ),
        (
            "subject.groups.exists(namespace_labels, namespace_labels == 'a')",
            "namespace_labels",
        ),
        ("['x'].all(subject, subject == 'x')", "subject"),
    ] {
        assert_eq!(refuses(rule), CelError::Hidden { name }, "{rule}");
    }
}

#[test]
fn az_007_expressions_that_do_not_look_at_the_subject_are_refused() {
    for rule in [
        "true",
        "1 == 1",
        "true || subject.namespace == 'a'",
        "'a' in ['a']",
    ] {
        assert_eq!(refuses(rule), CelError::EverySubject, "{rule}");
    }
    for rule in ["false", "subject.namespace == 'a' && false"] {
        assert_eq!(refuses(rule), CelError::NoSubject, "{rule}");
    }
}

#[test]
fn az_010_what_is_no_expression_names_its_place() {
    let CelError::Syntax { line, column, .. } = refuses("subject.namespace == 'a' &&\n  )") else {
        panic!("another error")
    };
    assert_eq!((line, column), (2, 3));
    for rule in [
        "",
        "subject.namespace =",
        "(",
        "subject.namespace == 'a",
        "a b",
    ] {
        let error = refuses(rule);
        assert!(
            matches!(error, CelError::Syntax { .. }),
            "{rule}: {error:?}"
        );
    }
}

#[test]
fn what_is_neither_true_nor_false_is_refused() {
    for rule in [
        "subject.namespace",
        "subject.namespace + 'a'",
        "size(subject.namespace)",
        "subject.namespace == 'a' ? 1 : 2",
        "subject.namespace < 3",
    ] {
        let error = refuses(rule);
        assert!(
            matches!(error, CelError::NoTruth { .. }),
            "{rule}: {error:?}"
        );
    }
}

/// Each of them is short enough, and evaluating the second would take years.
#[test]
fn az_011_what_loops_cost_is_bounded() {
    let list = format!("[{}]", vec!["0"; 380].join(","));
    let once = format!("subject.namespace == 'a' && {list}.all(x, x == 0)");
    assert!(CelRule::parse(&once).is_ok());
    let nested = (0..5).fold("subject.namespace == 'a'".to_owned(), |inner, depth| {
        format!("{list}.all(x{depth}, {inner})")
    });
    assert!(nested.len() < 4096, "{}", nested.len());
    assert_eq!(refuses(&nested), CelError::Nested);
    let twice = "['a'].exists(x, ['b'].exists(y, subject.namespace == x + y))";
    assert_eq!(refuses(twice), CelError::Nested);
}

#[test]
fn az_011_depth_and_length_are_bounded() {
    let long = format!("subject.namespace == '{}'", "a".repeat(5000));
    assert_eq!(refuses(&long), CelError::TooLarge);
    for (open, close) in [("(", ")"), ("[", "]")] {
        let deep = format!(
            "{}subject.namespace == 'a'{}",
            open.repeat(1500),
            close.repeat(1500)
        );
        assert!(CelRule::parse(&deep).is_err(), "{open}");
    }
    // A test's thread has a stack of 2 MiB, like the runtime's: what is let through must not need more.
    for chain in [" && ", " || ", " + ", " == ", " < ", ".a", "[0]", " ? a : "] {
        for length in [5, 10, 16, 30, 200] {
            let chain = vec!["subject.saname"; length].join(chain);
            let brackets = format!("(((((({chain}))))))");
            for source in [chain, brackets] {
                drop(CelRule::parse(&source));
            }
        }
    }
    let nested = "((((((subject.saname == 'a'))))))";
    assert!(CelRule::parse(nested).is_ok());
}

#[test]
fn az_013_values_are_never_read_as_an_expression() {
    let hostile = subject().with(Attribute::NodeUid, "' || true || '");
    let rule = "subject.node_uid == 'x'";
    assert_eq!(truth(rule, &hostile), Truth::False);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(source in ".{0,120}") {
        drop(CelRule::parse(&source));
    }

    #[test]
    fn no_expression_makes_the_parser_panic(source in "[a-z'() \\[\\]{}!&|=?:.,\"0-9-]{0,120}") {
        drop(CelRule::parse(&source));
    }
}
