//! `key:` how an endpoint's keys follow one another, and `documents:` what relying parties are told of them.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{parse_https, parse_path};
use crate::problem::Place;
use crate::reader::{Section, parse_duration};

/// How keys follow one another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// After how long an active key is replaced; `None`: only when somebody asks.
    pub every: Option<Duration>,
    /// How far relying parties' clocks may be from ours.
    pub clock_skew: Duration,
    /// How old a replica's knowledge of its keys may be for it to sign.
    pub stale_after: Duration,
    /// The most keys that are published at once.
    pub most_keys: usize,
}

/// What relying parties are told of an endpoint's keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Documents {
    /// How long they may keep the documents: `Cache-Control: max-age`.
    pub max_age: Duration,
    /// Whether and how the documents are read back from the public issuer.
    pub read_back: Option<ReadBack>,
}

/// How the documents are read back from the public issuer, as a relying party reads them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadBack {
    /// Where the issuer is reached from here, if its own URL does not lead there: what stands in for it in the documents' URLs.
    pub address: Option<String>,
    /// What its certificate is trusted by, PEM; `None`: what browsers trust.
    pub ca_file: Option<PathBuf>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            every: None,
            clock_skew: Duration::from_secs(60),
            stale_after: Duration::from_secs(60),
            most_keys: 10,
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            read_back: None,
        }
    }
}

impl Rotation {
    /// Reads the keys of the section `key` that say how keys follow one another.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = Self::default();
        let has_every = section.has("rotateEvery");
        let every = section.optional("rotateEvery", |text| parse_between(text, SECOND, TEN_YEARS));
        if every.is_some_and(|every| every < DAY) {
            let place = section.place_of("rotateEvery");
            section.warning(
                place,
                "is less than a day: relying parties may get to see more keys than they take",
            );
        }
        let clock_skew = section.or(
            "clockSkew",
            |text| parse_between(text, SECOND, HOUR),
            default.clock_skew,
        );
        let stale_after = section.or(
            "staleAfter",
            |text| parse_between(text, SECOND, HOUR),
            default.stale_after,
        );
        let most_keys = section.or("mostKeys", parse_most, default.most_keys);
        if has_every && every.is_none() {
            return None;
        }
        Some(Self {
            every,
            clock_skew: clock_skew?,
            stale_after: stale_after?,
            most_keys: most_keys?,
        })
    }
}

impl Documents {
    /// Reads the section `documents` of an endpoint or a cluster. What we publish ourselves is read back unless somebody says not to.
    pub(crate) fn read(endpoint: &mut Section<'_>) -> Option<Self> {
        let published = endpoint.has("publish");
        if !endpoint.has("documents") {
            endpoint.pass_over("documents");
            return Some(Self {
                read_back: published.then(ReadBack::default),
                ..Self::default()
            });
        }
        let mut section = endpoint.section("documents")?;
        let max_age = section.or(
            "maxAge",
            |text| parse_between(text, SECOND, DAY),
            Self::default().max_age,
        );
        let read_back = section.or("readBack", parse_read_back, published.then_some(None));
        let place: Place = section.place_of("caFile");
        let ca_file = section.optional("caFile", parse_path);
        let read_back = match (read_back, ca_file) {
            (Some(Some(address)), ca_file) => Some(Some(ReadBack { address, ca_file })),
            (Some(None), None) => Some(None),
            (Some(None), Some(_)) => {
                section.error(place, "is for reading back: write `readBack: true` too");
                None
            }
            (None, _) => None,
        };
        section.finish()?;
        Some(Self {
            max_age: max_age?,
            read_back: read_back?,
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);

fn parse_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if (least..=most).contains(&duration) {
        Ok(Duration::from_secs(duration.as_secs()))
    } else {
        Err(format!(
            "{text} is not between {} and {}",
            shown(least),
            shown(most)
        ))
    }
}

fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        days if days > 86_400 => format!("{}d", days / 86_400),
        86_400 => "24h".to_owned(),
        3600 => "1h".to_owned(),
        seconds => format!("{seconds}s"),
    }
}

/// `true` is the issuer's own URL; a URL stands in for it.
#[expect(
    clippy::option_option,
    reason = "no reading back, from the issuer itself, and from elsewhere are three cases"
)]
fn parse_read_back(text: &str) -> Result<Option<Option<String>>, String> {
    match text {
        "false" => Ok(None),
        "true" => Ok(Some(None)),
        _ => match parse_https(text) {
            Ok(url) => Ok(Some(Some(url.trim_end_matches('/').to_owned()))),
            Err(error) => Err(format!("is neither true nor false, and {error}")),
        },
    }
}

/// A rotation needs three: the old key, the new one, and one that is on its way out. AWS reads 100.
fn parse_most(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(most) if (3..=100).contains(&most) => Ok(most),
        Ok(_) | Err(_) => Err(format!("{text:?} is no number from 3 to 100")),
    }
}
