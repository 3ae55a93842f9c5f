//! `clusters:` the issuers whose tokens are taken.

use std::collections::HashSet;
use std::path::PathBuf;

use sts_core::ident::{ClusterName, Issuer};

use crate::problem::Place;
use crate::problem::Problems;
use crate::reader::Section;

/// A cluster: the name that rules and claims know it by, and where its public keys come from.
#[derive(Debug)]
pub struct Cluster {
    /// The `cluster` attribute and claim.
    pub name: ClusterName,
    /// The `iss` of its tokens; `None` where the API server says it itself.
    pub issuer: Option<Issuer>,
    /// Where its JWK Set comes from.
    pub jwks: JwksSource,
    /// Where it stands in the file.
    pub place: Place,
}

/// Where a cluster's JWK Set comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JwksSource {
    /// The API server this program runs under, with its own credentials.
    ApiServer,
    /// A file, read again when a token names a key it does not have.
    File(PathBuf),
    /// An HTTPS URL. No credentials are sent and no redirect is followed.
    Url {
        /// The document's address.
        url: String,
        /// PEM certificates to trust instead of the public ones.
        ca_file: Option<PathBuf>,
    },
}

impl Cluster {
    pub(crate) fn read(mut section: Section<'_>) -> Option<Self> {
        let place = section.place().clone();
        let name = section.required("name", ClusterName::parse);
        let issuer_written = section.has("issuer");
        let issuer = section.optional("issuer", Issuer::parse);
        let jwks = section.section("jwks");
        if jwks.is_none() {
            let at = section.place_of("jwks");
            section.error(
                at,
                "is missing: write one of `apiServer: {}`, `file: PATH`, `url: https://…`",
            );
        }
        let jwks = jwks.and_then(JwksSource::read);
        if !issuer_written
            && jwks
                .as_ref()
                .is_some_and(|jwks| *jwks != JwksSource::ApiServer)
        {
            let at = section.place_of("issuer");
            section.error(
                at,
                "is missing: a key set from a file or URL does not say whose it is",
            );
        }
        section.finish()?;
        Some(Self {
            name: name?,
            issuer,
            jwks: jwks?,
            place,
        })
    }
}

impl JwksSource {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let api_server = section
            .section("apiServer")
            .map(|part| part.finish().map(|()| Self::ApiServer));
        let file = section
            .optional("file", parse_path)
            .map(|path| Some(Self::File(path)));
        let ca_file = section.optional("caFile", parse_path);
        let url = section.optional("url", parse_https);
        let url = url.map(|url| Some(Self::Url { url, ca_file }));
        let place = section.place().clone();
        let mut sources: Vec<_> = [api_server, file, url].into_iter().flatten().collect();
        let source = if sources.len() == 1 {
            sources.pop().flatten()
        } else {
            None
        };
        if source.is_none() {
            section.error(
                place,
                "needs exactly one of `apiServer: {}`, `file: PATH` and `url: https://…`",
            );
        }
        section.finish()?;
        source
    }
}

pub(crate) fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        Err("is empty: write a file's path")
    } else {
        Ok(PathBuf::from(text))
    }
}

/// An HTTPS URL without credentials, query or fragment.
pub(crate) fn parse_https(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "is no https:// URL without user, query and fragment";
    let url = url::Url::parse(text).or(Err(WRONG))?;
    let plain = url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.host_str().is_some();
    if plain {
        Ok(text.to_owned())
    } else {
        Err(WRONG)
    }
}

pub(crate) fn check_distinct(clusters: &[Cluster], problems: &Problems) {
    let mut names = HashSet::new();
    let mut issuers = HashSet::new();
    for cluster in clusters {
        if !names.insert(&cluster.name) {
            problems.error(cluster.place.key("name"), "is another cluster's name too");
        }
        if !issuers.insert(&cluster.issuer) {
            problems.error(
                cluster.place.key("issuer"),
                "is another cluster's issuer too",
            );
        }
    }
}
