//! Tokens for ourselves, signed with whatever key of the ring may sign.

use std::fmt;
use std::sync::Arc;

use sts_core::claims::{OwnClaims, OwnSubject, TokenTemplate};
use sts_core::ident::{Audience, TokenId};
use sts_core::sign::SignedToken;
use sts_core::time::UnixSeconds;
use sts_publish::OwnTokens;
use uuid::Uuid;

use crate::signing_keys::KeyRing;

/// An endpoint's ring, and what its tokens have in common.
pub(super) struct RingTokens {
    ring: Arc<KeyRing>,
    template: TokenTemplate,
}

impl RingTokens {
    pub(super) fn new(ring: Arc<KeyRing>, template: TokenTemplate) -> Self {
        Self { ring, template }
    }
}

impl OwnTokens for RingTokens {
    fn sign(
        &self,
        subject: &OwnSubject,
        audience: Option<&Audience>,
    ) -> Result<SignedToken, String> {
        let now = svc_runtime::clock::now();
        let key = self
            .ring
            .signer(now)
            .map_err(|withheld| withheld.to_string())?;
        let seconds = u64::try_from(now.as_second()).ok();
        let (Some(now), Ok(id)) = (
            seconds.and_then(UnixSeconds::new),
            TokenId::parse(&Uuid::new_v4().to_string()),
        ) else {
            return Err("the clock is wrong".to_owned());
        };
        let claims = OwnClaims::new(subject, &self.template, audience, &id, now);
        key.sign_own(&claims).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for RingTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingTokens")
    }
}
