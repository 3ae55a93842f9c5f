//! `url:` and `server:`, how the token service is reached and serves.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::cluster::parse_https;
use crate::reader::Section;
use crate::tls::{CertificateRotation, ServingTls};

/// The address sidecars reach the STS at: https, no path, no trailing slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// Parses the URL.
    ///
    /// # Errors
    /// A clause that says what to write.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const PATH: &str =
            "has a path or a trailing slash: write https://host or https://host:port";
        let url = parse_https(text)?;
        let authority = url.strip_prefix("https://").ok_or(PATH)?;
        if authority.contains('/') {
            Err(PATH)
        } else {
            Ok(Self(url))
        }
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone, as it must stand in the serving certificate.
    pub fn host(&self) -> String {
        let host = url::Url::parse(&self.0)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        host.unwrap_or_default()
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How `sts-server` serves.
#[derive(Debug)]
pub struct ServerConfig {
    /// Tokens and issuer documents, HTTPS.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`, plain HTTP.
    pub admin_listen: SocketAddr,
    /// The serving certificate.
    pub tls: ServingTls,
    /// How often one caller may come.
    pub rate_limit: RateLimit,
    /// The ConfigMap in our namespace with the public record of all signing keys, if any.
    pub key_ledger: Option<String>,
}

/// How often one caller may come, in exchanges a second; twice as many at once. `None`: as often as it likes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// For one address that requests come from, before anything is looked at.
    pub per_address: Option<NonZeroU32>,
    /// For one pod, once its token was verified and a rule allows it.
    pub per_pod: Option<NonZeroU32>,
}

impl RateLimit {
    /// Far above what sidecars need, even of a node that hides its pods' addresses behind its own.
    const PER_ADDRESS: u32 = 200;
    /// A sidecar comes twice in a lifetime.
    const PER_POD: u32 = 5;

    fn read(section: Option<Section<'_>>) -> Option<Self> {
        let default = Self {
            per_address: NonZeroU32::new(Self::PER_ADDRESS),
            per_pod: NonZeroU32::new(Self::PER_POD),
        };
        let Some(mut section) = section else {
            return Some(default);
        };
        let per_address = section.or("perAddress", parse_rate, default.per_address);
        let per_pod = section.or("perPod", parse_rate, default.per_pod);
        section.finish()?;
        Some(Self {
            per_address: per_address?,
            per_pod: per_pod?,
        })
    }
}

/// Requests a second; zero is no limit.
fn parse_rate(text: &str) -> Result<Option<NonZeroU32>, String> {
    let number: Option<u32> = text.parse().ok();
    number
        .filter(|number| *number <= 1_000_000)
        .map(NonZeroU32::new)
        .ok_or_else(|| {
            format!("{text:?} is no number of exchanges a second; 0 stands for no limit")
        })
}

#[expect(
    clippy::map_err_ignore,
    reason = "the standard library's message says less than ours"
)]
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no address and port: write 0.0.0.0:8443 or [::]:8443"))
}

/// How a program serves, which both say with the same keys: `listen`, `adminListen`, `tls`.
pub(crate) struct Serving {
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) tls: ServingTls,
}

impl Serving {
    /// `rotation` is what stands in where the file does not say when CAs follow each other.
    pub(crate) fn read(section: &mut Section<'_>, rotation: CertificateRotation) -> Option<Self> {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let listen = section.or("listen", parse_address, any(8443));
        let admin_listen = section.or("adminListen", parse_address, any(8081));
        let tls = ServingTls::read(section, rotation);
        Some(Self {
            listen: listen?,
            admin_listen: admin_listen?,
            tls: tls?,
        })
    }
}

impl ServerConfig {
    pub(crate) fn read(mut section: Section<'_>) -> Option<Self> {
        let serving = Serving::read(&mut section, CertificateRotation::FOR_SIDECARS);
        let rate_limit = RateLimit::read(section.section("rateLimit"));
        let key_ledger = section.optional("keyLedger", parse_object_name);
        section.finish()?;
        let Serving {
            listen,
            admin_listen,
            tls,
        } = serving?;
        Some(Self {
            listen,
            admin_listen,
            tls,
            rate_limit: rate_limit?,
            key_ledger,
        })
    }
}

/// The name of a Secret or ConfigMap: a DNS subdomain, as Kubernetes has it.
pub(crate) fn parse_object_name(text: &str) -> Result<String, String> {
    sts_core::ident::PodName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| format!("{text:?} {error}"))
}
