//! `publish:` where the documents of an endpoint's issuer, or of a cluster's own, are put for the outside world to read.

use std::collections::HashMap;
use std::path::PathBuf;

use sts_core::claims::OwnSubject;
use sts_core::ident::{Audience, Issuer};
use sts_core::publication::KeySetPlace;

use crate::cluster::{Cluster, parse_https, parse_path};
use crate::endpoint::{Documents, Endpoint};
use crate::problem::{Place, Problems};
use crate::reader::Section;
use crate::server::parse_object_name;

/// Where documents are published, and with whose rights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish {
    /// The store.
    pub store: PublicStore,
    /// What stands before the documents' own names in the store; `None`: the issuer's path, less the store's own name in it.
    pub prefix: Option<String>,
    /// Whether writes are made on the condition that nobody else wrote meanwhile.
    pub writes: Writes,
}

/// A place that documents are put in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicStore {
    /// A container of Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The container in it.
        container: String,
    },
    /// A ConfigMap in our namespace, for a web server to mount.
    ConfigMap {
        /// Its name.
        name: String,
    },
    /// A directory, of a volume that a web server serves.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// A bucket of Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
    },
    /// A bucket of S3, or of a store that speaks its protocol.
    S3(S3Store),
}

/// Whether a store takes conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// It does: `If-Match` and `If-None-Match`.
    Conditional,
    /// It does not: a replica that is slow may put older documents back for a moment.
    Unconditional,
}

/// A bucket of S3, or of a store that speaks its protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct S3Store {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The store's address if it is not AWS; buckets are segments of its paths.
    pub endpoint: Option<String>,
    /// What its certificate is trusted by, PEM; `None`: what browsers trust.
    pub ca_file: Option<PathBuf>,
    /// Credentials by a token of the endpoint itself; `None`: the usual chain.
    pub web_identity: Option<WebIdentity>,
    /// The CloudFront distribution whose copies are to be dropped after a change.
    pub cloud_front: Option<String>,
}

/// Credentials by a token of the endpoint itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebIdentity {
    /// The role that trusts the issuer; `None` for a store that has no roles.
    pub role_arn: Option<String>,
    /// The `sub` of the token: one that no pod can have.
    pub subject: OwnSubject,
    /// Its `aud`; `None`: the endpoint's.
    pub audience: Option<Audience>,
    /// The STS that takes it.
    pub sts: String,
}

impl Publish {
    /// Reads the key `publish` of a section.
    #[expect(
        clippy::option_option,
        reason = "absent, wrong and read are three cases"
    )]
    pub(crate) fn read(parent: &mut Section<'_>) -> Option<Option<Self>> {
        if !parent.has("publish") {
            parent.pass_over("publish");
            return Some(None);
        }
        let mut section = parent.section("publish")?;
        let place = section.place().clone();
        let prefix = section.optional("prefix", parse_prefix);
        let writes = section.or("conditionalWrites", parse_writes, None);
        let mut stores: Vec<_> = [
            section.section("s3").map(S3Store::read),
            section.section("gcs").map(read_gcs),
            section.section("azure").map(read_azure),
            section
                .optional("directory", parse_path)
                .map(|path| Some(PublicStore::Directory { path })),
            section
                .optional("configMap", parse_object_name)
                .map(|name| Some(PublicStore::ConfigMap { name })),
        ]
        .into_iter()
        .flatten()
        .collect();
        let one = stores.len() == 1;
        if !one {
            section.error(
                place,
                "needs exactly one of `s3`, `gcs`, `azure`, `directory` and `configMap`",
            );
        }
        let store = stores.pop().flatten();
        let writes = store
            .as_ref()
            .zip(writes)
            .and_then(|(store, writes)| choose_writes(&mut section, store, writes));
        section.finish()?;
        Some(Some(Self {
            store: store?,
            prefix,
            writes: writes?,
        }))
    }

    /// What stands before the documents' own names in the store, without slashes around it: empty for nothing.
    pub fn prefix(&self, issuer: &Issuer) -> String {
        if let Some(prefix) = &self.prefix {
            return prefix.clone();
        }
        let rest = issuer.as_str().trim_start_matches("https://");
        let path = rest
            .split_once('/')
            .map_or("", |(_, path)| path)
            .trim_matches('/');
        let own = match &self.store {
            PublicStore::Azure { container, .. } => container,
            PublicStore::Gcs { bucket } | PublicStore::S3(S3Store { bucket, .. }) => bucket,
            PublicStore::ConfigMap { .. } | PublicStore::Directory { .. } => {
                return path.to_owned();
            }
        };
        // https://storage.googleapis.com/BUCKET/a is the object `a` of the bucket.
        match path.strip_prefix(own.as_str()) {
            Some("") => String::new(),
            Some(behind) => behind.strip_prefix('/').unwrap_or(path).to_owned(),
            None => path.to_owned(),
        }
    }

    fn has_web_identity(&self) -> bool {
        matches!(&self.store, PublicStore::S3(s3) if s3.web_identity.is_some())
    }

    /// What people know the place by; equal for two that are one.
    pub fn place(&self, issuer: &Issuer) -> String {
        let store = match &self.store {
            PublicStore::Azure { account, container } => format!("azure {account}/{container}"),
            // Its entries have no prefix.
            PublicStore::ConfigMap { name } => return format!("ConfigMap {name}"),
            PublicStore::Directory { path } => path.display().to_string(),
            PublicStore::Gcs { bucket } => format!("gs://{bucket}"),
            PublicStore::S3(S3Store {
                bucket, endpoint, ..
            }) => {
                format!("{}/{bucket}", endpoint.as_deref().unwrap_or("s3:/"))
            }
        };
        format!("{store}/{}", self.prefix(issuer))
    }
}

/// How a cluster's own issuer documents are published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterPublish {
    /// Where, and with whose rights.
    pub publish: Publish,
    /// What relying parties are told of them.
    pub documents: Documents,
    /// Whether the place of the key set is ours to choose.
    pub key_set: KeySetPlace,
}

impl ClusterPublish {
    /// Reads the keys `publish`, `documents` and `rewriteJwksUri` of a cluster.
    #[expect(
        clippy::option_option,
        reason = "absent, wrong and read are three cases"
    )]
    pub(crate) fn read(
        cluster: &mut Section<'_>,
        issuer: Option<&Issuer>,
        has_api_server: bool,
    ) -> Option<Option<Self>> {
        let at = cluster.place_of("publish");
        let publish = Publish::read(cluster)?;
        let Some(publish) = publish else {
            return Some(None);
        };
        if issuer.is_none() {
            cluster.error(
                at.clone(),
                "needs the cluster's `issuer`: the URL that the documents are public under",
            );
        }
        if !has_api_server {
            cluster.error(
                at.clone(),
                "needs an API server to ask: write `jwks: {apiServer: {}}` or `kubeconfig`",
            );
        }
        if publish.has_web_identity() {
            cluster.error(
                at,
                "cannot use webIdentity, since its tokens are not ours: give credentials in the server's environment",
            );
        }
        let documents = Documents::read(cluster);
        let rewrite = cluster.flag("rewriteJwksUri");
        Some(Some(Self {
            publish,
            documents: documents?,
            key_set: if rewrite? {
                KeySetPlace::Rewritten
            } else {
                KeySetPlace::AsServed
            },
        }))
    }
}

impl S3Store {
    fn read(mut section: Section<'_>) -> Option<PublicStore> {
        refuse_credentials(&mut section);
        let bucket = section.required("bucket", parse_bucket);
        let region = section.or("region", parse_region, "us-east-1".to_owned());
        let endpoint = section.optional("endpoint", parse_endpoint);
        let ca_file = section.optional("caFile", parse_path);
        let cloud_front = section.optional("cloudFront", parse_distribution);
        let web_identity = section
            .section("webIdentity")
            .map(|part| WebIdentity::read(part, region.as_deref()));
        section.finish()?;
        Some(PublicStore::S3(Self {
            bucket: bucket?,
            region: region?,
            endpoint,
            ca_file,
            web_identity: crate::flatten(web_identity)?,
            cloud_front,
        }))
    }
}

impl WebIdentity {
    fn read(mut section: Section<'_>, region: Option<&str>) -> Option<Self> {
        let role_arn = section.optional("roleArn", parse_role);
        let subject = section.required("subject", OwnSubject::parse);
        let audience = section.optional("audience", Audience::parse);
        let regional = format!(
            "https://sts.{}.amazonaws.com",
            region.unwrap_or("us-east-1")
        );
        let sts = section.or("sts", parse_endpoint, regional);
        section.finish()?;
        Some(Self {
            role_arn,
            subject: subject?,
            audience,
            sts: sts?,
        })
    }
}

fn read_gcs(mut section: Section<'_>) -> Option<PublicStore> {
    refuse_credentials(&mut section);
    let bucket = section.required("bucket", parse_bucket);
    section.finish()?;
    Some(PublicStore::Gcs { bucket: bucket? })
}

fn read_azure(mut section: Section<'_>) -> Option<PublicStore> {
    refuse_credentials(&mut section);
    let account = section.required("account", parse_account);
    let container = section.required("container", parse_container);
    section.finish()?;
    Some(PublicStore::Azure {
        account: account?,
        container: container?,
    })
}

/// Two issuers in one place would undo each other's documents for ever.
pub(crate) fn check_distinct(clusters: &[Cluster], endpoints: &[Endpoint], problems: &Problems) {
    let of_clusters = clusters.iter().filter_map(|cluster| {
        let published = cluster.publish.as_ref()?;
        let place = published.publish.place(cluster.issuer.as_ref()?);
        Some((place, format!("cluster {}", cluster.name), &cluster.place))
    });
    let of_endpoints = endpoints.iter().filter_map(|endpoint| {
        let place = endpoint.publish.as_ref()?.place(&endpoint.template.issuer);
        Some((
            place,
            format!("endpoint {}", endpoint.name),
            &endpoint.place,
        ))
    });
    let mut seen: HashMap<String, String> = HashMap::new();
    for (store, whose, at) in of_clusters.chain(of_endpoints) {
        if let Some(first) = seen.get(&store) {
            problems.error(
                at.key("publish"),
                format!("is {store}, where the documents of {first} are published already: each needs its own place"),
            );
        } else {
            seen.insert(store, whose);
        }
    }
}

/// A ConfigMap and the clouds know conditions, a directory does not. Who asks for the impossible is told.
fn choose_writes(
    section: &mut Section<'_>,
    store: &PublicStore,
    asked: Option<Writes>,
) -> Option<Writes> {
    let able = match store {
        PublicStore::Directory { .. } => Writes::Unconditional,
        PublicStore::Azure { .. }
        | PublicStore::ConfigMap { .. }
        | PublicStore::Gcs { .. }
        | PublicStore::S3(_) => Writes::Conditional,
    };
    let at: Place = section.place_of("conditionalWrites");
    match (able, asked) {
        (Writes::Unconditional, Some(Writes::Conditional)) => {
            section.error(at, "is not possible for a directory, which knows no conditions: leave it out, and let one replica write");
            None
        }
        (Writes::Conditional, Some(Writes::Unconditional)) => {
            section.warning(at, "lets a slow replica put older documents back for a moment: only for stores that do not know If-Match");
            Some(Writes::Unconditional)
        }
        (able, _) => Some(able),
    }
}

/// Keys that people expect here, and that must not stand in a file that is a ConfigMap.
fn refuse_credentials(section: &mut Section<'_>) {
    const SECRETS: [&str; 8] = [
        "accessKeyId",
        "secretAccessKey",
        "sessionToken",
        "accessKey",
        "secretKey",
        "serviceAccountKey",
        "clientSecret",
        "sasToken",
    ];
    for key in SECRETS {
        if section.has(key) {
            let place = section.place_of(key);
            section.error(
                place,
                "does not belong into a configuration file: give it in the server's environment, from a Secret, as the store's own tools know it",
            );
            section.pass_over(key);
        }
    }
}

fn parse_writes(text: &str) -> Result<Option<Writes>, &'static str> {
    match text {
        "false" => Ok(Some(Writes::Unconditional)),
        "true" => Ok(Some(Writes::Conditional)),
        _ => Err("is neither true nor false"),
    }
}

/// Path segments, or nothing at all.
fn parse_prefix(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(inner);
    if text.is_empty() || text.split('/').all(segment) {
        Ok(text.to_owned())
    } else {
        Err(
            "is no prefix such as clusters/blue: letters, digits, `-`, `_` and `.`, no slash at either end",
        )
    }
}

fn parse_bucket(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    named(text, 3..=222, inner)
        .ok_or("is no bucket's name: lower-case letters, digits, `-`, `_` and `.`")
}

fn parse_account(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    named(text, 3..=24, inner)
        .ok_or("is no storage account's name: 3 to 24 lower-case letters and digits")
}

/// `$web` is the container that Azure serves as a web site.
fn parse_container(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text == "$web" {
        return Ok(text.to_owned());
    }
    named(text, 3..=63, inner)
        .ok_or("is no container's name: lower-case letters, digits and `-`, or $web")
}

fn parse_region(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    named(text, 2..=40, inner).ok_or("is no region such as eu-central-1")
}

fn parse_distribution(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    named(text, 8..=32, inner).ok_or("is no CloudFront distribution's id such as E1ABCDEFGHIJKL")
}

fn named(
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    inner: impl Fn(u8) -> bool,
) -> Option<String> {
    (length.contains(&text.len()) && text.bytes().all(inner)).then(|| text.to_owned())
}

fn parse_endpoint(text: &str) -> Result<String, &'static str> {
    parse_https(text).map(|url| url.trim_end_matches('/').to_owned())
}

fn parse_role(text: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", _, "iam", "", _, role] if role.starts_with("role/") => Ok(text.to_owned()),
        _ => Err("is no role's ARN such as arn:aws:iam::111122223333:role/issuer-publisher"),
    }
}
