//! What the pure part needs to know: endpoints that pods may ask for, and the sidecar.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use sts_config::{Endpoint, Injection, ServiceAccountConfig, ServiceUrl, SidecarConfig};

use sts_core::ident::ClusterName;
use sts_core::policy::Policy;

pub use sts_config::{
    AllowedRoles, AnnotationShape, CompanionFile,
    ContainerCredentialsConfig as ContainerCredentials, Gate, InjectionMode, LookupFailure,
    SessionName, SidecarForm,
};

/// Everything `decide` and `patch` read from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The endpoints that can be injected, in the file's order.
    pub endpoints: Vec<EndpointSettings>,
    /// The container we add.
    pub sidecar: SidecarSettings,
    /// What pods of annotated ServiceAccounts get; `None`: nothing.
    pub identity: Option<IdentitySettings>,
    /// The endpoints' rules, for a look ahead.
    pub rules: Vec<EndpointRules>,
    /// Namespaces whose pods are left alone: the cluster's own, and ours.
    pub excluded_namespaces: Vec<String>,
}

impl Settings {
    /// From the configuration; endpoints that no pod can ask for are left out.
    pub fn new(
        url: &ServiceUrl,
        endpoints: &[Endpoint],
        sidecar: &SidecarConfig,
        accounts: Option<&ServiceAccountConfig>,
    ) -> Self {
        let identity = accounts.map(|config| {
            let wanted = config.endpoint.as_ref();
            let endpoint = endpoints.iter().find(|one| Some(&one.name) == wanted);
            IdentitySettings::new(url, endpoint, config)
        });
        Self {
            endpoints: endpoints
                .iter()
                .filter_map(|endpoint| EndpointSettings::of_label(url, endpoint))
                .collect(),
            sidecar: SidecarSettings::new(sidecar),
            identity,
            rules: endpoints.iter().map(EndpointRules::new).collect(),
            excluded_namespaces: CLUSTER_NAMESPACES.map(str::to_owned).into(),
        }
    }
}

/// The settings in use: exchanged as a whole, so that each review sees one version. A clone is a handle on the same.
#[derive(Debug, Clone)]
pub struct LiveSettings(Arc<ArcSwap<Settings>>);

impl LiveSettings {
    /// These, for now.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// Those in use now.
    pub fn snapshot(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
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
    /// Whose token a pod gets.
    pub mode: InjectionMode,
    /// `aud` of the pod's own token: the one the sidecar exchanges, or the one that is projected.
    pub audience: String,
    /// `expirationSeconds` of a projected token.
    pub projected_seconds: u64,
    /// Where the sidecar exchanges the pod's own token.
    pub exchange_url: String,
    /// What the sidecar writes beside the token.
    pub files: Vec<CompanionFile>,
}

impl EndpointSettings {
    fn of_label(url: &ServiceUrl, endpoint: &Endpoint) -> Option<Self> {
        let Injection {
            label,
            token_env,
            annotation_env,
            annotation,
            files,
            mode,
        } = endpoint.injection.as_ref()?;
        Some(Self {
            key: format!("{KEY_PREFIX}{label}"),
            token_env: token_env.clone(),
            annotation_env: annotation_env.clone(),
            shape: *annotation,
            mode: *mode,
            files: files.clone(),
            audience: match mode {
                InjectionMode::Projected => endpoint.template.audience.as_str().to_owned(),
                InjectionMode::Sidecar => endpoint.token_audience.as_str().to_owned(),
            },
            ..Self::of_account(url, endpoint)
        })
    }

    /// As pods of annotated ServiceAccounts get it: the STS's token.
    fn of_account(url: &ServiceUrl, endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.name.as_str().to_owned(),
            key: String::new(),
            token_env: AWS_TOKEN_FILE.to_owned(),
            annotation_env: AWS_ROLE_ARN.to_owned(),
            shape: AnnotationShape::AwsRoleArn,
            mode: InjectionMode::Sidecar,
            audience: endpoint.token_audience.as_str().to_owned(),
            projected_seconds: endpoint.template.lifetime.get().as_secs(),
            exchange_url: format!("{url}{}/token", endpoint.path.prefix()),
            files: Vec::new(),
        }
    }
}

/// Who may have an endpoint's token. The STS decides; here it is only looked ahead to that.
#[derive(Debug, Clone)]
pub struct EndpointRules {
    /// The endpoint.
    pub name: String,
    /// The clusters whose pods it takes.
    pub clusters: Vec<ClusterName>,
    /// Its rules.
    pub policy: Policy,
}

impl EndpointRules {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.name.as_str().to_owned(),
            clusters: endpoint.clusters.clone(),
            policy: endpoint.policy.clone(),
        }
    }
}

/// What pods of annotated ServiceAccounts get.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentitySettings {
    /// The prefix of annotations, without the slash.
    pub prefix: String,
    /// The token; a ServiceAccount may want another audience or life.
    pub token: IdentityToken,
    /// The region that containers are told, if they have none.
    pub region: Option<String>,
    /// Whether containers are told to use regional STS endpoints.
    pub regional_sts: bool,
    /// What a role has to look like.
    pub shape: AnnotationShape,
    /// What a role's bare name is put behind.
    pub role_arn_prefix: Option<String>,
    /// Where a container's session name comes from.
    pub session_name: SessionName,
    /// What happens to a pod whose ServiceAccount cannot be looked up.
    pub lookup_failure: LookupFailure,
    /// Which roles the namespaces may have; `None`: any.
    pub allowed_roles: Option<Vec<AllowedRoles>>,
    /// EKS Pod Identity; `None`: off.
    pub container_credentials: Option<ContainerCredentials>,
    /// `expirationSeconds` of its token, unless an annotation says otherwise.
    pub agent_seconds: u64,
}

/// Whose token a pod of an annotated ServiceAccount gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityToken {
    /// The kubelet's.
    Projected {
        /// Its audience.
        audience: String,
        /// Where it is mounted.
        mount_path: String,
        /// `expirationSeconds`.
        seconds: u64,
        /// The endpoint that says both audience and life, where one is named.
        endpoint: Option<EndpointSettings>,
    },
    /// The STS's, of this endpoint.
    Sidecar(EndpointSettings),
}

impl IdentitySettings {
    fn new(url: &ServiceUrl, endpoint: Option<&Endpoint>, config: &ServiceAccountConfig) -> Self {
        let token = match endpoint {
            Some(endpoint) if !is_projected(endpoint) => {
                IdentityToken::Sidecar(EndpointSettings::of_account(url, endpoint))
            }
            Some(endpoint) => {
                let settings = EndpointSettings {
                    mode: InjectionMode::Projected,
                    audience: endpoint.template.audience.as_str().to_owned(),
                    ..EndpointSettings::of_account(url, endpoint)
                };
                IdentityToken::Projected {
                    audience: settings.audience.clone(),
                    mount_path: config.mount_path.clone(),
                    seconds: settings.projected_seconds,
                    endpoint: Some(settings),
                }
            }
            None => IdentityToken::Projected {
                audience: config.audience.as_str().to_owned(),
                mount_path: config.mount_path.clone(),
                seconds: config.token_expiration.as_secs(),
                endpoint: None,
            },
        };
        Self {
            prefix: config.annotation_prefix.clone(),
            token,
            region: config.region.clone(),
            regional_sts: config.regional_sts,
            shape: config.role,
            role_arn_prefix: config.role_arn_prefix.clone(),
            session_name: config.session_name,
            lookup_failure: config.lookup_failure,
            allowed_roles: config.allowed_roles.clone(),
            container_credentials: config.container_credentials.clone(),
            agent_seconds: config.token_expiration.as_secs(),
        }
    }
}

fn is_projected(endpoint: &Endpoint) -> bool {
    let mode = endpoint.injection.as_ref().map(|injection| injection.mode);
    mode == Some(InjectionMode::Projected)
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
    /// What holds the application back.
    pub gate: Gate,
    /// Whether the kubelet restarts one that leaves no trace of its work.
    pub liveness: bool,
    /// How long a hook holds it back at most, as the refresher reads it.
    pub wait_timeout: String,
    /// Where it serves metrics, if it does.
    pub metrics_port: Option<NonZeroU16>,
    /// Requests and limits, as a container has them.
    pub resources: Value,
    /// How it is built into a pod; never [`SidecarForm::Auto`] once the API server's version is known.
    pub form: SidecarForm,
}

impl SidecarSettings {
    fn new(config: &SidecarConfig) -> Self {
        let SidecarConfig {
            form,
            image,
            image_pull_policy,
            token_lifetime,
            gate,
            liveness,
            wait_timeout,
            metrics_port,
            resources,
        } = config;
        Self {
            image: image.clone(),
            image_pull_policy: image_pull_policy.clone(),
            token_seconds: token_lifetime.as_secs(),
            gate: *gate,
            liveness: *liveness,
            wait_timeout: render_duration(*wait_timeout),
            metrics_port: *metrics_port,
            resources: resources.clone(),
            form: *form,
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
/// The variable of the AWS SDKs that names the token's file.
pub const AWS_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// Where nothing is injected, whatever a webhook configuration says.
const CLUSTER_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
