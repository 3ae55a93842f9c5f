//! What people read about a ring: one line each for an annotation, a log and an Event.

use std::fmt;

use super::text::render_time;
use super::{Origin, Phase, Ring, Step};
use crate::ident::KeyId;

impl Ring {
    /// Where the ring stands and what it waits for. It depends on the ring alone, so that all replicas write the same.
    pub fn status(&self) -> String {
        let mut parts = Vec::new();
        parts.push(match self.active() {
            Some(key) => format!("{} signs", key.id),
            None => "nothing signs".to_owned(),
        });
        if let Some(key) = self.prepared()
            && let Phase::Prepared { seen, signs_from } = key.phase
        {
            parts.push(match (seen, signs_from) {
                (_, Some(at)) => format!(
                    "{} is published and signs from {}, when no key set without it can be in use any more",
                    key.id,
                    render_time(at)
                ),
                (_, None) => format!("{} is prepared and waits to be seen at the public issuer", key.id),
            });
        }
        let retiring = self.keys.iter().filter_map(|key| match key.phase {
            Phase::Retiring { removed_from, .. } => Some((&key.id, removed_from)),
            Phase::Active { .. } | Phase::Prepared { .. } => None,
        });
        for (id, removed_from) in retiring {
            parts.push(format!(
                "{id} stays published until {}",
                render_time(removed_from)
            ));
        }
        parts.join("; ")
    }
}

impl Step {
    /// The stable code: the label of the metric, and in CamelCase the reason of the Event.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Activated { .. } => "activated",
            Self::KeptKeys { .. } => "kept_keys",
            Self::LostFromSight { .. } => "lost_from_sight",
            Self::Prepared { .. } => "prepared",
            Self::PutBack => "put_back",
            Self::Removed { .. } => "removed",
            Self::Repaired { .. } => "repaired",
            Self::Retired { .. } => "retired",
            Self::Revoked { .. } => "revoked",
            Self::RolledBack { .. } => "rolled_back",
            Self::Seen { .. } => "seen",
            Self::StartedAnew { .. } => "started_anew",
        }
    }

    /// Whether a person should look.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::KeptKeys { .. }
            | Self::LostFromSight { .. }
            | Self::PutBack
            | Self::Repaired { .. }
            | Self::Revoked { .. }
            | Self::RolledBack { .. }
            | Self::StartedAnew { .. } => true,
            Self::Activated { .. }
            | Self::Prepared { .. }
            | Self::Removed { .. }
            | Self::Retired { .. }
            | Self::Seen { .. } => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activated { key } => write!(f, "key {key} signs from now on"),
            Self::KeptKeys { keys } => write!(
                f,
                "keys {} were missing in the Secret though tokens they signed may live; they are published again until those are dead",
                list(keys)
            ),
            Self::LostFromSight { key } => write!(
                f,
                "the public issuer served key {key} and does not any more: it waits to be seen again before it signs"
            ),
            Self::Prepared { key, origin } => {
                let whose = match origin {
                    Origin::Given => "the user's key",
                    Origin::Made => "new key",
                };
                write!(f, "{whose} {key} is published; it signs once no key set without it can be in use any more")
            }
            Self::PutBack => f.write_str("the Secret was deleted or emptied: its keys were put back, and a rotation was started"),
            Self::Removed { key } => {
                write!(f, "key {key} is not published any more: its last token is dead")
            }
            Self::Repaired { damage } => {
                write!(f, "the Secret could not be used and was written anew from memory: {damage}")
            }
            Self::Retired { key, removed_from } => write!(
                f,
                "key {key} signs no more; it stays published until {}, when its last token is dead",
                render_time(*removed_from)
            ),
            Self::Revoked { key, was_active: true } => write!(
                f,
                "key {key} was revoked: every token it signed is refused as soon as relying parties read the key set again, and \
                 pods get new ones once a new key signs"
            ),
            Self::Revoked { key, was_active: false } => write!(
                f,
                "key {key} was revoked: tokens it signed are refused as soon as relying parties read the key set again"
            ),
            Self::RolledBack { stored, ours } => write!(
                f,
                "the Secret held an older ring, generation {stored} instead of {ours}, as after a restore: the later one was put back"
            ),
            Self::Seen { key } => write!(f, "the public issuer serves key {key}"),
            Self::StartedAnew { kept } if kept.is_empty() => f.write_str(
                "the Secret was deleted while no server ran: its private keys are lost, no token of theirs is alive any more",
            ),
            Self::StartedAnew { kept } => write!(
                f,
                "the Secret was deleted while no server ran: its private keys are lost; {} stay published until their tokens are \
                 dead, and a new key waits before it signs",
                list(kept)
            ),
        }
    }
}

fn list(keys: &[KeyId]) -> String {
    let keys: Vec<&str> = keys.iter().map(KeyId::as_str).collect();
    keys.join(", ")
}
