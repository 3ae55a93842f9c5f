//! What an operator adds to tokens, and what a role does to them.

use serde_json::{Value, json};
use sts_core::authorize::{Refusal, Request, authorize};
use sts_core::claims::{
    AdditionalClaim, AwsClaims, ClaimSource, ClaimsError, RolesClaim, SessionTag, SourceIdentity,
    Transitivity,
};
use sts_core::exchange::{Issuance, IssueError, Issued, issue};
use sts_core::ident::{Role, TokenId};
use sts_core::keys::Algorithm;
use sts_core::liveness::accept_offline;
use sts_core::policy::{Attribute, Filter, Policy, RoleBinding, RolePattern};
use sts_core::sign::SignError;
use sts_core::template::Template;
use test_support::{TestKey, TokenBuilder};

use super::issue::{Endpoint, claims, endpoint};
use super::{NOW, at, check_at, valid};

const ROLE: &str = "arn:aws:iam::123456789012:role/team-a/app";

#[derive(Debug, PartialEq)]
enum Refused {
    Issue(IssueError),
    Rules(Refusal),
}

fn exchange(
    endpoint: &Endpoint,
    token: &TokenBuilder,
    role: Option<&str>,
) -> Result<Issued, Refused> {
    let verified = check_at(&token.sign(TestKey::rsa()), NOW).unwrap();
    let cluster = "c1".parse().unwrap();
    let role: Option<Role> = role.map(|role| role.parse().unwrap());
    let request = Request {
        role: role.as_ref(),
        ..Request::of(&cluster)
    };
    let permission = authorize(&endpoint.policy, request, verified).map_err(Refused::Rules)?;
    let issuance = Issuance {
        template: &endpoint.template,
        key: &endpoint.key,
    };
    let id = TokenId::parse("id-1").unwrap();
    issue(issuance, &accept_offline(permission), id, at(NOW)).map_err(Refused::Issue)
}

/// An endpoint that binds roles to namespaces, and whose tokens carry the bound.
fn bound() -> Endpoint {
    let mut endpoint = endpoint(Algorithm::Es256);
    let pattern = RolePattern::parse("arn:aws:iam::123456789012:role/${namespace}/*").unwrap();
    let binding = RoleBinding {
        pattern,
        rule: None,
    };
    endpoint.policy = Policy::allow_all().with_roles(vec![binding]);
    let tags = vec![
        SessionTag::parse("namespace", "${namespace}", Transitivity::Transitive).unwrap(),
        SessionTag::parse("role", "${role}", Transitivity::Once).unwrap(),
    ];
    let identity = SourceIdentity::parse("${namespace}.${saname}").unwrap();
    endpoint.template.aws = AwsClaims::new(tags, Some(identity), RolesClaim::Bound).unwrap();
    endpoint
}

#[test]
fn a_token_carries_the_role_that_is_bound() {
    let issued = exchange(&bound(), &valid(), Some(ROLE)).unwrap();
    assert_eq!(issued.role.as_ref().map(Role::as_str), Some(ROLE));
    let claims = claims(&issued);
    assert_eq!(claims["https://aws.amazon.com/roles"], json!([ROLE]));
    assert_eq!(
        claims["https://aws.amazon.com/tags"],
        json!({
            "principal_tags": {"namespace": ["team-a"], "role": [ROLE]},
            "transitive_tag_keys": ["namespace"],
        })
    );
    assert_eq!(
        claims["https://aws.amazon.com/source_identity"],
        "team-a.app"
    );
}

#[test]
fn a_role_that_is_not_bound_gives_no_token() {
    let username = "system:serviceaccount:team-a:app".to_owned();
    for other in [
        "arn:aws:iam::123456789012:role/team-b/app",
        "arn:aws:iam::123456789012:role/team-a",
        "arn:aws:iam::123456789012:role/team-a/app/more",
        "arn:aws:iam::999999999999:role/team-a/app",
        "arn:aws:iam::123456789012:role/${namespace}/app",
    ] {
        let refusal = Refusal::RoleNotBound {
            username: username.clone(),
            rule: "allowAll".to_owned(),
            role: other.parse().unwrap(),
        };
        let refused = exchange(&bound(), &valid(), Some(other)).unwrap_err();
        assert_eq!(refused, Refused::Rules(refusal));
    }
    let refused = exchange(&bound(), &valid(), None).unwrap_err();
    let rule = "allowAll".to_owned();
    assert_eq!(
        refused,
        Refused::Rules(Refusal::RoleMissing { username, rule })
    );
}

#[test]
fn a_role_counts_for_nothing_where_none_is_bound() {
    let endpoint = endpoint(Algorithm::Es256);
    let with = exchange(&endpoint, &valid(), Some(ROLE)).unwrap();
    let without = exchange(&endpoint, &valid(), None).unwrap();
    assert_eq!(with.role, None);
    assert_eq!(claims(&with), claims(&without));
}

#[test]
fn iss_004_what_aws_would_refuse_is_not_issued() {
    let name = "b".repeat(200);
    let token = valid()
        .claim("sub", format!("system:serviceaccount:team-a:{name}"))
        .at("/kubernetes.io/serviceaccount/name", name);
    let refused = exchange(&bound(), &token, Some(ROLE)).unwrap_err();
    let what = "source identity".to_owned();
    let expected = IssueError::Claims(ClaimsError::Aws { what });
    assert_eq!(refused, Refused::Issue(expected));
}

fn added(name: &str, source: ClaimSource) -> AdditionalClaim {
    use sts_core::claims::ClaimName;
    AdditionalClaim::new(ClaimName::parse(name).unwrap(), source)
}

#[test]
fn openunisons_additional_attributes_become_claims() {
    let mut endpoint = endpoint(Algorithm::Es256);
    let template = |text: &str| ClaimSource::Template(Template::parse(text).unwrap());
    endpoint.template.additional = vec![
        added("team", ClaimSource::Text("payments".to_owned())),
        added("pod", ClaimSource::Attribute(Attribute::PodName)),
        added("groups", ClaimSource::Attribute(Attribute::Groups)),
        added("node", ClaimSource::Attribute(Attribute::NodeName)),
        added("who", template("${namespace}/${saname}")),
        added("where", template("node ${node-name}")),
    ];
    let token = claims(&exchange(&endpoint, &valid(), None).unwrap());
    assert_eq!(token["team"], "payments");
    assert_eq!(token["pod"], "p1");
    assert_eq!(token["node"], "n1");
    assert_eq!(token["who"], "team-a/app");
    assert_eq!(token["where"], "node n1");
    let groups = json!([
        "system:serviceaccounts:team-a",
        "system:authenticated",
        "system:serviceaccounts"
    ]);
    assert_eq!(token["groups"], groups);
    // What the subject does not have is left out, not empty.
    let kubernetes: Value = json!({
        "namespace": "team-a",
        "serviceaccount": {"name": "app", "uid": TokenBuilder::SERVICE_ACCOUNT_UID},
        "pod": {"name": "p1", "uid": TokenBuilder::POD_UID},
    });
    let without_node = valid().claim("kubernetes.io", kubernetes);
    let token = claims(&exchange(&endpoint, &without_node, None).unwrap());
    assert_eq!(token.get("node"), None);
    assert_eq!(token.get("where"), None);
}

/// Up to what the sidecar writes, and not a character more.
#[test]
fn iss_011_a_token_that_is_too_long_is_not_issued() {
    const LONGEST: usize = 16 * 1024;
    let length = |padding: usize| {
        let mut endpoint = endpoint(Algorithm::Es256);
        let padding = ClaimSource::Text("x".repeat(padding));
        endpoint.template.additional = vec![added("padding", padding)];
        let issued = exchange(&endpoint, &valid(), None);
        issued.map(|issued| issued.token.expose().len())
    };
    let short = length(10_000).unwrap();
    let fitting = 10_000 + (LONGEST - short) / 4 * 3;
    let lengths = (fitting..=fitting + 3).map(length).collect::<Vec<_>>();
    assert!(lengths.contains(&Ok(LONGEST)), "{lengths:?}");
    let refused = length(fitting + 4).unwrap_err();
    let Refused::Issue(error) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code(), "token_too_long");
    assert_eq!(IssueError::Sign(SignError).code(), "sign_failed");
}

/// A token as most are: with the default claims, a little more, and names of some length.
#[test]
fn iss_011_a_token_has_at_most_2_kib() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let mut endpoint = bound();
        endpoint.key = sts_core::sign::SigningKey::generate(algorithm).unwrap();
        let name = "a-service-account-of-some-length-in-production";
        let token = valid()
            .claim("sub", format!("system:serviceaccount:team-a:{name}"))
            .at("/kubernetes.io/serviceaccount/name", name);
        let issued = exchange(&endpoint, &token, Some(ROLE)).unwrap();
        assert!(issued.token.expose().len() <= 2048, "{algorithm:?}");
    }
}

/// A token can claim what it likes: the cluster is that of the configured issuer.
#[test]
fn az_016_the_cluster_is_never_the_tokens_word() {
    let mut endpoint = endpoint(Algorithm::Es256);
    let token = valid().claim("cluster", "prod");
    let rule = |filter: &str| Policy::any_of(vec![Filter::parse(filter).unwrap()]);
    endpoint.policy = rule("(cluster=prod)");
    assert!(exchange(&endpoint, &token, None).is_err());
    endpoint.policy = rule("(cluster=c1)");
    let issued = exchange(&endpoint, &token, None).unwrap();
    assert_eq!(claims(&issued)["cluster"], "c1");
}
