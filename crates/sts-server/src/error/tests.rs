use std::collections::BTreeSet;

use sts_core::claims::ClaimsError;
use sts_core::sign::SignError;
use sts_core::time::UnixSeconds;

use super::*;

/// One error of each variant. A new variant does not compile here until it is listed, nor pass until what stands behind it is one.
macro_rules! each {
    ($kind:ident: $($variant:ident => $error:expr),+ $(,)?) => {{
        let errors = vec![$($error),+];
        let name = |error: &$kind| match error {
            $($kind::$variant { .. } => stringify!($variant),)+
        };
        let names = [$(stringify!($variant)),+];
        assert!(errors.iter().map(name).eq(names), "{names:?}");
        errors
    }};
}

fn parse_errors() -> Vec<ParseTokenError> {
    use ParseTokenError as E;
    each!(ParseTokenError:
        AlgorithmNotAllowed => E::AlgorithmNotAllowed,
        HeaderForbidden => E::HeaderForbidden,
        KeyIdMissing => E::KeyIdMissing,
        Malformed => E::Malformed,
        TooLarge => E::TooLarge,
    )
}

fn verify_errors() -> Vec<VerifyError> {
    use VerifyError as E;
    let now = UnixSeconds::new(1).unwrap();
    let life = Duration::from_secs(1);
    let claim = "sub";
    each!(VerifyError:
        AlgorithmNotAllowed => E::AlgorithmNotAllowed,
        AudienceMismatch => E::AudienceMismatch,
        AudienceNotExclusive => E::AudienceNotExclusive,
        ClaimType => E::ClaimType { claim },
        Expired => E::Expired { expires: now, now },
        IssuerMismatch => E::IssuerMismatch,
        KeyUnknown => E::KeyUnknown,
        LifetimeTooLong => E::LifetimeTooLong { life },
        NameInvalid => E::NameInvalid { claim },
        NotBound => E::NotBound,
        NotYetValid => E::NotYetValid,
        SignatureInvalid => E::SignatureInvalid,
        SubjectMismatch => E::SubjectMismatch,
    )
}

fn refusals() -> Vec<Refusal> {
    use Refusal as E;
    let username = || "system:serviceaccount:a:b".to_owned();
    let rule = || "allowAll".to_owned();
    each!(Refusal:
        NoRuleMatches => E::NoRuleMatches { username: username() },
        Open => E::Open { username: username(), rule: rule() },
        RoleMissing => E::RoleMissing { username: username(), rule: rule() },
        RoleNotBound => E::RoleNotBound {
            username: username(),
            rule: rule(),
            role: "r".parse().unwrap(),
        },
    )
}

fn liveness_errors() -> Vec<LivenessError> {
    use LivenessError as E;
    each!(LivenessError:
        AudienceMismatch => E::AudienceMismatch,
        Disagree => E::Disagree { about: "pod uid" },
        Gone => E::Gone,
        PodGone => E::PodGone,
        ServiceAccountGone => E::ServiceAccountGone,
        Unconfirmed => E::Unconfirmed,
    )
}

fn claims_errors() -> Vec<ClaimsError> {
    use ClaimsError as E;
    let length = 1;
    each!(ClaimsError:
        Aws => E::Aws { what: "source identity".to_owned() },
        ExpiresTooSoon => E::ExpiresTooSoon { left: Duration::ZERO },
        SubjectIncomplete => E::SubjectIncomplete,
        TokenTooLong => E::TokenTooLong { length },
        SubjectTooLong => E::SubjectTooLong { length },
    )
}

fn issue_errors() -> Vec<IssueError> {
    use IssueError as E;
    let claims = claims_errors().into_iter().map(E::Claims);
    let each = each!(IssueError:
        Claims => E::Claims(ClaimsError::SubjectIncomplete),
        Sign => E::Sign(SignError),
    );
    claims.chain(each).collect()
}

fn exchange_errors() -> Vec<ExchangeError> {
    use ExchangeError as E;
    let after = Duration::from_secs(1);
    let mut errors = each!(ExchangeError:
        IssuerUnknown => E::IssuerUnknown,
        Issue => E::Issue(IssueError::Sign(SignError)),
        Liveness => E::Liveness(LivenessError::Gone),
        Parse => E::Parse(ParseTokenError::Malformed),
        Refused => E::Refused(Refusal::NoRuleMatches { username: String::new() }),
        // They all have one code, and so have those that are withheld.
        Request => E::Request(RequestError::NoToken),
        TooOften => E::TooOften { after },
        Unavailable => E::Unavailable { what: "capacity" },
        Verify => E::Verify(VerifyError::NotBound),
        Withheld => E::Withheld(Withheld::Stale),
    );
    errors.extend(issue_errors().into_iter().map(E::Issue));
    errors.extend(liveness_errors().into_iter().map(E::Liveness));
    errors.extend(parse_errors().into_iter().map(E::Parse));
    errors.extend(refusals().into_iter().map(E::Refused));
    errors.extend(verify_errors().into_iter().map(E::Verify));
    errors
}

/// `docs/audit.md` is what readers of the trail build on: its table of reasons has all that there are, and no other.
#[test]
fn every_reason_is_documented_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| `reason` | the caller sees").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let documented: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split(", "))
        .map(|reason| reason.trim_matches('`'))
        .collect();
    let errors = exchange_errors();
    let mut reasons: BTreeSet<&str> = errors.iter().map(ExchangeError::code).collect();
    // The lines that stand for others, which have no error.
    reasons.insert("suppressed");
    assert_eq!(documented, reasons);
}

/// A subject of whom the token was not believed is told the same, whatever was wrong.
#[test]
fn every_refusal_of_a_token_is_answered_alike() {
    for error in exchange_errors() {
        let response = respond(&error, Presentation::Bearer);
        let expected = match error.code() {
            "policy_denied" | "role_denied" | "role_missing" => StatusCode::FORBIDDEN,
            "sign_failed" => StatusCode::INTERNAL_SERVER_ERROR,
            "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "backend_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        assert_eq!(response.status(), expected, "{error:?}");
    }
}
