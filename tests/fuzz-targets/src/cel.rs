//! A rule in CEL.

use std::collections::BTreeSet;

use sts_core::ident::LabelKey;
use sts_core::policy::{Attributes, CelRule, KnownLabels, Labels, Rule, Truth};

use crate::filter::{SUBJECTS, cluster};

/// One that is taken: it and its negation never allow the same subject; whom it allows while nobody has looked for labels, it allows when
/// there are none; and it can hold in the cluster of whomever it allows.
pub fn cel(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(rule) = CelRule::parse(text) else {
        return;
    };
    // A comment would end at the bracket. It may be too deep, or allow everybody, and then it is refused.
    let negation = CelRule::parse(&format!("!(\n{text}\n)"));
    let absent = |keys: &BTreeSet<LabelKey>| -> Labels {
        keys.iter().map(|key| (key.clone(), None)).collect()
    };
    let labels = KnownLabels {
        pod: absent(&rule.labels().pod),
        namespace: absent(&rule.labels().namespace),
    };
    let can_hold = Rule::Cel(rule.clone()).can_hold_in(&cluster());
    for unlabelled in &*SUBJECTS {
        let labelled = unlabelled.clone().with_labels(labels.clone());
        let allows = |rule: &CelRule, subject: &Attributes| rule.evaluate(subject) == Truth::True;
        assert!(
            !allows(&rule, unlabelled) || allows(&rule, &labelled),
            "{rule}"
        );
        assert!(!allows(&rule, &labelled) || can_hold, "{rule}");
        if let Ok(negation) = &negation {
            assert!(
                !(allows(&rule, &labelled) && allows(negation, &labelled)),
                "{rule}"
            );
        }
    }
}
