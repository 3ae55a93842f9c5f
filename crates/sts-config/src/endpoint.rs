//! `endpoints:` what is issued to whom. Our own form and OpenUnison's are read alike.

mod claims;
mod distinct;
mod files;
mod injection;
mod issuer;
mod roles;
mod rotation;
mod rules;
mod verification;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sts_core::claims::{SubjectTemplate, TokenTemplate};
use sts_core::ident::{Audience, ClusterName, EndpointName};
pub use sts_core::keys::Algorithm as SigningAlgorithm;
use sts_core::liveness::Grace;
use sts_core::policy::Policy;
use sts_core::time::Lifetime;

use crate::problem::{Place, Problems};
use crate::publish::Publish;
use crate::reader::{Section, parse_duration};
use crate::server::ServiceUrl;

pub(crate) use distinct::check_distinct;
pub use files::CompanionFile;
pub(crate) use injection::check_injection;
pub use injection::{AnnotationShape, Injection, InjectionMode};
pub use roles::WithoutCluster;
pub use rotation::{Documents, ReadBack, Rotation};
pub use rules::WrittenRule;
pub use verification::{Danger, Verification};

/// One endpoint: its own path, issuer, key, rules.
#[derive(Debug)]
pub struct Endpoint {
    /// The name that audit lines, metrics and files carry.
    pub name: EndpointName,
    /// Where its routes begin.
    pub path: EndpointPath,
    /// The audience a pod's token must have to be exchanged here, and no other.
    pub token_audience: Audience,
    /// What issued tokens have in common.
    pub template: TokenTemplate,
    /// The key that signs them.
    pub key: KeySource,
    /// The clusters whose tokens it takes, by name.
    pub clusters: Vec<ClusterName>,
    /// How that key is followed by others.
    pub rotation: Rotation,
    /// What relying parties are told of the keys.
    pub documents: Documents,
    /// How it is known that a subject is alive.
    pub verification: Verification,
    /// How long the API server's last word counts while it does not answer.
    pub grace: Grace,
    /// What was written against our advice.
    pub danger: Danger,
    /// Who may have a token, and for which role.
    pub policy: Policy,
    /// The rules in it, with their places.
    pub written: Vec<WrittenRule>,
    /// The role patterns that do not name the subject's cluster, nor are for everybody.
    pub without_cluster: Vec<WithoutCluster>,
    /// How pods ask for it; `None` for an endpoint that no pod is changed for.
    pub injection: Option<Injection>,
    /// Where its issuer's documents are published; `None`: nowhere.
    pub publish: Option<Publish>,
    /// Where it stands in the file.
    pub place: Place,
}

/// Where an endpoint's routes begin: `/` alone, or segments of letters, digits, `-`, `_`, `.`, without a slash at the end.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EndpointPath(String);

impl EndpointPath {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let segment = |segment: &str| {
            let inner =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(inner)
        };
        if text == "/" {
            return Ok(Self(String::new()));
        }
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(
                "is no path such as /aws: letters, digits, `-`, `_` and `.`, no slash at the end",
            ),
        }
    }

    /// The prefix of the endpoint's routes: empty for `/`.
    pub fn prefix(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// Where an endpoint's private key is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum KeySource {
    /// A PEM file.
    File {
        /// The file.
        path: PathBuf,
        /// What it signs with.
        algorithm: SigningAlgorithm,
        /// Whether to make the key if the file is absent.
        create: bool,
    },
    /// A Secret in our namespace; filled at first start if it is empty.
    Secret {
        /// The Secret's name.
        name: String,
        /// What the key signs with.
        algorithm: SigningAlgorithm,
    },
}

impl Endpoint {
    pub(crate) fn read(mut section: Section<'_>, url: Option<&ServiceUrl>) -> Option<Self> {
        let place = section.place().clone();
        let name = section.required("name", EndpointName::parse);
        let path = section.required("path", EndpointPath::parse);
        let audience = section.required("audience", Audience::parse);
        let issuer = issuer::read(&mut section);
        let default_subject = issuer
            .as_ref()
            .map_or_else(SubjectTemplate::service_account, |issuer| {
                issuer.subject.clone()
            });
        let claims = claims::read(&mut section, default_subject);
        let lifetime = section.or("lifetime", parse_lifetime, Lifetime::new(DEFAULT_LIFETIME)?);
        let verification = verification::read(&mut section);
        let documents = Documents::read(&mut section);
        let token_audience = read_token_audience(&mut section, url, path.as_ref());
        let subjects = rules::read(&mut section);
        let roles = roles::read(&mut section);
        let injection = injection::read(&mut section);
        let publish = Publish::read(&mut section);
        // Discovery and JWKS are always served under the endpoint's path, so that both values of OpenUnison's mean the same.
        section.pass_over("host_in_openunison");
        section.finish()?;
        let (subjects, mut written) = subjects?;
        let roles = roles?;
        written.extend(roles.rules);
        let claims = claims?;
        let issuer = issuer?;
        let verification = verification?;
        Some(Self {
            name: name?,
            path: path?,
            token_audience: token_audience?,
            template: TokenTemplate {
                issuer: issuer.issuer,
                audience: audience?,
                lifetime: lifetime?,
                subject: claims.subject,
                additional: claims.additional,
                aws: claims.aws,
            },
            key: issuer.key,
            rotation: issuer.rotation,
            documents: documents?,
            clusters: verification.clusters,
            verification: verification.verification,
            grace: verification.grace,
            danger: verification.danger,
            policy: Policy::new(subjects).with_roles(roles.bindings),
            written,
            without_cluster: roles.without_cluster,
            injection: injection?,
            publish: publish?,
            place,
        })
    }
}

/// OpenUnison's fixed lifetime.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(900);

fn parse_lifetime(text: &str) -> Result<Lifetime, String> {
    Lifetime::new(parse_duration(text)?).ok_or_else(|| format!("{text} is not between 1m and 24h"))
}

/// The endpoint's own token audience, by default its address: one audience for several endpoints would let a token for one be used
/// at another.
fn read_token_audience(
    section: &mut Section<'_>,
    url: Option<&ServiceUrl>,
    path: Option<&EndpointPath>,
) -> Option<Audience> {
    if section.has("tokenAudience") {
        return section.optional("tokenAudience", Audience::parse);
    }
    section.pass_over("tokenAudience");
    let (url, path) = (url?, path?);
    Audience::parse(&format!("{url}{}", path.prefix())).ok()
}

/// What can only be said of endpoints once the clusters are known.
pub(crate) fn check_each(endpoints: &[Endpoint], problems: &Problems) {
    for endpoint in endpoints {
        rules::check(endpoint, problems);
        roles::check(endpoint, problems);
        claims::check(endpoint, problems);
    }
}
