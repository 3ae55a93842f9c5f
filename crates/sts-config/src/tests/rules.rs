//! `rules:`, `azRules:` and `allowAll:`.

use sts_core::policy::Attributes;

use super::*;

fn allowed(text: &str, namespace: &str, account: &str) -> bool {
    let config = Config::parse(text).unwrap();
    let subject = Attributes::supposed(
        &"kubernetes".parse().unwrap(),
        &namespace.parse().unwrap(),
        &account.parse().unwrap(),
    );
    config.endpoints[0].policy.decide(&subject, None).is_ok()
}

fn rule(scope: &str, constraint: &str) -> String {
    with_rules(&format!(
        "  azRules:\n  - scope: {scope}\n    constraint: \"{constraint}\"\n"
    ))
}

#[test]
fn az_014_rules_that_allow_everybody_must_say_so() {
    refuses(
        ("(namespace=myns)", "(namespace=*)"),
        "write `allowAll: true`",
    );
    let none = with_rules("");
    has(&warnings(&none), "nobody gets a token");
    assert!(!allowed(&none, "myns", "app"));
    refuses(
        ("  azRules:", "  allowAll: true\n  azRules:"),
        "leave one of them out",
    );
    assert!(allowed(&with_rules("  allowAll: true\n"), "any", "app"));
}

#[test]
fn openunisons_scopes_mean_what_they_mean_there_or_are_refused_with_a_remedy() {
    let app = "username=system:serviceaccount:myns:app,ou=oauth2,o=Tremolo";
    let text = rule("dn", app);
    assert!(allowed(&text, "myns", "app"));
    for (namespace, account) in [("myns", "app2"), ("myns2", "app")] {
        assert!(!allowed(&text, namespace, account));
    }
    assert!(allowed(&rule("FILTER", "(saname=app)"), "any", "app"));
    for (scope, constraint, remedy) in [
        ("dn", "o=Tremolo", "write `allowAll: true`"),
        ("dn", "ou=oauth2,o=Tremolo", "write `allowAll: true`"),
        ("dn", "o=tremolo", "is the end of no ServiceAccount's DN"),
        (
            "dn",
            ":app,ou=oauth2,o=Tremolo",
            "does not name one ServiceAccount",
        ),
        (
            "dn",
            "username=app,ou=oauth2,o=Tremolo",
            "does not name one",
        ),
        (
            "group",
            "cn=x,ou=groups,o=Tremolo",
            "(groups=system:serviceaccounts:<namespace>)",
        ),
        (
            "dynamicGroup",
            "cn=x,ou=groups,o=Tremolo",
            "the filter of that memberURL",
        ),
        ("custom", "com.example.Az!x", "under `rules:` as `cel:`"),
        ("everyone", "x", "is no scope: write filter or dn"),
    ] {
        let problems = problems(&rule(scope, constraint));
        has(&problems, remedy);
        let at = if scope == "dn" {
            "constraint (line 12)"
        } else {
            "scope (line 11)"
        };
        has(&problems, &format!("endpoints[0].azRules[0].{at}"));
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn cel_rules_stand_beside_filters() {
    let text = with_rules(
        "  rules:\n  - filter: \"(namespace=a)\"\n  - cel: \"subject.namespace.startsWith('b-') && subject.saname == 'app'\"\n",
    );
    for (namespace, expected) in [("a", true), ("b-1", true), ("b", false)] {
        assert_eq!(allowed(&text, namespace, "app"), expected, "{namespace}");
    }
    for (rule, problem) in [
        ("cel: \"true\"", "this is true of every subject"),
        (
            "cel: \"subject.nmespace == 'a'\"",
            "no subject has an attribute \"nmespace\"",
        ),
        (
            "cel: \"namespace == 'a'\"",
            "line 1, column 1: reserved identifier: namespace",
        ),
        ("cel: \"subject.namespace ==\"", "line 1, column"),
        (
            "cel: \"pod_labels.exists(key, key == 'tier')\"",
            "keys that are written out: pod_labels['tier']",
        ),
        (
            "cel: \"subject.namespace != ''\"",
            "this is true of whomever it is tried with",
        ),
        ("{}", "is no rule: write `filter:`"),
        (
            "{filter: \"(namespace=a)\", cel: \"subject.namespace == 'a'\"}",
            "are two rules",
        ),
    ] {
        let problems = problems(&with_rules(&format!("  rules:\n  - {rule}\n")));
        has(&problems, problem);
        has(&problems, "endpoints[0].rules[0]");
    }
}

#[test]
fn labels_can_be_asked_for_where_the_api_server_can() {
    let with = |verification: &str| {
        with_rules(&format!(
            "  verification: {verification}\n  rules:\n  - cel: \"pod_labels['tier'] == 'web' && 'team' in namespace_labels\"\n"
        ))
    };
    for verification in ["tokenReview", "watch"] {
        let config = Config::parse(&with(verification)).unwrap();
        let labels = config.endpoints[0].policy.labels();
        assert_eq!((labels.pod.len(), labels.namespace.len()), (1, 1));
    }
    let problems = problems(&with("jwks"));
    has(
        &problems,
        "asks for labels, which `verification: jwks` does not know: write `verification: tokenReview` or `watch`",
    );
    has(&problems, "endpoints[0].rules[0].cel (line 12)");
}

/// With one cluster, naming it is naming everybody.
#[test]
fn az_007_rules_that_match_everybody_of_the_clusters_there_are_are_refused() {
    for constraint in [
        "(cluster=kubernetes)",
        "(|(cluster=kubernetes)(namespace=a))",
        "(!(cluster=other))",
        "(groups=system:authenticated)",
        "(objectClass=inetOrgPerson)",
        "(|(namespace=a)(!(namespace=a)))",
    ] {
        has(
            &problems(&rule("filter", constraint)),
            "matches every subject",
        );
    }
    for expression in [
        "subject.cluster == 'kubernetes'",
        "subject.cluster != 'other'",
    ] {
        has(
            &problems(&expression_of(expression)),
            "(the endpoint takes tokens of kubernetes)",
        );
    }
    for constraint in ["(cluster=other)", "(&(namespace=a)(namespace=b))"] {
        has(
            &problems(&rule("filter", constraint)),
            "matches no subject at all",
        );
    }
    assert!(allowed(
        &rule("filter", "(&(cluster=kubernetes)(namespace=a))"),
        "a",
        "x"
    ));
}

#[test]
fn az_002_values_that_no_subject_has_are_refused() {
    let wrong = "no namespace can be or contain \"Team-A\": Kubernetes' names are lower case";
    has(&problems(&rule("filter", "(!(namespace=Team-A))")), wrong);
    for constraint in [
        "(saname=a_b)",
        "(sub=team-a:app)",
        "(groups=admins)",
        "(namespace=Team-*)",
        "(uid=1)",
        "(credential-id=1)",
    ] {
        has(&problems(&rule("filter", constraint)), "can be or contain");
    }
}

fn expression_of(cel: &str) -> String {
    with_rules(&format!("  rules:\n  - cel: \"{cel}\"\n"))
}

#[test]
fn az_008_broad_rules_are_warned_of() {
    has(
        &warnings(&expression_of("subject.namespace.startsWith('team-')")),
        "has a wildcard",
    );
    has(
        &warnings(&expression_of("subject.namespace != 'kube-system'")),
        "says who gets no token",
    );
    has(
        &warnings(&rule("filter", "(namespace=team-*)")),
        "has a wildcard",
    );
    let excluding = "(!(namespace=kube-system))";
    has(
        &warnings(&rule("filter", excluding)),
        "says who gets no token",
    );
    let narrow = "(&(namespace=a)(!(saname=default)))";
    assert_eq!(
        warnings(&rule("filter", narrow)).len(),
        1,
        "the audience's alone"
    );
}

#[test]
fn rules_are_read_in_order_with_their_places() {
    let text = with_rules(
        "  rules:\n  - filter: \"(namespace=a)\"\n  azRules:\n  - scope: filter\n    constraint: \"(namespace=b)\"\n",
    );
    let config = Config::parse(&text).unwrap();
    let written = &config.endpoints[0].written;
    let places: Vec<_> = written
        .iter()
        .map(|written| written.place.to_string())
        .collect();
    assert_eq!(
        places,
        [
            "endpoints[0].rules[0].filter (line 11)",
            "endpoints[0].azRules[0].constraint (line 14)"
        ]
    );
}
