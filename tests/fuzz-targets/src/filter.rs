//! An LDAP filter of a rule.

use std::sync::LazyLock;

use sts_core::policy::{Attributes, Filter, KnownLabels, Truth};

use crate::token::verified;

/// Subjects with and without the attributes that may be absent.
static SUBJECTS: LazyLock<[Attributes; 2]> = LazyLock::new(|| {
    let cluster = "c1".parse().unwrap();
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

/// A filter that is taken can be written down and read again, and it and its negation never allow the same subject.
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
    for subject in &*SUBJECTS {
        let allows = |filter: &Filter| filter.evaluate(subject) == Truth::True;
        // A negation may be too deep, or allow everybody, and then it is refused.
        if let Ok(negation) = &negation {
            assert!(!(allows(&filter) && allows(negation)), "{printed}");
        }
    }
}
