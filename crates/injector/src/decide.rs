//! The pod view → [`Decision`]. Pure: no I/O, no clock, no state.

use svc_runtime::tls::CaBundle;

use crate::annotations::{AnnotationProblem, AnnotationValue};
use crate::collide;
use crate::pod::{Pairs, PodView, SpecView};
use crate::refusal::Refusal;
use crate::review::{Operation, PodName, RequestFacts, Shown, Target};
use crate::settings::{EndpointSettings, Settings};

/// What happens to a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is refused.
    Deny {
        /// Why.
        refusal: Refusal,
        /// The endpoints its labels name.
        endpoints: Vec<&'a EndpointSettings>,
    },
    /// It gets tokens.
    Inject(Plan<'a>),
    /// It is left alone.
    Skip(SkipReason),
}

/// Why a pod is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Nothing is missing: we have seen this pod before.
    AlreadyInjected,
    /// A static pod's image in the API; only its kubelet can change it.
    MirrorPod,
    /// Only the creation of a pod can be changed.
    NotCreate,
    /// Each of our labels says `false`.
    OptedOut,
    /// The request is about a part of a pod.
    Subresource,
    /// No label of ours.
    Unlabelled,
}

impl SkipReason {
    /// Stable name for metrics, logs and audit annotations.
    pub fn code(self) -> &'static str {
        match self {
            Self::AlreadyInjected => "already_injected",
            Self::MirrorPod => "mirror_pod",
            Self::NotCreate => "not_create",
            Self::OptedOut => "opted_out",
            Self::Subresource => "subresource",
            Self::Unlabelled => "unlabelled",
        }
    }
}

/// What a pod gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// For each endpoint its annotation's value, in the configuration's order; never empty.
    pub grants: Vec<(&'a EndpointSettings, AnnotationValue)>,
    /// The CA the sidecar trusts the STS by.
    pub server_ca: &'a CaBundle,
    /// The user the sidecar runs as.
    pub sidecar_user: SidecarUser,
}

impl<'a> Plan<'a> {
    /// The endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &'a EndpointSettings> {
        self.grants.iter().map(|(endpoint, _)| *endpoint)
    }
}

/// The user the sidecar runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarUser {
    /// The image's, or the one the pod or the platform (OpenShift) sets.
    Inherited,
    /// The image's, said explicitly: the pod runs as root, which `runAsNonRoot` refuses.
    InsteadOfRoot,
}

/// Decides on a pod, whose labels are all looked at, whichever `endpoint` the API server asks for.
///
/// An endpoint that we do not know is one of a newer configuration than ours: during an upgrade its
/// entry of the webhook configuration is there at once, while we still run. Taking the pod for unlabelled
/// would let it start without its token.
pub fn decide<'a>(
    settings: &'a Settings,
    server_ca: Option<&'a CaBundle>,
    endpoint: &str,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Decision<'a> {
    if let Some(reason) = out_of_scope(request, pod) {
        return Decision::Skip(reason);
    }
    if !settings.endpoints.iter().any(|one| one.name == endpoint) {
        let refusal = Refusal::EndpointUnknown {
            pod: request.pod.clone(),
            endpoint: Shown(endpoint).to_string(),
        };
        return Decision::Deny {
            refusal,
            endpoints: Vec::new(),
        };
    }
    let labelled = labelled(settings, pod);
    if labelled.is_empty() {
        return Decision::Skip(SkipReason::Unlabelled);
    }
    match plan(&labelled, server_ca, &request.pod, pod, settings) {
        Ok(Some(plan)) => Decision::Inject(plan),
        Ok(None) => Decision::Skip(SkipReason::OptedOut),
        Err(refusal) => Decision::Deny {
            refusal,
            endpoints: labelled.into_iter().map(|(endpoint, _)| endpoint).collect(),
        },
    }
}

fn out_of_scope(request: &RequestFacts, pod: &PodView<'_>) -> Option<SkipReason> {
    match (request.target, request.operation) {
        (Target::Subresource, _) => Some(SkipReason::Subresource),
        (Target::Object, Operation::Connect | Operation::Delete | Operation::Update) => {
            Some(SkipReason::NotCreate)
        }
        (Target::Object, Operation::Create) => {
            value(pod.metadata.annotations.as_ref(), MIRROR_ANNOTATION)
                .map(|_| SkipReason::MirrorPod)
        }
    }
}

fn labelled<'a, 'p>(
    settings: &'a Settings,
    pod: &'p PodView<'_>,
) -> Vec<(&'a EndpointSettings, &'p str)> {
    let labels = pod.metadata.labels.as_ref();
    settings
        .endpoints
        .iter()
        .filter_map(|endpoint| value(labels, &endpoint.key).map(|label| (endpoint, label)))
        .collect()
}

fn plan<'a>(
    labelled: &[(&'a EndpointSettings, &str)],
    server_ca: Option<&'a CaBundle>,
    name: &PodName,
    pod: &PodView<'_>,
    settings: &Settings,
) -> Result<Option<Plan<'a>>, Refusal> {
    let wanted = opted_in(labelled, name)?;
    let grants = wanted
        .into_iter()
        .map(|endpoint| Ok((endpoint, annotation(endpoint, name, pod)?)))
        .collect::<Result<Vec<_>, Refusal>>()?;
    let Some((first, _)) = grants.first() else {
        return Ok(None);
    };
    runs_where_we_can(&first.key, name, &pod.spec)?;
    collide::environment(&grants, name)?;
    let sidecar_user = sidecar_user(&pod.spec);
    collide::pod(settings, &grants, sidecar_user, name, &pod.spec)?;
    let server_ca = server_ca.ok_or_else(|| Refusal::ServerCaMissing { pod: name.clone() })?;
    Ok(Some(Plan {
        grants,
        server_ca,
        sidecar_user,
    }))
}

/// The endpoints whose label says `true`; every label has to say something we know.
fn opted_in<'a>(
    labelled: &[(&'a EndpointSettings, &str)],
    name: &PodName,
) -> Result<Vec<&'a EndpointSettings>, Refusal> {
    let mut wanted = Vec::new();
    for (endpoint, label) in labelled {
        match *label {
            OPT_IN => wanted.push(*endpoint),
            OPT_OUT => {}
            _ => {
                return Err(Refusal::LabelValue {
                    pod: name.clone(),
                    key: endpoint.key.clone(),
                });
            }
        }
    }
    Ok(wanted)
}

fn annotation(
    endpoint: &EndpointSettings,
    name: &PodName,
    pod: &PodView<'_>,
) -> Result<AnnotationValue, Refusal> {
    let EndpointSettings { key, shape, .. } = endpoint;
    let text = value(pod.metadata.annotations.as_ref(), key).unwrap_or_default();
    AnnotationValue::parse(text, *shape).map_err(|problem| match problem {
        AnnotationProblem::Empty => Refusal::AnnotationMissing {
            pod: name.clone(),
            key: key.clone(),
            shape: *shape,
        },
        AnnotationProblem::Shape | AnnotationProblem::TooLong { .. } => {
            let key = key.clone();
            Refusal::AnnotationInvalid {
                pod: name.clone(),
                key,
                problem,
                shape: *shape,
            }
        }
    })
}

fn runs_where_we_can(key: &str, name: &PodName, spec: &SpecView<'_>) -> Result<(), Refusal> {
    let by_name = spec
        .os
        .as_ref()
        .is_some_and(|os| os.name.as_str() == WINDOWS);
    let by_node = value(spec.node_selector.as_ref(), OS_NODE_LABEL) == Some(WINDOWS);
    if by_name || by_node {
        return Err(Refusal::Windows {
            pod: name.clone(),
            key: key.to_owned(),
        });
    }
    if spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork {
            pod: name.clone(),
            key: key.to_owned(),
        });
    }
    Ok(())
}

fn sidecar_user(spec: &SpecView<'_>) -> SidecarUser {
    match spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user)
    {
        Some(0) => SidecarUser::InsteadOfRoot,
        Some(_) | None => SidecarUser::Inherited,
    }
}

fn value<'p>(pairs: Option<&'p Pairs<'_>>, key: &str) -> Option<&'p str> {
    pairs.and_then(|pairs| pairs.value(key))
}

const OPT_IN: &str = "true";
const OPT_OUT: &str = "false";
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-os>
const OS_NODE_LABEL: &str = "kubernetes.io/os";
const WINDOWS: &str = "windows";
