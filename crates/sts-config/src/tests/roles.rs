//! `roles:`.

use sts_core::authorize::Refusal;
use sts_core::ident::Role;
use sts_core::policy::Attributes;

use super::*;

const ROLES: &str = r#"  roles:
  - pattern: "arn:aws:iam::123456789012:role/${namespace}/*"
  - pattern: "arn:aws:iam::123456789012:role/shared"
    filter: "(saname=app)"
  - pattern: "arn:aws:iam::123456789012:role/everybody"
    allowAll: true
"#;

fn policy() -> sts_core::policy::Policy {
    let mut config = Config::parse(&with(ROLES)).unwrap();
    config.endpoints.remove(0).policy
}

fn subject(account: &str) -> Attributes {
    Attributes::supposed(
        &"kubernetes".parse().unwrap(),
        &"myns".parse().unwrap(),
        &account.parse().unwrap(),
    )
}

fn role(name: &str) -> Role {
    let arn = format!("arn:aws:iam::123456789012:role/{name}");
    arn.parse().unwrap()
}

fn asked(account: &str, name: &str) -> Result<Option<String>, Refusal> {
    let decision = policy().decide(&subject(account), Some(&role(name)));
    decision.map(|allowance| allowance.role.map(|bound| bound.pattern))
}

#[test]
fn subjects_get_the_roles_that_are_bound_to_them() {
    let pattern = |name: &str| Ok(Some(format!("arn:aws:iam::123456789012:role/{name}")));
    assert_eq!(asked("web", "myns/x"), pattern("${namespace}/*"));
    assert_eq!(asked("app", "shared"), pattern("shared"));
    assert_eq!(asked("web", "everybody"), pattern("everybody"));
    for (account, role) in [
        ("web", "shared"),
        ("app", "other/x"),
        ("app", "myns/x/y"),
        ("app", "admin"),
    ] {
        let refusal = asked(account, role).unwrap_err();
        assert_eq!(refusal.code(), "role_denied", "{account} {role}");
    }
}

#[test]
fn bindings_that_say_nothing_are_refused_with_their_place() {
    for (binding, problem) in [
        (
            "{pattern: \"arn:aws:iam::1:role/x\"}",
            "says nothing of who may ask for the role",
        ),
        ("{pattern: \"*\", allowAll: true}", "matches every role"),
        (
            "{pattern: \"role/${namespace}-${saname}\"}",
            "nothing tells where ${namespace} ends",
        ),
        (
            "{pattern: \"role/${namespace}*\"}",
            "cannot stand in one part",
        ),
        ("{pattern: \"role/${nmespace}\"}", "there is no ${nmespace}"),
        (
            "{pattern: \"x\", filter: \"(nmespace=a)\"}",
            "no subject has an attribute",
        ),
        (
            "{pattern: \"x\", filter: \"(namespace=a)\", allowAll: true}",
            "leave one of them out",
        ),
        (
            "{filter: \"(namespace=a)\"}",
            "pattern (line 11) is missing",
        ),
    ] {
        let problems = problems(&with(&format!("  roles:\n  - {binding}\n")));
        has(&problems, problem);
        has(&problems, "endpoints[0].roles[0]");
    }
    has(
        &problems(&with("  roles: []\n")),
        "endpoints[0].roles (line 10) is empty",
    );
}
