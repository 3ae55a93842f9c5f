//! Rules that ask for labels: when somebody has to look for them, and what is allowed once they are known, and before.

use sts_core::authorize::{Permission, Refusal, Request, authorize, wants_labels};
use sts_core::ident::ClusterName;
use sts_core::policy::{
    CelRule, KnownLabels, Labels, Policy, RoleBinding, RolePattern, Rule, Subjects,
};
use sts_core::verify::VerifiedToken;
use test_support::TestKey;

use super::{NOW, check_at, valid};

const MINE: &str = "subject.cluster == 'c1'";
const OTHERS: &str = "subject.namespace == 'of-others'";

fn token() -> VerifiedToken {
    check_at(&valid().sign(TestKey::rsa()), NOW).unwrap()
}

fn policy(expressions: &[&str]) -> Policy {
    let rule = |text: &&str| Rule::Cel(CelRule::parse(text).unwrap());
    Policy::new(Subjects::AnyOf(expressions.iter().map(rule).collect()))
}

fn labels(pairs: &[(&str, Option<&str>)]) -> Labels {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(key, value)| (key.parse().unwrap(), value.map(str::to_owned)));
    pairs.collect()
}

fn cluster() -> ClusterName {
    "c1".parse().unwrap()
}

fn wants(policy: &Policy, known: &KnownLabels) -> bool {
    let cluster = cluster();
    let request = Request {
        labels: known.clone(),
        ..Request::of(&cluster)
    };
    wants_labels(policy, &request, &token())
}

fn asks(policy: &Policy, known: &KnownLabels) -> Result<Permission, Refusal> {
    let cluster = cluster();
    let request = Request {
        labels: known.clone(),
        ..Request::of(&cluster)
    };
    authorize(policy, request, token())
}

#[test]
fn labels_are_looked_for_only_where_it_depends_on_them() {
    let nothing = KnownLabels::default();
    let pod = "pod_labels.tier == 'web'";
    let strangers = format!("{OTHERS} && {pod}");
    let mine = format!("{MINE} && {pod}");
    for (rules, expected) in [
        (vec![pod], true),
        (vec![mine.as_str()], true),
        (vec![OTHERS, mine.as_str()], true),
        (vec![MINE, pod], false),
        (vec![pod, MINE], false),
        (vec![strangers.as_str()], false),
        (vec![OTHERS], false),
    ] {
        assert_eq!(wants(&policy(&rules), &nothing), expected, "{rules:?}");
    }
    assert!(!wants(&Policy::allow_all(), &nothing));
    let known = KnownLabels {
        pod: labels(&[("tier", None)]),
        namespace: Labels::new(),
    };
    assert!(!wants(&policy(&[pod]), &known), "they are known by now");
}

#[test]
fn az_003_labels_that_nobody_could_look_for_allow_nothing() {
    let rules = ["!('canary' in pod_labels)", "namespace_labels.team == 'a'"];
    let policy = policy(&rules);
    let half = KnownLabels {
        pod: Labels::new(),
        namespace: labels(&[("team", Some("b"))]),
    };
    for known in [KnownLabels::default(), half] {
        let refused = asks(&policy, &known).err();
        assert!(matches!(refused, Some(Refusal::Open { .. })), "{refused:?}");
        assert_eq!(refused.map(|refused| refused.code()), Some("policy_denied"));
    }
}

#[test]
fn labels_decide_once_they_are_known() {
    let policy = policy(&["pod_labels.tier == 'web' && namespace_labels.team == 'a'"]);
    for (tier, team, allowed) in [
        (Some("web"), Some("a"), true),
        (Some("db"), Some("a"), false),
        (Some("web"), Some("b"), false),
        (None, Some("a"), false),
        (Some("web"), None, false),
    ] {
        let known = KnownLabels {
            pod: labels(&[("tier", tier)]),
            namespace: labels(&[("team", team)]),
        };
        let outcome = asks(&policy, &known);
        assert_eq!(outcome.is_ok(), allowed, "{tier:?} {team:?}");
        if let Err(refused) = outcome {
            assert!(
                matches!(refused, Refusal::NoRuleMatches { .. }),
                "{refused:?}"
            );
        }
    }
}

/// The labels of a role's binding count like those of the endpoint's own rules.
#[test]
fn a_roles_binding_can_ask_for_labels() {
    let binding = RoleBinding {
        pattern: RolePattern::parse("arn:aws:iam::123456789012:role/billing").unwrap(),
        rule: Some(Rule::Cel(
            CelRule::parse("namespace_labels.team == 'billing'").unwrap(),
        )),
    };
    let policy = Policy::allow_all().with_roles(vec![binding]);
    let (cluster, role) = (
        cluster(),
        "arn:aws:iam::123456789012:role/billing".parse().unwrap(),
    );
    let ask = |role, known: &KnownLabels| {
        let request = Request {
            role,
            labels: known.clone(),
            ..Request::of(&cluster)
        };
        let wants = wants_labels(&policy, &request, &token());
        (
            wants,
            authorize(&policy, request, token())
                .err()
                .map(|refused| refused.code()),
        )
    };
    assert_eq!(
        ask(None, &KnownLabels::default()),
        (false, Some("role_missing"))
    );
    let role = Some(&role);
    assert_eq!(
        ask(role, &KnownLabels::default()),
        (true, Some("policy_denied"))
    );
    for (team, expected) in [("billing", None), ("others", Some("role_denied"))] {
        let known = KnownLabels {
            pod: Labels::new(),
            namespace: labels(&[("team", Some(team))]),
        };
        assert_eq!(ask(role, &known), (false, expected), "{team}");
    }
}
