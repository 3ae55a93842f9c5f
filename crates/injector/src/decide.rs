//! The pod view → [`Decision`]. Pure: no I/O, no clock, no state.

use svc_runtime::tls::CaBundle;

use crate::identity::{IdentityFacts, Lookup, SKIP_LABEL, resolve};
use crate::plan::{Asked, OfAccount, Plan, labelled, plan_of_account, plan_of_labels};
use crate::pod::PodView;
use crate::refusal::Refusal;
use crate::review::{Operation, RequestFacts, Shown, Target};
use crate::settings::{EndpointSettings, Settings};

/// What the API server asks for: which entry of the webhook configuration calls us.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// The entry of an endpoint, for pods with its label.
    Endpoint(&'a str),
    /// The entry for pods of annotated ServiceAccounts, with what is known of the pod's.
    ServiceAccount(&'a IdentityFacts),
}

/// What happens to a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is refused.
    Deny {
        /// Why.
        refusal: Refusal,
        /// The endpoints concerned.
        endpoints: Vec<&'a EndpointSettings>,
    },
    /// It gets tokens.
    Inject(Box<Plan<'a>>),
    /// It is left alone.
    Skip(SkipReason),
}

/// Why a pod is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Its ServiceAccount could not be looked up, and the operator wants it to start then.
    AccountUnanswered,
    /// Nothing is missing: we have seen this pod before.
    AlreadyInjected,
    /// It is in a namespace of the cluster's own, or in ours.
    ExcludedNamespace,
    /// A label gives it the same variables already.
    Labelled,
    /// A static pod's image in the API; only its kubelet can change it.
    MirrorPod,
    /// Neither its ServiceAccount nor the ConfigMap has a role for it.
    NoRole,
    /// Only the creation of a pod can be changed.
    NotCreate,
    /// Its labels say so.
    OptedOut,
    /// Its labels' sidecar was made before its ServiceAccount was known, and serves it not.
    SidecarWithoutAccount,
    /// The request is about a part of a pod.
    Subresource,
    /// No label of ours.
    Unlabelled,
}

impl SkipReason {
    /// Whether its author may have meant something else: then there is something to tell.
    pub(crate) fn is_of_the_pod(self) -> bool {
        match self {
            Self::AccountUnanswered
            | Self::Labelled
            | Self::NoRole
            | Self::SidecarWithoutAccount
            | Self::Unlabelled => true,
            Self::AlreadyInjected
            | Self::ExcludedNamespace
            | Self::MirrorPod
            | Self::NotCreate
            | Self::OptedOut
            | Self::Subresource => false,
        }
    }

    /// What the pod's author has to know of it in any case.
    pub(crate) fn warning(self) -> Option<&'static str> {
        (self == Self::SidecarWithoutAccount).then_some(
            "kube-sts: its sidecar was made before its ServiceAccount's role was known: create it anew to get that",
        )
    }

    /// Stable name for metrics, logs and audit annotations.
    pub fn code(self) -> &'static str {
        match self {
            Self::AccountUnanswered => "account_unanswered",
            Self::AlreadyInjected => "already_injected",
            Self::ExcludedNamespace => "excluded_namespace",
            Self::Labelled => "labelled",
            Self::MirrorPod => "mirror_pod",
            Self::NoRole => "no_role",
            Self::NotCreate => "not_create",
            Self::OptedOut => "opted_out",
            Self::SidecarWithoutAccount => "sidecar_without_account",
            Self::Subresource => "subresource",
            Self::Unlabelled => "unlabelled",
        }
    }
}

/// Decides on a pod, whose labels are all looked at, whichever entry the API server calls.
pub fn decide<'a>(
    settings: &'a Settings,
    server_ca: Option<&'a CaBundle>,
    entry: Entry<'_>,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Decision<'a> {
    if let Some(reason) = out_of_scope(settings, request, pod) {
        return Decision::Skip(reason);
    }
    let asked = Asked {
        settings,
        server_ca,
        request,
        pod,
    };
    match entry {
        Entry::Endpoint(endpoint) => of_labels(&asked, endpoint),
        Entry::ServiceAccount(facts) => of_account(&asked, facts),
    }
}

/// An endpoint that we do not know is one of a newer configuration than ours: during an upgrade its
/// entry of the webhook configuration is there at once, while we still run. Taking the pod for unlabelled
/// would let it start without its token.
fn of_labels<'a>(asked: &Asked<'a, '_>, endpoint: &str) -> Decision<'a> {
    let endpoints = &asked.settings.endpoints;
    if !endpoints.iter().any(|one| one.name == endpoint) {
        let refusal = Refusal::EndpointUnknown {
            pod: asked.request.pod.clone(),
            endpoint: Shown(endpoint).to_string(),
        };
        return Decision::Deny {
            refusal,
            endpoints: Vec::new(),
        };
    }
    let labelled = labelled(asked.settings, asked.pod);
    if labelled.is_empty() {
        return Decision::Skip(SkipReason::Unlabelled);
    }
    match plan_of_labels(asked, &labelled) {
        Ok(Some(plan)) => Decision::Inject(Box::new(plan)),
        Ok(None) => Decision::Skip(SkipReason::OptedOut),
        Err(refusal) => Decision::Deny {
            refusal,
            endpoints: labelled.into_iter().map(|(endpoint, _)| endpoint).collect(),
        },
    }
}

fn of_account<'a>(asked: &Asked<'a, '_>, facts: &IdentityFacts) -> Decision<'a> {
    let Some(settings) = &asked.settings.identity else {
        // An entry of a newer configuration than ours, or one that was left behind.
        return Decision::Skip(SkipReason::NoRole);
    };
    if asked.pod.label(SKIP_LABEL).is_some() {
        return Decision::Skip(SkipReason::OptedOut);
    }
    let identity = match resolve(settings, facts, asked.request, asked.pod) {
        Ok(Some(identity)) => identity,
        Ok(None) => return Decision::Skip(nobody(facts)),
        Err(refusal) => {
            return Decision::Deny {
                refusal,
                endpoints: Vec::new(),
            };
        }
    };
    let endpoint = identity.endpoint;
    match plan_of_account(asked, identity) {
        Ok(OfAccount::Plan(plan)) => Decision::Inject(plan),
        Ok(OfAccount::Skip(reason)) => Decision::Skip(reason),
        Err(refusal) => Decision::Deny {
            refusal,
            endpoints: endpoint.into_iter().collect(),
        },
    }
}

fn nobody(facts: &IdentityFacts) -> SkipReason {
    match facts.lookup {
        Lookup::Unanswered => SkipReason::AccountUnanswered,
        Lookup::Found(_) | Lookup::Missing | Lookup::Unasked => SkipReason::NoRole,
    }
}

fn out_of_scope(
    settings: &Settings,
    request: &RequestFacts,
    pod: &PodView<'_>,
) -> Option<SkipReason> {
    match (request.target, request.operation) {
        (Target::Subresource, _) => Some(SkipReason::Subresource),
        (Target::Object, Operation::Connect | Operation::Delete | Operation::Update) => {
            Some(SkipReason::NotCreate)
        }
        (Target::Object, Operation::Create) if pod.annotation(MIRROR_ANNOTATION).is_some() => {
            Some(SkipReason::MirrorPod)
        }
        (Target::Object, Operation::Create) => settings
            .excluded_namespaces
            .contains(&request.namespace)
            .then_some(SkipReason::ExcludedNamespace),
    }
}

/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
