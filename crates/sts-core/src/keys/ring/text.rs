//! The ring as text: JSON that people can read in the annotation of a Secret.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Phase, Revocation, Ring, RingKey};
use crate::ident::KeyId;
use crate::keys::Algorithm;
use crate::time::UnixSeconds;

/// Why a text is no ring.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RingTextError {
    /// A release after this one wrote it.
    #[error(
        "ring has format {format}, which this release does not know: go back to the release that wrote it"
    )]
    LaterFormat {
        /// The format's number.
        format: u64,
    },
    /// Not JSON, or not of a ring's shape.
    #[error("ring cannot be read: {what}")]
    Malformed {
        /// What the JSON reader says; places and names, no values of keys.
        what: String,
    },
    /// The keys cannot be as they are said to be.
    #[error("ring {what}")]
    Impossible {
        /// What cannot be.
        what: &'static str,
    },
}

impl Ring {
    /// The ring as text. [`Ring::parse`] gives it back.
    pub fn render(&self) -> String {
        // A ring has no map with keys that are not texts, which is all that can fail.
        serde_json::to_string_pretty(&RawRing::from(self)).unwrap_or_default()
    }

    /// Parses a ring.
    ///
    /// # Errors
    /// [`RingTextError`].
    pub fn parse(text: &str) -> Result<Self, RingTextError> {
        let raw: RawRing =
            serde_json::from_str(text).map_err(|error| RingTextError::Malformed {
                what: error.to_string(),
            })?;
        if raw.format != FORMAT {
            return Err(RingTextError::LaterFormat { format: raw.format });
        }
        let ring = Self {
            generation: raw.generation,
            keys: raw
                .keys
                .into_iter()
                .map(RingKey::try_from)
                .collect::<Result<_, _>>()?,
            rotate: raw.rotate,
            given: raw.given.as_deref().map(parse_id).transpose()?,
            revoked: raw
                .revoked
                .into_iter()
                .map(Revocation::try_from)
                .collect::<Result<_, _>>()?,
            urgent: raw.urgent,
        };
        ring.possible()
    }

    fn possible(mut self) -> Result<Self, RingTextError> {
        let impossible = |what| Err(RingTextError::Impossible { what });
        let count = |phase: &str| {
            self.keys
                .iter()
                .filter(|key| key.phase.name() == phase)
                .count()
        };
        let ids: BTreeSet<&KeyId> = self.keys.iter().map(RingKey::id).collect();
        if count("active") > 1 {
            return impossible("has two active keys");
        }
        if count("prepared") > 1 {
            return impossible("has two prepared keys");
        }
        if ids.len() != self.keys.len() {
            return impossible("has one key twice");
        }
        if self.keys.iter().any(|key| self.is_revoked(&key.id)) {
            return impossible("has a key that was revoked");
        }
        self.sort();
        Ok(self)
    }
}

/// Raised when an older release could misread what a newer one writes.
const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRing {
    format: u64,
    generation: u64,
    keys: Vec<RawKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<RawRevocation>,
    #[serde(default, skip_serializing_if = "is_false")]
    urgent: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKey {
    kid: String,
    algorithm: String,
    state: String,
    prepared: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signs_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activated: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed_from: Option<String>,
    lifetime_seconds: u64,
    max_age_seconds: u64,
}

#[derive(Serialize, Deserialize)]
struct RawRevocation {
    kid: String,
    at: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl From<&Ring> for RawRing {
    fn from(ring: &Ring) -> Self {
        let Ring {
            generation,
            keys,
            rotate,
            given,
            revoked,
            urgent,
        } = ring;
        Self {
            format: FORMAT,
            generation: *generation,
            keys: keys.iter().map(RawKey::from).collect(),
            rotate: rotate.clone(),
            given: given.as_ref().map(KeyId::to_string),
            revoked: revoked
                .iter()
                .map(|Revocation { id, at }| RawRevocation {
                    kid: id.to_string(),
                    at: render_time(*at),
                })
                .collect(),
            urgent: *urgent,
        }
    }
}

impl From<&RingKey> for RawKey {
    fn from(key: &RingKey) -> Self {
        let RingKey {
            id,
            algorithm,
            phase,
            prepared,
            lifetime,
            max_age,
        } = key;
        let mut raw = Self {
            kid: id.to_string(),
            algorithm: algorithm.name().to_owned(),
            state: phase.name().to_owned(),
            prepared: render_time(*prepared),
            lifetime_seconds: lifetime.as_secs(),
            max_age_seconds: max_age.as_secs(),
            ..Self::default()
        };
        match phase {
            Phase::Active { since } => raw.activated = Some(render_time(*since)),
            Phase::Prepared { seen, signs_from } => {
                raw.seen = seen.map(render_time);
                raw.signs_from = signs_from.map(render_time);
            }
            Phase::Retiring {
                since,
                removed_from,
            } => {
                raw.retired = Some(render_time(*since));
                raw.removed_from = Some(render_time(*removed_from));
            }
        }
        raw
    }
}

impl TryFrom<RawKey> for RingKey {
    type Error = RingTextError;

    fn try_from(raw: RawKey) -> Result<Self, RingTextError> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
        let needed =
            |text: &Option<String>, what| time(text)?.ok_or(RingTextError::Impossible { what });
        let phase = match raw.state.as_str() {
            "active" => Phase::Active {
                since: needed(&raw.activated, "has an active key without `activated`")?,
            },
            "prepared" => Phase::Prepared {
                seen: time(&raw.seen)?,
                signs_from: time(&raw.signs_from)?,
            },
            "retiring" => Phase::Retiring {
                since: needed(&raw.retired, "has a retiring key without `retired`")?,
                removed_from: needed(
                    &raw.removed_from,
                    "has a retiring key without `removedFrom`",
                )?,
            },
            _ => {
                return Err(RingTextError::Impossible {
                    what: "has a key whose state is none of prepared, active, retiring",
                });
            }
        };
        let algorithm = Algorithm::parse(&raw.algorithm).ok_or(RingTextError::Impossible {
            what: "has a key whose algorithm is neither RS256 nor ES256",
        })?;
        Ok(Self {
            id: parse_id(&raw.kid)?,
            algorithm,
            phase,
            prepared: parse_time(&raw.prepared)?,
            lifetime: Duration::from_secs(raw.lifetime_seconds),
            max_age: Duration::from_secs(raw.max_age_seconds),
        })
    }
}

impl TryFrom<RawRevocation> for Revocation {
    type Error = RingTextError;

    fn try_from(raw: RawRevocation) -> Result<Self, RingTextError> {
        Ok(Self {
            id: parse_id(&raw.kid)?,
            at: parse_time(&raw.at)?,
        })
    }
}

fn parse_id(text: &str) -> Result<KeyId, RingTextError> {
    KeyId::parse(text).or(Err(RingTextError::Impossible {
        what: "has a kid that is none",
    }))
}

pub(super) fn render_time(time: UnixSeconds) -> String {
    let second = i64::try_from(time.get()).ok();
    let timestamp = second.and_then(|second| Timestamp::from_second(second).ok());
    timestamp.unwrap_or_default().to_string()
}

fn parse_time(text: &str) -> Result<UnixSeconds, RingTextError> {
    let timestamp: Option<Timestamp> = text.parse().ok();
    let seconds = timestamp.and_then(|time| u64::try_from(time.as_second()).ok());
    seconds
        .and_then(UnixSeconds::new)
        .ok_or(RingTextError::Impossible {
            what: "has a time that is none, such as 2026-11-25T00:00:00Z",
        })
}
