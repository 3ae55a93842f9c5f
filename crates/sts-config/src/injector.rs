//! `injector:` how the webhook serves, and what it injects.

mod service_accounts;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

pub use service_accounts::{
    AllowedRoles, ContainerCredentialsConfig, LookupFailure, ServiceAccountConfig, SessionName,
};

use crate::reader::{Section, parse_duration};
use crate::server::{Serving, parse_object_name};
use crate::tls::{CertificateRotation, ServingTls};

/// How `injector` serves, and what it injects.
#[derive(Debug)]
pub struct InjectorConfig {
    /// `/mutate/<endpoint>`, HTTPS.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`, plain HTTP.
    pub admin_listen: SocketAddr,
    /// The serving certificate.
    pub tls: ServingTls,
    /// The Service the API server calls; it stands in the serving certificate.
    pub service: String,
    /// The MutatingWebhookConfiguration whose `caBundle` the injector keeps.
    pub webhook_configuration: String,
    /// The ConfigMap that `sts-server` publishes its CA in.
    pub server_ca_config_map: String,
    /// The sidecar.
    pub sidecar: SidecarConfig,
    /// What pods of annotated ServiceAccounts get; `None`: nothing.
    pub service_accounts: Option<ServiceAccountConfig>,
}

/// The sidecar that is injected. Nothing of it can be chosen by a pod.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    /// How it is built into a pod.
    pub form: SidecarForm,
    /// The image, best by digest.
    pub image: String,
    /// `imagePullPolicy`.
    pub image_pull_policy: String,
    /// How long the pod's token for the STS is asked for; the kubelet renews it at 80 % of that. At least 10 minutes.
    pub token_lifetime: Duration,
    /// What holds the application back until its token is there.
    pub gate: Gate,
    /// Whether the kubelet restarts a sidecar that leaves no trace of its work.
    pub liveness: bool,
    /// How long a hook holds it back at most, before the sidecar is restarted.
    pub wait_timeout: Duration,
    /// Where it serves metrics, if it does.
    pub metrics_port: Option<NonZeroU16>,
    /// `resources` of the container, as Kubernetes has them.
    pub resources: serde_json::Value,
}

/// How the sidecar is built into a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SidecarForm {
    /// As the API server's version can: native from Kubernetes 1.29.
    Auto,
    /// An init container that fetches the first token, and an ordinary container.
    Classic,
    /// An init container that goes on running.
    Native,
}

/// What holds the application back until its token is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// A `postStart` hook: quick; a pod cannot be deleted while it waits, and it waits for a bounded time only.
    Hook,
    /// A startup probe: slower by up to a second; waits as long as it takes, and a pod that waits can be deleted at once.
    Probe,
}

impl InjectorConfig {
    pub(crate) fn read(mut section: Section<'_>) -> Option<Self> {
        let serving = Serving::read(&mut section, CertificateRotation::FOR_WEBHOOK);
        let service = section.required("service", parse_object_name);
        let webhook_configuration = section.required("webhookConfiguration", parse_object_name);
        let server_ca_config_map = section.required("serverCaConfigMap", parse_object_name);
        let place = section.place_of("sidecar");
        let sidecar = section.section("sidecar");
        if sidecar.is_none() {
            section.error(place, "is missing: it must at least name an `image`");
        }
        let sidecar = sidecar.and_then(SidecarConfig::read);
        let has_accounts = section.has("serviceAccounts");
        let service_accounts = section
            .section("serviceAccounts")
            .and_then(ServiceAccountConfig::read);
        section.finish()?;
        if has_accounts && service_accounts.is_none() {
            return None;
        }
        let Serving {
            listen,
            admin_listen,
            tls,
        } = serving?;
        Some(Self {
            listen,
            admin_listen,
            tls,
            service: service?,
            webhook_configuration: webhook_configuration?,
            server_ca_config_map: server_ca_config_map?,
            sidecar: sidecar?,
            service_accounts,
        })
    }
}

impl SidecarConfig {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let form = section.or("form", parse_form, SidecarForm::Auto);
        let image = section.required("image", parse_image);
        let policy = section.or(
            "imagePullPolicy",
            parse_pull_policy,
            "IfNotPresent".to_owned(),
        );
        let token_lifetime = section.or(
            "tokenLifetime",
            parse_token_lifetime,
            Duration::from_secs(3600),
        );
        let gate = section.or("gate", parse_gate, Gate::Hook);
        let liveness = section.flag("liveness");
        let wait_timeout = section.or("waitTimeout", parse_wait, Duration::from_secs(10));
        let has_port = section.has("metricsPort");
        let metrics_port = section.optional("metricsPort", parse_port);
        let resources = section
            .json("resources")
            .unwrap_or_else(|| serde_json::json!({}));
        section.finish()?;
        Some(Self {
            form: form?,
            image: image?,
            image_pull_policy: policy?,
            token_lifetime: token_lifetime?,
            gate: gate?,
            liveness: liveness?,
            wait_timeout: wait_timeout?,
            metrics_port: if has_port { Some(metrics_port?) } else { None },
            resources,
        })
    }
}

fn parse_form(text: &str) -> Result<SidecarForm, &'static str> {
    match text {
        "auto" => Ok(SidecarForm::Auto),
        "classic" => Ok(SidecarForm::Classic),
        "native" => Ok(SidecarForm::Native),
        _ => Err("is none of auto, native and classic"),
    }
}

fn parse_image(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is no image reference");
    }
    Ok(text.to_owned())
}

fn parse_pull_policy(text: &str) -> Result<String, &'static str> {
    match text {
        "Always" | "IfNotPresent" | "Never" => Ok(text.to_owned()),
        _ => Err("is none of Always, IfNotPresent and Never"),
    }
}

/// kube-apiserver issues no projected token for less than ten minutes; ours are refused when issued for more than a day.
fn parse_token_lifetime(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let allowed = Duration::from_secs(600)..=Duration::from_secs(86_400);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text} is not between 10m and 24h"))
    }
}

/// Ports below 1024 need a right that the sidecar does not have.
fn parse_port(text: &str) -> Result<NonZeroU16, &'static str> {
    let port = text
        .parse()
        .ok()
        .filter(|port: &NonZeroU16| port.get() >= 1024);
    port.ok_or("is no port between 1024 and 65535")
}

fn parse_gate(text: &str) -> Result<Gate, &'static str> {
    match text {
        "hook" => Ok(Gate::Hook),
        "probe" => Ok(Gate::Probe),
        _ => Err("is neither hook nor probe"),
    }
}

/// A pod cannot be deleted while its hook waits, so the bound stays small.
fn parse_wait(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(60);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text} is not between 1s and 60s"))
    }
}
