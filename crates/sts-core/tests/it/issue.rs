//! Issued tokens: what they say, how long they live, who can read them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Validation, decode};
use serde_json::Value;
use sts_core::authorize::{Refusal, Request, authorize};
use sts_core::claims::{AwsClaims, ClaimsError, SubjectTemplate, TokenTemplate};
use sts_core::exchange::{Issuance, IssueError, Issued, issue};
use sts_core::ident::TokenId;
use sts_core::keys::Algorithm;
use sts_core::liveness::accept_offline;
use sts_core::policy::{Filter, Policy};
use sts_core::sign::SigningKey;
use sts_core::time::Lifetime;
use sts_core::verify::VerifyError;
use test_support::TestKey;

use super::{NOW, at, check_at, valid};

pub(super) struct Endpoint {
    pub(super) policy: Policy,
    pub(super) template: TokenTemplate,
    pub(super) key: SigningKey,
}

pub(super) fn endpoint(algorithm: Algorithm) -> Endpoint {
    Endpoint {
        policy: Policy::any_of(vec![Filter::parse("(namespace=team-a)").unwrap()]),
        template: TokenTemplate {
            issuer: "https://issuer.example.com/a".parse().unwrap(),
            audience: "sts.amazonaws.com".parse().unwrap(),
            lifetime: Lifetime::new(std::time::Duration::from_secs(900)).unwrap(),
            subject: SubjectTemplate::service_account(),
            additional: Vec::new(),
            aws: AwsClaims::default(),
        },
        key: SigningKey::generate(algorithm).unwrap(),
    }
}

fn exchange(
    endpoint: &Endpoint,
    token: &test_support::TokenBuilder,
    now: u64,
) -> Result<Issued, Refused> {
    let verified = check_at(&token.sign(TestKey::rsa()), now).unwrap();
    let Endpoint {
        policy,
        template,
        key,
    } = endpoint;
    let cluster = "c1".parse().unwrap();
    let permission = authorize(policy, Request::of(&cluster), verified).map_err(Refused::Rules)?;
    let id = TokenId::parse("id-1").unwrap();
    let issuance = Issuance { template, key };
    issue(issuance, &accept_offline(permission), id, at(now)).map_err(Refused::Issue)
}

/// Why there is no token, at whichever step.
#[derive(Debug, PartialEq)]
enum Refused {
    Issue(IssueError),
    Rules(Refusal),
}

pub(super) fn claims(issued: &Issued) -> Value {
    let payload = issued.token.expose().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn iss_001_003_005_claims_are_the_endpoints_and_the_subjects() {
    let issued = exchange(&endpoint(Algorithm::Rs256), &valid(), NOW).unwrap();
    let expected = serde_json::json!({
        "iss": "https://issuer.example.com/a", "sub": "system:serviceaccount:team-a:app", "aud": "sts.amazonaws.com",
        "exp": NOW + 900, "iat": NOW, "nbf": NOW - 60, "jti": "id-1",
        "cluster": "c1", "namespace": "team-a", "saname": "app",
        "kubernetes.io": {
            "namespace": "team-a",
            "pod": {"name": "p1", "uid": "11111111-2222-4333-8444-555555555555"},
            "serviceaccount": {"name": "app", "uid": "8b9e4f2a-0c1d-4e5f-8a9b-0c1d2e3f4a5b"},
        },
    });
    assert_eq!(claims(&issued), expected);
    assert!(issued.token.expose().len() <= 2048);
}

#[test]
fn openunisons_subject_is_cluster_namespace_name() {
    let mut endpoint = endpoint(Algorithm::Es256);
    endpoint.template.subject = SubjectTemplate::openunison();
    assert_eq!(
        exchange(&endpoint, &valid(), NOW).unwrap().subject,
        "c1:team-a:app"
    );
}

#[test]
fn iss_002_006_another_library_verifies_with_the_published_key() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let endpoint = endpoint(algorithm);
        let issued = exchange(&endpoint, &valid(), NOW).unwrap();
        let jwk =
            serde_json::from_value(serde_json::to_value(endpoint.key.public()).unwrap()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let mut validation = Validation::new(algorithm.name().parse().unwrap());
        validation.set_audience(&["sts.amazonaws.com"]);
        validation.set_issuer(&["https://issuer.example.com/a"]);
        // The library reads the real clock, and these times lie ahead of it.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = decode::<Value>(issued.token.expose(), &key, &validation).unwrap();
        assert_eq!(
            decoded.header.kid.as_deref(),
            Some(endpoint.key.key_id().as_str())
        );
    }
}

#[test]
fn iss_004_no_token_outlives_the_subjects() {
    let endpoint = endpoint(Algorithm::Es256);
    let token = valid().claim("exp", NOW + 200);
    assert_eq!(
        exchange(&endpoint, &token, NOW).unwrap().lifetime_seconds,
        200
    );
    let left = std::time::Duration::from_secs(59);
    let error = exchange(&endpoint, &token, NOW + 141).unwrap_err();
    assert_eq!(
        error,
        Refused::Issue(IssueError::Claims(ClaimsError::ExpiresTooSoon { left }))
    );
}

#[test]
fn az_014_015_rules_are_alternatives_and_none_is_nobody() {
    let mut endpoint = endpoint(Algorithm::Es256);
    let filter = |text| Filter::parse(text).unwrap();
    endpoint.policy = Policy::any_of(vec![
        filter("(saname=x)"),
        filter("(saname=app)"),
        filter("(namespace=team-a)"),
    ]);
    assert_eq!(
        exchange(&endpoint, &valid(), NOW).unwrap().rule,
        "(saname=app)"
    );
    endpoint.policy = Policy::any_of(Vec::new());
    let username = "system:serviceaccount:team-a:app".to_owned();
    let error = exchange(&endpoint, &valid(), NOW).unwrap_err();
    assert_eq!(error, Refused::Rules(Refusal::NoRuleMatches { username }));
    endpoint.policy = Policy::allow_all();
    assert_eq!(exchange(&endpoint, &valid(), NOW).unwrap().rule, "allowAll");
}

#[test]
fn jwt_099_subjects_longer_than_relying_parties_take() {
    let mut endpoint = endpoint(Algorithm::Es256);
    endpoint.policy = Policy::allow_all();
    let (namespace, name) = ("a".repeat(63), "b".repeat(253));
    let token = valid()
        .claim("sub", format!("system:serviceaccount:{namespace}:{name}"))
        .at("/kubernetes.io/namespace", namespace)
        .at("/kubernetes.io/serviceaccount/name", name);
    let error = exchange(&endpoint, &token, NOW).unwrap_err();
    assert_eq!(
        error,
        Refused::Issue(IssueError::Claims(ClaimsError::SubjectTooLong {
            length: 339
        }))
    );
}

#[test]
fn jwt_056_a_token_of_ours_gives_no_other() {
    let issued = exchange(&endpoint(Algorithm::Rs256), &valid(), NOW).unwrap();
    let expected = super::Refused::Verify(VerifyError::IssuerMismatch);
    let refused = check_at(issued.token.expose(), NOW).err();
    assert_eq!(refused, Some(expected));
}

#[test]
fn jwt_082_a_clock_that_jumps_between_verification_and_signature() {
    let endpoint = endpoint(Algorithm::Es256);
    let issue_at = |now: u64| {
        let verified = check_at(&valid().sign(TestKey::rsa()), NOW).unwrap();
        let cluster = "c1".parse().unwrap();
        let permission = authorize(&endpoint.policy, Request::of(&cluster), verified).unwrap();
        let issuance = Issuance {
            template: &endpoint.template,
            key: &endpoint.key,
        };
        let id = TokenId::parse("id-1").unwrap();
        issue(issuance, &accept_offline(permission), id, at(now))
    };
    let back = claims(&issue_at(NOW - 3600).unwrap());
    assert_eq!(back["exp"], NOW - 2700);
    let ahead = claims(&issue_at(NOW + 3540).unwrap());
    assert_eq!(ahead["exp"], NOW + 3600, "no later than the subject's");
    for now in [NOW + 3541, NOW + 3600, NOW + 7200] {
        let refused = issue_at(now).unwrap_err();
        let left = std::time::Duration::from_secs((NOW + 3600).saturating_sub(now));
        assert_eq!(
            refused,
            IssueError::Claims(ClaimsError::ExpiresTooSoon { left })
        );
    }
}

#[test]
fn iss_007_nothing_of_the_subject_token_is_copied_that_is_not_meant() {
    let token = valid()
        .claim("azp", "canary")
        .claim("client_id", "canary")
        .claim("scope", "canary")
        .claim("https://aws.amazon.com/tags", "canary")
        .at("/kubernetes.io/canary", "canary");
    let issued = exchange(&endpoint(Algorithm::Es256), &token, NOW).unwrap();
    let plain = exchange(&endpoint(Algorithm::Es256), &valid(), NOW).unwrap();
    assert_eq!(claims(&issued), claims(&plain));
    let claims = claims(&issued).to_string();
    for foreign in [
        "canary",
        "azp",
        "5f0a1a9e-7f0c-4a52-9a43-0d6f5a3b2c1d",
        "n1",
    ] {
        assert!(!claims.contains(foreign), "{claims}");
    }
}
