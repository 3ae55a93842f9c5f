//! What the pure part needs to know: endpoints that pods may ask for, and the sidecar.

use std::time::Duration;

use serde_json::Value;
use sts_config::{Endpoint, Injection, ServiceUrl, SidecarConfig};

pub use sts_config::AnnotationShape;

/// Everything `decide` and `patch` read from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The endpoints that can be injected, in the file's order.
    pub endpoints: Vec<EndpointSettings>,
    /// The container we add.
    pub sidecar: SidecarSettings,
}

impl Settings {
    /// From the configuration; endpoints that no pod can ask for are left out.
    pub fn new(url: &ServiceUrl, endpoints: &[Endpoint], sidecar: &SidecarConfig) -> Self {
        Self {
            endpoints: endpoints
                .iter()
                .filter_map(|endpoint| EndpointSettings::new(url, endpoint))
                .collect(),
            sidecar: SidecarSettings::new(sidecar),
        }
    }
}

/// One endpoint a pod can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// The endpoint's name: the folder of its token file, and a label of metrics.
    pub name: String,
    /// Label and annotation of the pod: `tremolo.io/<label>`.
    pub key: String,
    /// Environment variable that gets the token file's path.
    pub token_env: String,
    /// Environment variable that gets the annotation's value.
    pub annotation_env: String,
    /// What the annotation's value has to look like.
    pub shape: AnnotationShape,
    /// `aud` of the pod's own token that the sidecar exchanges.
    pub audience: String,
    /// Where the sidecar exchanges it.
    pub exchange_url: String,
}

impl EndpointSettings {
    fn new(url: &ServiceUrl, endpoint: &Endpoint) -> Option<Self> {
        let Injection {
            label,
            token_env,
            annotation_env,
            annotation,
        } = endpoint.injection.as_ref()?;
        Some(Self {
            name: endpoint.name.as_str().to_owned(),
            key: format!("{KEY_PREFIX}{label}"),
            token_env: token_env.clone(),
            annotation_env: annotation_env.clone(),
            shape: *annotation,
            audience: endpoint.token_audience.as_str().to_owned(),
            exchange_url: format!("{url}{}/token", endpoint.path.prefix()),
        })
    }
}

/// What a user is told to write into an annotation.
pub fn expected(shape: AnnotationShape) -> &'static str {
    match shape {
        AnnotationShape::AwsRoleArn => "arn:aws:iam::<12 digits>:role/<name>",
        AnnotationShape::PlainText => {
            "1 to 2048 printable ASCII characters without $, quotes, backslash or spaces around"
        }
    }
}

/// The sidecar, as the operator wants it. Nothing of it comes from a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct SidecarSettings {
    /// The refresher's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// `expirationSeconds` of the pod's token; the API server takes no less than 600
    /// (<https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>).
    pub token_seconds: u64,
    /// How long the application is held back at most, as the refresher reads it.
    pub wait_timeout: String,
    /// Requests and limits, as a container has them.
    pub resources: Value,
}

impl SidecarSettings {
    fn new(config: &SidecarConfig) -> Self {
        let SidecarConfig {
            image,
            image_pull_policy,
            token_lifetime,
            wait_timeout,
            resources,
        } = config;
        Self {
            image: image.clone(),
            image_pull_policy: image_pull_policy.clone(),
            token_seconds: token_lifetime.as_secs(),
            wait_timeout: render_duration(*wait_timeout),
            resources: resources.clone(),
        }
    }
}

fn render_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// The prefix of the labels and annotations we read, OpenUnison's.
pub const KEY_PREFIX: &str = "tremolo.io/";
/// The variable of the AWS SDKs whose value must be a role's ARN.
pub const AWS_ROLE_ARN: &str = "AWS_ROLE_ARN";
