//! The one kind of token that nobody was granted: our own, by which we are let into the store that an issuer's documents are published in.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{BACKDATED, LONGEST_SUBJECT, TokenTemplate};
use crate::ident::{Audience, TokenId};
use crate::time::UnixSeconds;

/// A `sub` for ourselves.
///
/// Invariant: it has no colon. Every subject of a pod has some, whatever the [`super::SubjectTemplate`]: no pod ever passes for us, and
/// we for none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnSubject(String);

/// The claims of a token for ourselves.
#[derive(Clone, Debug, Serialize)]
pub struct OwnClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
}

/// It is used at once, and for one request.
const LIFE: Duration = Duration::from_secs(300);

impl OwnSubject {
    /// Parses a subject.
    ///
    /// # Errors
    /// A clause that says what to write.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let inner =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if (1..=LONGEST_SUBJECT).contains(&text.len()) && text.bytes().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "is no subject for ourselves such as kube-sts-publisher: letters, digits, `-`, `_`, `.` and `/`, without a colon, \
                 which subjects of pods have",
            )
        }
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OwnClaims {
    /// The claims for ourselves at an endpoint; `None` stands for its own audience.
    pub fn new(
        subject: &OwnSubject,
        template: &TokenTemplate,
        audience: Option<&Audience>,
        id: &TokenId,
        now: UnixSeconds,
    ) -> Self {
        let audience = audience.unwrap_or(&template.audience);
        let life = template.lifetime.get().min(LIFE);
        Self {
            iss: template.issuer.as_str().to_owned(),
            sub: subject.as_str().to_owned(),
            aud: audience.as_str().to_owned(),
            exp: now.saturating_add(life).get(),
            iat: now.get(),
            nbf: now.saturating_sub(BACKDATED).get(),
            jti: id.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{AwsClaims, SubjectTemplate};
    use crate::ident::Issuer;
    use crate::time::Lifetime;

    #[test]
    fn a_token_for_ourselves_says_nothing_of_pods_and_lives_for_minutes() {
        let template = TokenTemplate {
            issuer: Issuer::parse("https://issuer.example.com").unwrap(),
            audience: Audience::parse("sts.amazonaws.com").unwrap(),
            lifetime: Lifetime::new(Duration::from_secs(3600)).unwrap(),
            subject: SubjectTemplate::openunison(),
            additional: Vec::new(),
            aws: AwsClaims::default(),
        };
        let subject = OwnSubject::parse("kube-sts-publisher").unwrap();
        let id = TokenId::parse("3f2a").unwrap();
        let now = UnixSeconds::new(1_800_000_000).unwrap();
        let claims = OwnClaims::new(&subject, &template, None, &id, now);
        let claims = serde_json::to_value(&claims).unwrap();
        let expected = serde_json::json!({
            "iss": "https://issuer.example.com", "sub": "kube-sts-publisher", "aud": "sts.amazonaws.com",
            "exp": 1_800_000_300_u64, "iat": 1_800_000_000_u64, "nbf": 1_799_999_940_u64, "jti": "3f2a",
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn no_subject_of_a_pod_is_one_of_ours() {
        for text in [
            "kubernetes:myns:a",
            "system:serviceaccount:myns:a",
            "",
            "a b",
        ] {
            assert!(OwnSubject::parse(text).is_err(), "{text:?}");
        }
    }
}
