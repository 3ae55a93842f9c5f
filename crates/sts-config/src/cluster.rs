//! `clusters:` the issuers whose tokens are taken.

mod api_server;
mod distinct;

use std::path::PathBuf;

use sts_core::ident::{ClusterName, Issuer};

use crate::problem::Place;
use crate::publish::ClusterPublish;
use crate::reader::Section;

pub use api_server::{ApiServer, KubeconfigSource};
pub(crate) use distinct::{check_clusters, resolve};

/// A cluster: the name that rules and claims know it by, where its public keys come from, and how its API server is reached.
#[derive(Debug)]
pub struct Cluster {
    /// The `cluster` attribute and claim.
    pub name: ClusterName,
    /// The `iss` of its tokens; `None` where the API server we run under says it itself.
    pub issuer: Option<Issuer>,
    /// Where its JWK Set comes from.
    pub jwks: JwksSource,
    /// Its API server, for key set, TokenReview and watch; `None` for a cluster that cannot be called.
    pub api_server: Option<ApiServer>,
    /// Where the cluster's own issuer documents are published; `None`: nowhere.
    pub publish: Option<ClusterPublish>,
    /// Where it stands in the file.
    pub place: Place,
}

/// Where a cluster's JWK Set comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JwksSource {
    /// The cluster's API server.
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
        let jwks = jwks.and_then(read_jwks);
        let kubeconfig = section.section("kubeconfig").map(KubeconfigSource::read);
        let kubeconfig_written = kubeconfig.is_some();
        let api_server = api_server::choose(
            jwks.as_ref().and_then(|(_, server)| server.clone()),
            kubeconfig.flatten(),
        );
        if jwks.as_ref().is_some_and(|(_, server)| {
            kubeconfig_written && matches!(server, Some(ApiServer::At { .. }))
        }) {
            let at = section.place_of("kubeconfig");
            section.error(at, "and jwks.apiServer.url both name the API server: write `jwks: {apiServer: {}}` to use the kubeconfig");
        }
        let own = api_server == Some(ApiServer::Own) && !kubeconfig_written;
        if !issuer_written && jwks.is_some() && !own {
            let at = section.place_of("issuer");
            section.error(
                at,
                "is missing: only the API server we run under is believed when it says whose its tokens are",
            );
        }
        let publish = ClusterPublish::read(&mut section, issuer.as_ref(), api_server.is_some());
        section.finish()?;
        Some(Self {
            name: name?,
            issuer,
            jwks: jwks?.0,
            api_server,
            publish: publish?,
            place,
        })
    }
}

/// The source, and the API server it names if it is one.
fn read_jwks(mut section: Section<'_>) -> Option<(JwksSource, Option<ApiServer>)> {
    let api_server = section
        .section("apiServer")
        .map(|part| Some((JwksSource::ApiServer, Some(ApiServer::read(part)?))));
    let file = section
        .optional("file", parse_path)
        .map(|path| Some((JwksSource::File(path), None)));
    let ca_file = section.optional("caFile", parse_path);
    let url = section.optional("url", parse_https);
    let url = url.map(|url| Some((JwksSource::Url { url, ca_file }, None)));
    let place = section.place().clone();
    let mut sources: Vec<_> = [api_server, file, url].into_iter().flatten().collect();
    let source = if sources.len() == 1 {
        sources.pop().flatten()
    } else {
        section.error(
            place,
            "needs exactly one of `apiServer: {}`, `file: PATH` and `url: https://…`",
        );
        None
    };
    section.finish()?;
    source
}

pub(crate) fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        Err("is empty: write a file's path")
    } else {
        Ok(PathBuf::from(text))
    }
}

/// An HTTPS URL without credentials, query or fragment, all of it ASCII: relying parties compare issuers byte by byte.
pub(crate) fn parse_https(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "is no https:// URL without user, query and fragment";
    if !text.is_ascii() {
        return Err("has characters that are not ASCII: write the xn-- form of a host");
    }
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
