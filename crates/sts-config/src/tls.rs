//! `tls:` where a serving certificate comes from, and when our own CAs follow each other.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::parse_path;
use crate::reader::{Section, parse_duration};
use crate::server::parse_object_name;

/// Where a serving certificate comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServingTls {
    /// Made for this run and held in memory; its CA's certificate is written to a file.
    Ephemeral {
        /// The DNS names in it.
        names: Vec<String>,
        /// Where the CA's certificate goes, PEM.
        ca_file: PathBuf,
    },
    /// Somebody else's, in files that are read again when they change.
    Files {
        /// The certificate chain, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// Ours, in a Secret that all replicas share.
    Secret {
        /// The Secret's name, in our namespace.
        name: String,
        /// The ConfigMap in our namespace that the CA's certificate is published in, if any.
        ca_config_map: Option<String>,
        /// When certificates are renewed and CAs follow each other.
        rotation: CertificateRotation,
    },
}

/// When certificates are renewed and CAs follow each other. Invariant: the times leave room for each other, which `read` checks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CertificateRotation {
    /// How long a CA's own certificate is valid.
    pub authority_lifetime: Duration,
    /// How long a serving certificate is valid; it is renewed when two thirds of that are over.
    pub certificate_lifetime: Duration,
    /// How long a CA issues certificates before its successor does.
    pub rotate_every: Duration,
    /// How long clients have been finding a successor before they meet a certificate of it.
    pub overlap: Duration,
    /// How long clients go on finding a CA after its successor took over.
    pub retire_after: Duration,
}

impl ServingTls {
    /// Reads the key `tls` of a section.
    pub(crate) fn read(parent: &mut Section<'_>, defaults: CertificateRotation) -> Option<Self> {
        let place = parent.place_of("tls");
        let Some(mut section) = parent.section("tls") else {
            parent.error(place, "is missing: write one of `secret: NAME`, `files: {certificate, key}`, `ephemeral: {names, caFile}`");
            return None;
        };
        let ca_config_map = section.optional("caConfigMap", parse_object_name);
        let rotation = match section.section("rotation") {
            Some(rotation) => CertificateRotation::read(rotation, defaults),
            None => Some(defaults),
        };
        let secret = section.optional("secret", parse_object_name);
        let secret = secret.map(|name| {
            Some(Self::Secret {
                name,
                ca_config_map,
                rotation: rotation?,
            })
        });
        let files = section.section("files").map(Self::read_files);
        let ephemeral = section.section("ephemeral").map(Self::read_ephemeral);
        let mut sources: Vec<_> = [secret, files, ephemeral].into_iter().flatten().collect();
        let source = if sources.len() == 1 {
            sources.pop().flatten()
        } else {
            None
        };
        if source.is_none() {
            section.error(place, "needs exactly one of `secret: NAME`, `files: {certificate, key}` and `ephemeral: {names, caFile}`");
        }
        section.finish()?;
        source
    }

    fn read_files(mut section: Section<'_>) -> Option<Self> {
        let certificate = section.required("certificate", parse_path);
        let key = section.required("key", parse_path);
        section.finish()?;
        Some(Self::Files {
            certificate: certificate?,
            key: key?,
        })
    }

    fn read_ephemeral(mut section: Section<'_>) -> Option<Self> {
        let names = section.texts("names");
        let ca_file = section.required("caFile", parse_path);
        section.finish()?;
        Some(Self::Ephemeral {
            names: names?,
            ca_file: ca_file?,
        })
    }
}

impl CertificateRotation {
    /// A sidecar knows the CAs of the day its pod was made, so an overlap has to outlast pods.
    pub(crate) const FOR_SIDECARS: Self = Self {
        authority_lifetime: days(1825),
        certificate_lifetime: days(90),
        rotate_every: days(730),
        overlap: days(365),
        retire_after: days(30),
    };

    /// kube-apiserver learns of a CA within a second; the rest of the hour is for one that is slow.
    pub(crate) const FOR_WEBHOOK: Self = Self {
        authority_lifetime: days(365),
        certificate_lifetime: days(90),
        rotate_every: days(180),
        overlap: Duration::from_secs(3600),
        retire_after: days(7),
    };

    fn read(mut section: Section<'_>, defaults: Self) -> Option<Self> {
        let mut read = |key, default| section.or(key, parse_duration, default);
        let authority_lifetime = read("authorityLifetime", defaults.authority_lifetime);
        let certificate_lifetime = read("certificateLifetime", defaults.certificate_lifetime);
        let rotate_every = read("rotateEvery", defaults.rotate_every);
        let overlap = read("overlap", defaults.overlap);
        let retire_after = read("retireAfter", defaults.retire_after);
        let this = Self {
            authority_lifetime: authority_lifetime?,
            certificate_lifetime: certificate_lifetime?,
            rotate_every: rotate_every?,
            overlap: overlap?,
            retire_after: retire_after?,
        };
        this.report(&mut section);
        section.finish()?;
        Some(this)
    }

    /// What cannot be: a CA that ends before its last certificate, or that is replaced before the one before it is gone.
    fn report(&self, section: &mut Section<'_>) {
        let Self {
            authority_lifetime,
            certificate_lifetime,
            rotate_every,
            overlap,
            retire_after,
        } = *self;
        if certificate_lifetime < SHORTEST_LIFETIME {
            let place = section.place_of("certificateLifetime");
            section.error(place, "is less than 1m: write at least that");
        }
        if authority_lifetime > LONGEST_LIFETIME {
            let place = section.place_of("authorityLifetime");
            section.error(place, "is more than 20 years: write at most 7300d");
        }
        let busy = overlap.saturating_add(retire_after);
        let busy = busy.max(Duration::from_secs(1));
        if rotate_every < busy {
            let place = section.place_of("rotateEvery");
            let message = format!(
                "is less than overlap and retireAfter together: write at least {}",
                render(busy)
            );
            section.error(place, message);
        }
        let used = overlap
            .saturating_add(rotate_every)
            .saturating_add(certificate_lifetime);
        if authority_lifetime < used {
            let place = section.place_of("authorityLifetime");
            let message = format!(
                "is less than overlap, rotateEvery and certificateLifetime together, so that a CA would end before its last \
                 certificate: write at least {}",
                render(used)
            );
            section.error(place, message);
        }
        if overlap < SHORTEST_OVERLAP {
            let place = section.place_of("overlap");
            let message = "is less than 10s: a client that is slow to learn of a new CA will refuse its certificates";
            section.warning(place, message);
        }
    }
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// The least number of whole days or seconds.
fn render(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    if seconds.is_multiple_of(24 * 3600) {
        format!("{}d", seconds / (24 * 3600))
    } else {
        format!("{seconds}s")
    }
}

/// A second is the least that X.509 can tell; this leaves time to renew.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);
const LONGEST_LIFETIME: Duration = days(7300);
const SHORTEST_OVERLAP: Duration = Duration::from_secs(10);
