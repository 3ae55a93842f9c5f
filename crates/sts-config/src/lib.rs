//! The configuration file that `sts-server` and `injector` share: YAML in, checked types out.
//!
//! The file is read once into a tree that knows its lines, and then key by key, so that one run reports *every* problem with its
//! place and its remedy: unknown keys, bad values, and what two parts of the file say against each other. Nothing in here does I/O but
//! [`ConfigFile::load`].
//!
//! Start at [`Config`]; `docs/samples/` holds files that the tests of this crate load.

mod cluster;
mod endpoint;
mod fixed;
mod injector;
mod problem;
mod publish;
mod reader;
mod server;
mod tls;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use cluster::{ApiServer, Cluster, JwksSource, KubeconfigSource};
pub use endpoint::{
    AnnotationShape, CompanionFile, Danger, Documents, Endpoint, EndpointPath, Injection,
    InjectionMode, KeySource, ReadBack, Rotation, SigningAlgorithm, Verification, WithoutCluster,
    WrittenRule,
};
pub use fixed::{injector_needs_restart, server_needs_restart};
pub use injector::{
    AllowedRoles, ContainerCredentialsConfig, Gate, InjectorConfig, LookupFailure,
    ServiceAccountConfig, SessionName, SidecarConfig, SidecarForm,
};
pub use problem::{Place, Problem};
pub use publish::{ClusterPublish, PublicStore, Publish, S3Store, WebIdentity, Writes};
pub use server::{RateLimit, ServerConfig, ServiceUrl};
pub use tls::{CertificateRotation, ServingTls};

use reader::Section;

/// A configuration that can be run: parsed once for each version of the file.
#[derive(Debug)]
pub struct Config {
    /// Where sidecars reach the STS; `None` where nobody is told, in a standalone server whose endpoints name their audiences.
    pub url: ServiceUrl,
    /// The issuers whose tokens are taken, with the names rules and claims know them by.
    pub clusters: Vec<Cluster>,
    /// The endpoints, in the file's order. Names, paths, token audiences and labels are distinct.
    pub endpoints: Vec<Endpoint>,
    /// How `sts-server` serves; `None` in a file that has no such part.
    pub server: Option<ServerConfig>,
    /// How `injector` serves, and what it injects.
    pub injector: Option<InjectorConfig>,
    /// What can be run but is hardly meant. Both programs log these at their start.
    pub warnings: Vec<Problem>,
}

/// A file, as it was read at a program's start, and what it says.
#[derive(Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it says.
    pub config: Config,
}

impl ConfigFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let config = Config::parse(&text)?;
        Ok(Self {
            path: path.to_owned(),
            text,
            config,
        })
    }
}

/// Why a configuration cannot be run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file says things that cannot be.
    #[error("{}", problem::list(.0))]
    Invalid(Vec<Problem>),
    /// The file cannot be read.
    #[error("{path}: cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl Config {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        ConfigFile::load(path).map(|file| file.config)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem of the text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let root = reader::parse(text).map_err(|problem| ConfigError::Invalid(vec![problem]))?;
        let problems = problem::Problems::default();
        let config = Section::root(&root, &problems).and_then(|root| read(root, &problems));
        let (errors, warnings) = problems.into_parts();
        match config {
            Some(config) if errors.is_empty() => Ok(Self { warnings, ..config }),
            Some(_) | None => Err(ConfigError::Invalid(errors)),
        }
    }
}

fn read(mut root: Section<'_>, problems: &problem::Problems) -> Option<Config> {
    let url = root.required("url", ServiceUrl::parse);
    let clusters = root.list("clusters", Cluster::read);
    let endpoints = root.list("endpoints", |entry| Endpoint::read(entry, url.as_ref()));
    let server = root.section("server").map(ServerConfig::read);
    let injector = root.section("injector").map(InjectorConfig::read);
    let whole = root.finish();
    let clusters = clusters?.into_iter().collect::<Option<Vec<_>>>();
    let mut endpoints = endpoints?.into_iter().collect::<Option<Vec<_>>>();
    // The cross-checks run on whatever could be read, so that they are reported with the rest.
    if let (Some(clusters), Some(endpoints)) = (&clusters, &mut endpoints) {
        endpoint::check_distinct(endpoints, problems);
        publish::check_distinct(clusters, endpoints, problems);
        cluster::check_clusters(clusters, problems);
        cluster::resolve(clusters, endpoints, problems);
        endpoint::check_each(endpoints, problems);
    }
    if let Some(endpoints) = &endpoints {
        let accounts = injector.as_ref().and_then(Option::as_ref);
        let accounts = accounts.and_then(|injector| injector.service_accounts.as_ref());
        endpoint::check_injection(endpoints, accounts, problems);
    }
    let server = flatten(server)?;
    let injector = flatten(injector)?;
    whole?;
    Some(Config {
        url: url?,
        clusters: clusters?,
        endpoints: endpoints?,
        server,
        injector,
        warnings: Vec::new(),
    })
}

/// A part that is absent is fine; one that is there must have been read.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
fn flatten<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        None => Some(None),
        Some(Some(part)) => Some(Some(part)),
        Some(None) => None,
    }
}

#[cfg(test)]
mod tests;
