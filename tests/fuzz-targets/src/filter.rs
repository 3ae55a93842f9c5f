//! An LDAP filter of a rule.

use std::sync::LazyLock;

use sts_core::ident::ClusterName;
use sts_core::policy::{Attributes, Filter, KnownLabels, Rule, Truth};

use crate::token::verified;

/// Subjects with and without the attributes that may be absent.
pub(crate) static SUBJECTS: LazyLock<[Attributes; 2]> = LazyLock::new(|| {
    let cluster = cluster();
    let whole = verified(|token| token);
    let without_node = verified(|token| {
        let claims = serde_json::json!({
            "namespace": "team-b",
            "serviceaccount": {"name": "b", "uid": "8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b"},
            "pod": {"name": "p2", "uid": "11111111-2222-4333-8444-555555555555"},
        });
        token
            .claim("sub", "system:serviceaccount:team-b:b")
            .claim("kubernetes.io", claims)
    });
    [
        Attributes::of(&whole, &cluster, KnownLabels::default()),
        Attributes::of(&without_node, &cluster, KnownLabels::default()),
    ]
});

/// Their cluster.
pub(crate) fn cluster() -> ClusterName {
    "c1".parse().unwrap()
}

/// A filter that is taken can be written down and read again, it and its negation never allow the same subject, and it can hold in the
/// cluster of whomever it allows.
pub fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(filter) = Filter::parse(text) else {
        return;
    };
    let printed = filter.to_string();
    assert_eq!(Filter::parse(&printed).as_ref(), Ok(&filter), "{printed}");
    let negation = Filter::parse(&format!("(!{printed})"));
    let can_hold = Rule::Filter(filter.clone()).can_hold_in(&cluster());
    for subject in &*SUBJECTS {
        let allows = |filter: &Filter| filter.evaluate(subject) == Truth::True;
        assert!(!allows(&filter) || can_hold, "{printed}");
        // A negation may be too deep, or allow everybody, and then it is refused.
        if let Ok(negation) = &negation {
            assert!(!(allows(&filter) && allows(negation)), "{printed}");
        }
    }
}
