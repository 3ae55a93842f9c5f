//! What a pod gets: from its labels, or from its ServiceAccount, or from both by one sidecar.

mod of_account;

use svc_runtime::tls::CaBundle;

use crate::annotations::{AnnotationProblem, AnnotationValue};
use crate::collide;
use crate::identity::{Identity, Origin};
use crate::pod::PodView;
use crate::refusal::Refusal;
use crate::review::RequestFacts;
use crate::settings::{EndpointSettings, InjectionMode, Settings};
use crate::sidecar::files_value;
use crate::wishes::Wishes;

pub(crate) use of_account::{OfAccount, plan_of_account};

/// What a pod gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// For each endpoint that a label names its annotation's value, in the configuration's order.
    pub grants: Vec<Grant<'a>>,
    /// Who it is by its ServiceAccount.
    pub identity: Option<Identity<'a>>,
    /// The sidecar, where a token is the STS's.
    pub sidecar: Option<SidecarPlan<'a>>,
}

/// An endpoint, and the value of its annotation.
pub type Grant<'a> = (&'a EndpointSettings, AnnotationValue);

/// The sidecar of a pod.
#[derive(Debug, PartialEq, Eq)]
pub struct SidecarPlan<'a> {
    /// The endpoints it serves; never empty.
    pub endpoints: Vec<&'a EndpointSettings>,
    /// The role that a token is wanted for, by endpoint: what the pod's annotation or its ServiceAccount's says.
    pub roles: Vec<Grant<'a>>,
    /// The CA it trusts the STS by.
    pub server_ca: &'a CaBundle,
    /// Whom it runs as.
    pub user: SidecarUser,
    /// Whose volume the token files are in.
    pub volume: TokensVolume,
    /// What it writes beside the tokens, as it reads it.
    pub files: Option<String>,
}

/// Whom the sidecar runs as. What is not set is the image's, or what the pod or the platform (OpenShift) sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SidecarUser {
    /// `runAsUser`.
    pub user: Option<i64>,
    /// `runAsGroup`.
    pub group: Option<i64>,
}

/// Whose volume the token files are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokensVolume {
    /// One that we add.
    Added,
    /// The pod's own, of the same name.
    Brought,
}

impl<'a> Plan<'a> {
    /// The endpoints concerned, each once.
    pub fn endpoints(&self) -> impl Iterator<Item = &'a EndpointSettings> {
        let labelled = self.grants.iter().map(|(endpoint, _)| *endpoint);
        let of_account = self.identity.as_ref().and_then(|one| one.endpoint);
        let more = of_account.filter(|more| labelled.clone().all(|one| one.name != more.name));
        labelled.chain(more)
    }

    /// The endpoints whose tokens the kubelet projects.
    pub fn projected(&self) -> impl Iterator<Item = &'a EndpointSettings> {
        self.grants
            .iter()
            .map(|(endpoint, _)| *endpoint)
            .filter(|one| is_projected(one))
    }
}

/// A question: all that a plan is made from.
pub(crate) struct Asked<'a, 'p> {
    pub(crate) settings: &'a Settings,
    pub(crate) server_ca: Option<&'a CaBundle>,
    pub(crate) request: &'p RequestFacts,
    pub(crate) pod: &'p PodView<'p>,
}

/// The endpoints whose labels the pod has, with the labels' values.
pub(crate) fn labelled<'a, 'p>(
    settings: &'a Settings,
    pod: &'p PodView<'_>,
) -> Vec<(&'a EndpointSettings, &'p str)> {
    let endpoints = settings.endpoints.iter();
    endpoints
        .filter_map(|endpoint| pod.label(&endpoint.key).map(|label| (endpoint, label)))
        .collect()
}

/// What the labels ask for; nothing if each of them says `false`.
pub(crate) fn plan_of_labels<'a>(
    asked: &Asked<'a, '_>,
    labelled: &[(&'a EndpointSettings, &str)],
) -> Result<Option<Plan<'a>>, Refusal> {
    let grants = grants(asked, labelled)?;
    if grants.is_empty() {
        return Ok(None);
    }
    collide::environment(&grants, &asked.request.pod)?;
    let served: Vec<_> = grants
        .iter()
        .map(|(endpoint, _)| *endpoint)
        .filter(|one| is_served(one))
        .collect();
    let sidecar = sidecar(asked, served, wanted(&grants))?;
    let plan = Plan {
        grants,
        identity: None,
        sidecar,
    };
    collide::pod(asked.settings, &plan, &asked.request.pod, asked.pod)?;
    Ok(Some(plan))
}

fn is_served(endpoint: &EndpointSettings) -> bool {
    endpoint.mode == InjectionMode::Sidecar
}

fn is_projected(endpoint: &EndpointSettings) -> bool {
    endpoint.mode == InjectionMode::Projected
}

/// The endpoints whose label says `true`, with their annotations; every label has to say something we know.
fn grants<'a>(
    asked: &Asked<'_, '_>,
    labelled: &[(&'a EndpointSettings, &str)],
) -> Result<Vec<Grant<'a>>, Refusal> {
    let mut grants = Vec::new();
    for (endpoint, label) in labelled {
        match *label {
            OPT_IN => grants.push((*endpoint, annotation(asked, endpoint)?)),
            OPT_OUT => {}
            _ => {
                return Err(Refusal::LabelValue {
                    pod: asked.request.pod.clone(),
                    key: endpoint.key.clone(),
                });
            }
        }
    }
    Ok(grants)
}

fn annotation(
    asked: &Asked<'_, '_>,
    endpoint: &EndpointSettings,
) -> Result<AnnotationValue, Refusal> {
    let EndpointSettings { key, shape, .. } = endpoint;
    let text = asked.pod.annotation(key).unwrap_or_default();
    AnnotationValue::parse(text, *shape).map_err(|problem| match problem {
        AnnotationProblem::Empty => Refusal::AnnotationMissing {
            pod: asked.request.pod.clone(),
            key: key.clone(),
            shape: *shape,
        },
        AnnotationProblem::Shape | AnnotationProblem::TooLong { .. } => {
            let key = key.clone();
            Refusal::AnnotationInvalid {
                pod: asked.request.pod.clone(),
                key,
                problem,
                shape: *shape,
            }
        }
    })
}

/// The roles of the endpoints that the sidecar serves. Which of them a pod may have is the STS's to say.
fn wanted<'a>(grants: &[Grant<'a>]) -> Vec<Grant<'a>> {
    let served = grants.iter().filter(|(endpoint, _)| is_served(endpoint));
    served.cloned().collect()
}

fn sidecar<'a>(
    asked: &Asked<'a, '_>,
    mut endpoints: Vec<&'a EndpointSettings>,
    roles: Vec<Grant<'a>>,
) -> Result<Option<SidecarPlan<'a>>, Refusal> {
    let Some(first) = endpoints.first() else {
        return Ok(None);
    };
    let name = &asked.request.pod;
    runs_where_we_can(asker(asked.settings, Some(first)), asked)?;
    let wishes = Wishes::parse(name, asked.pod)?;
    let server_ca = asked.server_ca;
    let server_ca = server_ca.ok_or_else(|| Refusal::ServerCaMissing { pod: name.clone() })?;
    // The other entry of the webhook configuration may have been called before, and have made the sidecar serve its endpoint too.
    if let Some(more) = collide::served_besides(asked.settings, &endpoints, &asked.pod.spec) {
        endpoints.push(more);
    }
    Ok(Some(SidecarPlan {
        endpoints,
        files: files_value(&roles),
        roles,
        server_ca,
        user: wishes.user(&asked.pod.spec),
        volume: wishes.volume,
    }))
}

/// What asks for an endpoint's token, as a refusal names it.
pub(crate) fn asker(settings: &Settings, endpoint: Option<&EndpointSettings>) -> String {
    match endpoint.map_or("", |endpoint| endpoint.key.as_str()) {
        "" => Origin::ServiceAccount.asker(settings),
        label => format!("label {label}"),
    }
}

fn runs_where_we_can(key: String, asked: &Asked<'_, '_>) -> Result<(), Refusal> {
    let pod = asked.request.pod.clone();
    if asked.pod.spec.is_windows() {
        return Err(Refusal::Windows { pod, key });
    }
    if asked.pod.spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork { pod, key });
    }
    Ok(())
}

/// The value of a label that asks for a token.
pub(crate) const OPT_IN: &str = "true";
pub(crate) const OPT_OUT: &str = "false";
