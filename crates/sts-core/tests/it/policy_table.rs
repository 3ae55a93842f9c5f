//! Who is allowed what by which rule, as a table to be read: a change of meaning is a change of `policy_table.txt`.

use std::fmt::Write as _;

use sts_core::policy::{Attribute, Attributes, CelRule, Filter, KnownLabels, Rule, Truth};

/// Rules of both kinds that say the same stand side by side.
const RULES: [(&str, &str); 9] = [
    ("(namespace=team-a)", "subject.namespace == 'team-a'"),
    (
        "(namespace=team-*)",
        "subject.namespace.startsWith('team-')",
    ),
    (
        "(&(namespace=team-a)(saname=app))",
        "subject.namespace == 'team-a' && subject.saname == 'app'",
    ),
    ("(!(namespace=team-a))", "subject.namespace != 'team-a'"),
    ("(node-name=n1)", "subject.node_name == 'n1'"),
    ("(!(node-name=n1))", "subject.node_name != 'n1'"),
    (
        "(|(!(node-name=n1))(namespace=team-a))",
        "subject.node_name != 'n1' || subject.namespace == 'team-a'",
    ),
    ("(node-name=*)", "has(subject.node_name)"),
    (
        "(groups=system:serviceaccounts:team-a)",
        "'system:serviceaccounts:team-a' in subject.groups",
    ),
];

/// Name, namespace, ServiceAccount, node; `?` where it is not known.
const SUBJECTS: [(&str, &str, &str, &str); 5] = [
    ("a/app on n1", "team-a", "app", "n1"),
    ("a/web on n2", "team-a", "web", "n2"),
    ("ab/app on no node", "team-ab", "app", ""),
    ("b/app on n1", "b", "app", "n1"),
    ("a/app somewhere", "team-a", "app", "?"),
];

fn subject(namespace: &str, account: &str, node: &str) -> Attributes {
    let cluster = "c1".parse().unwrap();
    let supposed = Attributes::supposed(
        &cluster,
        &namespace.parse().unwrap(),
        &account.parse().unwrap(),
    );
    match node {
        "?" => supposed,
        "" => without_node(namespace, account),
        node => supposed.with(Attribute::NodeName, node),
    }
}

/// The attributes of a token that names no node.
fn without_node(namespace: &str, account: &str) -> Attributes {
    let claims = serde_json::json!({
        "namespace": namespace,
        "serviceaccount": {"name": account, "uid": test_support::TokenBuilder::SERVICE_ACCOUNT_UID},
        "pod": {"name": "p1", "uid": test_support::TokenBuilder::POD_UID},
    });
    let token = super::valid()
        .claim(
            "sub",
            format!("system:serviceaccount:{namespace}:{account}"),
        )
        .claim("kubernetes.io", claims)
        .sign(test_support::TestKey::rsa());
    let verified = super::check_at(&token, super::NOW).unwrap();
    Attributes::of(&verified, &"c1".parse().unwrap(), KnownLabels::default())
}

fn cell(rule: &Rule, attributes: &Attributes) -> &'static str {
    match rule.evaluate(attributes) {
        Truth::True => "yes",
        Truth::False => "no",
        Truth::Undefined => "-",
    }
}

fn table() -> String {
    let mut table = String::new();
    for (filter, cel) in RULES {
        writeln!(table, "{filter}\n{cel}").unwrap();
        let filter = Rule::Filter(Filter::parse(filter).unwrap());
        let cel = Rule::Cel(CelRule::parse(cel).unwrap());
        for (name, namespace, account, node) in SUBJECTS {
            let subject = subject(namespace, account, node);
            let (one, other) = (cell(&filter, &subject), cell(&cel, &subject));
            writeln!(table, "  {name:<20} {one:<5} {other}").unwrap();
        }
    }
    table
}

#[test]
fn the_policy_table_is_the_one_that_was_reviewed() {
    let table = table();
    assert_eq!(table, include_str!("policy_table.txt"), "now:\n{table}");
}

/// A filter and an expression of the same meaning decide alike about every subject.
#[test]
fn filters_and_expressions_of_the_same_meaning_decide_alike() {
    for (filter, cel) in RULES {
        let filter = Rule::Filter(Filter::parse(filter).unwrap());
        let cel = Rule::Cel(CelRule::parse(cel).unwrap());
        for (name, namespace, account, node) in SUBJECTS {
            let subject = subject(namespace, account, node);
            let (one, other) = (filter.evaluate(&subject), cel.evaluate(&subject));
            assert_eq!(one, other, "{filter} and {cel} about {name}");
        }
    }
}
