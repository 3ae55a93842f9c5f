//! `injector.serviceAccounts:` ServiceAccounts annotated for the EKS pod identity webhook, whose flags are settings here.

use std::path::PathBuf;
use std::time::Duration;

use sts_core::ident::{Audience, EndpointName};

use crate::endpoint::AnnotationShape;
use crate::problem::Place;
use crate::reader::{Section, parse_duration};
use crate::server::parse_object_name;

/// What pods of annotated ServiceAccounts get.
#[derive(Clone, Debug)]
pub struct ServiceAccountConfig {
    /// What stands before the `/` of annotations of ServiceAccounts and pods.
    pub annotation_prefix: String,
    /// The endpoint whose tokens the pods get; without one they get the kubelet's own, as AWS's webhook does it.
    pub endpoint: Option<EndpointName>,
    /// `aud` of the kubelet's token.
    pub audience: Audience,
    /// Where the kubelet's token is mounted.
    pub mount_path: String,
    /// How long the kubelet's token is asked for.
    pub token_expiration: Duration,
    /// The region that containers are told, if they have none.
    pub region: Option<String>,
    /// Whether containers are told to use regional STS endpoints.
    pub regional_sts: bool,
    /// What a role has to look like.
    pub role: AnnotationShape,
    /// What a role's bare name is put behind, such as `arn:aws:iam::123456789012:role/`.
    pub role_arn_prefix: Option<String>,
    /// Where a container's session name comes from.
    pub session_name: SessionName,
    /// The ConfigMap in our namespace that gives ServiceAccounts roles.
    pub config_map: Option<String>,
    /// How long one request for a ServiceAccount that is not known yet may take.
    pub lookup_timeout: Duration,
    /// What happens to a pod whose ServiceAccount cannot be looked up.
    pub lookup_failure: LookupFailure,
    /// Which roles the namespaces may have; `None`: any.
    pub allowed_roles: Option<Vec<AllowedRoles>>,
    /// EKS Pod Identity; `None`: off.
    pub container_credentials: Option<ContainerCredentialsConfig>,
    /// Where it stands in the file.
    pub place: Place,
}

/// Where `AWS_ROLE_SESSION_NAME` comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionName {
    /// Nowhere, but where an annotation names one: the SDK makes one up.
    Annotated,
    /// The pod's name.
    Pod,
}

/// What happens to a pod whose ServiceAccount cannot be looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LookupFailure {
    /// It starts as it is, with a warning.
    Admit,
    /// It is refused for now.
    Deny,
}

/// The roles that pods of some namespaces may have. `*` stands for any text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedRoles {
    /// The namespaces.
    pub namespace: String,
    /// The roles.
    pub roles: Vec<String>,
}

/// Pods that get their credentials from an agent on the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContainerCredentialsConfig {
    /// The file that lists the ServiceAccounts; read again when it changes.
    pub file: PathBuf,
    /// `aud` of the token.
    pub audience: String,
    /// Where it is mounted.
    pub mount_path: String,
    /// The volume's name.
    pub volume_name: String,
    /// The token's file in the volume.
    pub token_path: String,
    /// Where the agent answers.
    pub full_uri: String,
}

impl ServiceAccountConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let place = section.place().clone();
        let annotation_prefix = section.or("annotationPrefix", parse_prefix, EKS.to_owned());
        let endpoint = optional(&mut section, "endpoint", EndpointName::parse);
        let audience = section.or("audience", Audience::parse, Audience::parse(AWS_STS).ok()?);
        let mount_path = section.or("mountPath", parse_path, MOUNT_PATH.to_owned());
        let token_expiration = section.or("tokenExpiration", parse_expiration, DAY);
        let region = optional(&mut section, "region", parse_region);
        let regional_sts = section.flag("regionalSts");
        let role = section.or("role", parse_role_shape, AnnotationShape::AwsRoleArn);
        let role_arn_prefix = optional(&mut section, "roleArnPrefix", parse_role_prefix);
        let session_name = section.or("sessionName", parse_session, SessionName::Annotated);
        let config_map = optional(&mut section, "configMap", parse_object_name);
        let lookup_timeout = section.or("lookupTimeout", parse_timeout, LOOKUP_TIMEOUT);
        let lookup_failure = section.or("lookupFailure", parse_failure, LookupFailure::Admit);
        let allowed_roles = read_allowed_roles(&mut section);
        let container_credentials = read_container_credentials(&mut section);
        section.finish()?;
        Some(Self {
            annotation_prefix: annotation_prefix?,
            endpoint: endpoint?,
            audience: audience?,
            mount_path: mount_path?,
            token_expiration: token_expiration?,
            region: region?,
            regional_sts: regional_sts?,
            role: role?,
            role_arn_prefix: role_arn_prefix?,
            session_name: session_name?,
            config_map: config_map?,
            lookup_timeout: lookup_timeout?,
            lookup_failure: lookup_failure?,
            allowed_roles: allowed_roles?,
            container_credentials: container_credentials?,
            place,
        })
    }
}

impl ContainerCredentialsConfig {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let file = section.required("file", parse_path);
        let audience = section.or(
            "audience",
            Audience::parse,
            Audience::parse(POD_IDENTITY).ok()?,
        );
        let mount_path = section.or("mountPath", parse_path, POD_IDENTITY_PATH.to_owned());
        let volume = "eks-pod-identity-token".to_owned();
        let volume_name = section.or("volumeName", parse_object_name, volume.clone());
        let token_path = section.or("tokenPath", parse_file_name, volume);
        let full_uri = section.or("fullUri", parse_uri, AGENT.to_owned());
        section.finish()?;
        Some(Self {
            file: PathBuf::from(file?),
            audience: audience?.as_str().to_owned(),
            mount_path: mount_path?,
            volume_name: volume_name?,
            token_path: token_path?,
            full_uri: full_uri?,
        })
    }
}

/// `Some(None)` for a key that is absent, `None` for one that is wrong.
#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
fn optional<T, E: std::fmt::Display>(
    section: &mut Section<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Option<T>> {
    let given = section.has(key);
    let value = section.optional(key, parse);
    if given { value.map(Some) } else { Some(None) }
}

#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
fn read_allowed_roles(section: &mut Section<'_>) -> Option<Option<Vec<AllowedRoles>>> {
    if !section.has("allowedRoles") {
        section.pass_over("allowedRoles");
        return Some(None);
    }
    let entries = section.optional_list("allowedRoles", |mut entry| {
        let namespace = entry.required("namespace", parse_pattern);
        let roles = entry.texts("roles");
        entry.finish()?;
        Some(AllowedRoles {
            namespace: namespace?,
            roles: roles?,
        })
    })?;
    entries.into_iter().collect::<Option<Vec<_>>>().map(Some)
}

#[expect(
    clippy::option_option,
    reason = "absent, wrong and read are three cases"
)]
fn read_container_credentials(
    section: &mut Section<'_>,
) -> Option<Option<ContainerCredentialsConfig>> {
    if !section.has("containerCredentials") {
        section.pass_over("containerCredentials");
        return Some(None);
    }
    let part = section.section("containerCredentials")?;
    ContainerCredentialsConfig::read(part).map(Some)
}

/// The prefix of a label key: a DNS subdomain.
fn parse_prefix(text: &str) -> Result<String, &'static str> {
    parse_object_name(text).map_err(|_problem| "is no prefix such as eks.amazonaws.com")
}

fn parse_path(text: &str) -> Result<String, &'static str> {
    let segment = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
    };
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(segment) => Ok(text.to_owned()),
        Some(_) | None => Err("is no absolute path of letters, digits, `.`, `_` and `-`"),
    }
}

fn parse_file_name(text: &str) -> Result<String, &'static str> {
    parse_path(&format!("/{text}")).map_err(|_problem| "is no file's name")?;
    if text.contains('/') {
        return Err("is no file's name");
    }
    Ok(text.to_owned())
}

/// The API server issues no projected token for less than ten minutes; AWS's webhook has no upper bound, and neither have we but a
/// year, beyond which it is a mistake.
fn parse_expiration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let allowed = Duration::from_secs(600)..=Duration::from_secs(365 * 86_400);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text} is not between 10m and a year"))
    }
}

/// The API server waits for the webhook meanwhile, so the bound stays small.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let allowed = Duration::from_millis(10)..=Duration::from_secs(3);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text} is not between 10ms and 3s"))
    }
}

fn parse_region(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is no region such as eu-central-1")
    }
}

fn parse_role_shape(text: &str) -> Result<AnnotationShape, &'static str> {
    match text {
        "awsRoleArn" => Ok(AnnotationShape::AwsRoleArn),
        "plainText" => Ok(AnnotationShape::PlainText),
        _ => Err("is neither awsRoleArn nor plainText"),
    }
}

fn parse_role_prefix(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"$\"'`\\".contains(&byte);
    if text.starts_with("arn:") && text.ends_with('/') && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is no start of an ARN such as arn:aws:iam::123456789012:role/")
    }
}

fn parse_session(text: &str) -> Result<SessionName, &'static str> {
    match text {
        "annotated" => Ok(SessionName::Annotated),
        "pod" => Ok(SessionName::Pod),
        _ => Err("is neither annotated nor pod"),
    }
}

fn parse_failure(text: &str) -> Result<LookupFailure, &'static str> {
    match text {
        "admit" => Ok(LookupFailure::Admit),
        "deny" => Ok(LookupFailure::Deny),
        _ => Err("is neither admit nor deny"),
    }
}

fn parse_pattern(text: &str) -> Result<String, &'static str> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is no namespace, nor a pattern such as team-*")
    }
}

fn parse_uri(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"$\"'`\\".contains(&byte);
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    if is_http && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is no http or https URL")
    }
}

const EKS: &str = "eks.amazonaws.com";
const AWS_STS: &str = "sts.amazonaws.com";
const MOUNT_PATH: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
const DAY: Duration = Duration::from_secs(86_400);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
const POD_IDENTITY: &str = "pods.eks.amazonaws.com";
const POD_IDENTITY_PATH: &str = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
/// The EKS Pod Identity agent's address on each node.
const AGENT: &str = "http://169.254.170.23/v1/credentials";
