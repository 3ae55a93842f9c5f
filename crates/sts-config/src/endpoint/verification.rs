//! `clusters:`, `verification:`, `grace:` and `danger:`: whose tokens are taken, and how it is known that their subjects are alive.

use sts_core::ident::{Audience, ClusterName};
use sts_core::liveness::Grace;

use crate::reader::{Section, parse_duration};

/// How it is known that the subject of a token is alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verification {
    /// By nothing but the token: for issuers whose API server cannot be asked.
    Jwks,
    /// By a TokenReview.
    TokenReview,
    /// By a watch of pods and ServiceAccounts.
    Watch,
}

impl Verification {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "jwks" => Ok(Self::Jwks),
            "tokenReview" => Ok(Self::TokenReview),
            "watch" => Ok(Self::Watch),
            _ => Err("is none of tokenReview, watch and jwks"),
        }
    }

    /// Whether the labels of pods and namespaces can be known, so that rules can ask for them: where the API server can be asked.
    pub const fn knows_labels(self) -> bool {
        match self {
            Self::Jwks => false,
            Self::TokenReview | Self::Watch => true,
        }
    }

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwks => "jwks",
            Self::TokenReview => "tokenReview",
            Self::Watch => "watch",
        }
    }
}

/// What an operator may write against our advice, each with a warning at the start and in the metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Danger {
    /// The API server's own audiences: pods' default tokens are taken too.
    pub api_server_audiences: Vec<Audience>,
}

pub(super) struct VerificationPart {
    pub(super) verification: Verification,
    /// Empty: all.
    pub(super) clusters: Vec<ClusterName>,
    pub(super) grace: Grace,
    pub(super) danger: Danger,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<VerificationPart> {
    let verification = section.or(
        "verification",
        Verification::parse,
        Verification::TokenReview,
    );
    let clusters = read_names(section);
    let grace = section.or("grace", parse_grace, Grace::default());
    let danger = match section.section("danger") {
        Some(danger) => read_danger(danger),
        None => Some(Danger::default()),
    };
    let offline = verification == Some(Verification::Jwks);
    if offline && grace.is_some_and(|grace| !grace.get().is_zero()) {
        let at = section.place_of("grace");
        section.error(
            at,
            "means nothing with `verification: jwks`, which asks nobody: leave it out",
        );
    }
    Some(VerificationPart {
        verification: verification?,
        clusters: clusters?,
        grace: grace?,
        danger: danger?,
    })
}

fn read_names(section: &mut Section<'_>) -> Option<Vec<ClusterName>> {
    if !section.has("clusters") {
        section.pass_over("clusters");
        return Some(Vec::new());
    }
    let place = section.place_of("clusters");
    let texts = section.texts("clusters")?;
    let parse = |text: &String| {
        ClusterName::parse(text).map_err(|error| format!("names {text:?}, which {error}"))
    };
    match texts.iter().map(parse).collect() {
        Ok(names) => Some(names),
        Err(message) => {
            section.error(place, message);
            None
        }
    }
}

fn parse_grace(text: &str) -> Result<Grace, String> {
    Grace::new(parse_duration(text)?).ok_or_else(|| {
        format!(
            "{text} is longer than {} s: write `verification: jwks` for a cluster that cannot be asked",
            Grace::LONGEST.as_secs()
        )
    })
}

fn read_danger(mut section: Section<'_>) -> Option<Danger> {
    let place = section.place_of("apiServerAudiences");
    let texts = section.texts("apiServerAudiences");
    let parse = |text: &String| {
        Audience::parse(text).map_err(|error| format!("has {text:?}, which {error}"))
    };
    let audiences =
        texts.and_then(
            |texts| match texts.iter().map(parse).collect::<Result<Vec<_>, _>>() {
                Ok(audiences) => Some(audiences),
                Err(message) => {
                    section.error(place.clone(), message);
                    None
                }
            },
        );
    if audiences.is_some() {
        section.warning(
            place,
            "takes pods' default tokens: whoever can read one, in any container of the pod or anywhere it was ever sent, can use it \
             here for as long as the pod lives",
        );
    }
    section.finish()?;
    Some(Danger {
        api_server_audiences: audiences?,
    })
}
