//! How a cluster's API server is reached.

use std::path::PathBuf;

use super::{parse_https, parse_path};
use crate::reader::Section;
use crate::server::parse_object_name;

/// How a cluster's API server is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApiServer {
    /// At an address, with a certificate authority and a bearer token from files, which are read afresh.
    At {
        /// The API server's address.
        url: String,
        /// PEM certificates to trust.
        ca_file: PathBuf,
        /// Our credential there.
        token_file: PathBuf,
    },
    /// As a kubeconfig says.
    Kubeconfig(KubeconfigSource),
    /// The one this program runs under, with its own credentials.
    Own,
}

/// Where a kubeconfig is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KubeconfigSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// The key `kubeconfig` of a Secret in our namespace, followed.
    Secret(String),
}

impl ApiServer {
    /// `apiServer: {}`, or an address with what it needs.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        const KEYS: [&str; 3] = ["url", "caFile", "tokenFile"];
        if !KEYS.iter().any(|key| section.has(key)) {
            for key in KEYS {
                section.pass_over(key);
            }
            section.finish()?;
            return Some(Self::Own);
        }
        let url = section.required("url", parse_https);
        let ca_file = section.required("caFile", parse_path);
        let token_file = section.required("tokenFile", parse_path);
        section.finish()?;
        Some(Self::At {
            url: url?,
            ca_file: ca_file?,
            token_file: token_file?,
        })
    }
}

impl KubeconfigSource {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let secret = section.optional("secret", parse_object_name);
        let file = section.optional("file", parse_path);
        let place = section.place().clone();
        let source = match (secret, file) {
            (Some(name), None) => Some(Self::Secret(name)),
            (None, Some(path)) => Some(Self::File(path)),
            (Some(_), Some(_)) | (None, None) => {
                section.error(
                    place,
                    "needs exactly one of `secret: NAME` and `file: PATH`",
                );
                None
            }
        };
        section.finish()?;
        source
    }
}

/// A kubeconfig goes before `apiServer: {}`, which alone means the API server we run under.
pub(super) fn choose(
    jwks: Option<ApiServer>,
    kubeconfig: Option<KubeconfigSource>,
) -> Option<ApiServer> {
    kubeconfig.map(ApiServer::Kubeconfig).or(jwks)
}
