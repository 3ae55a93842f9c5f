//! What the author of an admitted pod ought to know: `warnings` of the response, which kubectl
//! prints (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>).

use crate::collide::is_sidecar;
use crate::identity::{AGENT_URI, Identity, credential_variables, is_alone, is_other, kept};
use crate::patch::variables;
use crate::plan::{Plan, TokensVolume};
use crate::pod::{ContainerView, PodView, Text};
use crate::review::Shown;
use crate::settings::{AWS_ROLE_ARN, AWS_TOKEN_FILE, Settings};
use crate::sidecar::TOKENS_VOLUME;

/// The warnings for a pod that gets something, behind the `hints` at what was probably meant; each shorter than 120 characters, at most
/// 20 of them.
pub(crate) fn warnings(
    settings: &Settings,
    plan: &Plan<'_>,
    pod: &PodView<'_>,
    hints: Vec<String>,
) -> Vec<String> {
    let labels = variables(plan, pod);
    let containers = pod
        .spec
        .containers
        .iter()
        .chain(&pod.spec.init_containers)
        .flatten();
    let of_containers = containers
        .filter(|container| !is_sidecar(container))
        .flat_map(|container| of_container(container, &labels, plan.identity.as_ref()));
    let of_identity = plan
        .identity
        .iter()
        .flat_map(|one| of_identity(settings, one, pod));
    let all = hints
        .into_iter()
        .chain(of_pod(plan, pod))
        .chain(of_identity);
    bounded(all.chain(of_containers).collect())
}

fn of_pod(plan: &Plan<'_>, pod: &PodView<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(sidecar) = &plan.sidecar else {
        return warnings;
    };
    if pod.spec.share_process_namespace == Some(true) {
        warnings.push(SHARED_PROCESSES.to_owned());
    }
    let mut volumes = pod.spec.volumes.iter().flatten();
    let is_on_disk = volumes.any(|volume| {
        let medium = volume
            .empty_dir
            .as_ref()
            .and_then(|one| one.medium.as_ref());
        volume.name.as_str() == TOKENS_VOLUME && medium.map(Text::as_str) != Some("Memory")
    });
    if sidecar.volume == TokensVolume::Brought && is_on_disk {
        warnings.push(format!(
            "kube-sts: volume {TOKENS_VOLUME} is not in memory: tokens are written to a disk"
        ));
    }
    warnings
}

/// Names of containers that are none.
fn of_identity(settings: &Settings, identity: &Identity<'_>, pod: &PodView<'_>) -> Vec<String> {
    let is_there = |name: &str| {
        let lists = [&pod.spec.containers, &pod.spec.init_containers];
        let mut all = lists.into_iter().flatten().flatten();
        all.any(|container| container.name.as_str() == name)
    };
    let prefix = settings
        .identity
        .as_ref()
        .map_or("", |one| one.prefix.as_str());
    let unknown = identity.named_containers().filter(|name| !is_there(name));
    unknown
        .map(|name| {
            short(format!(
                "kube-sts: a {prefix} annotation names container {}, which the pod has not",
                Shown(name)
            ))
        })
        .collect()
}

/// At most 20, since the API server cuts them off beyond 4 KiB in sum.
pub(crate) fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    let surplus = warnings.len().saturating_sub(MAX_WARNINGS);
    if surplus > 0 {
        warnings.truncate(MAX_WARNINGS.saturating_sub(1));
        warnings.push(format!(
            "kube-sts: and {} more warnings",
            surplus.saturating_add(1)
        ));
    }
    warnings
}

fn of_container(
    container: &ContainerView<'_>,
    labels: &[(String, String)],
    identity: Option<&Identity<'_>>,
) -> Vec<String> {
    let name = Shown(container.name.as_str());
    let of_labels = labels
        .iter()
        .map(|(variable, value)| (variable.as_str(), value.as_str()));
    let others = of_labels
        .clone()
        .filter(|variable| is_other(*variable, container));
    let others = others.map(|(variable, _)| variable);
    let kept = identity.map(|identity| kept(identity, container));
    let kept = others.chain(kept.into_iter().flatten());
    let mut warnings: Vec<String> = kept
        .map(|variable| {
            short(format!(
                "kube-sts: container {name} keeps its own {variable}"
            ))
        })
        .collect();
    if identity.is_some_and(|identity| is_alone(identity, container)) {
        warnings.push(short(format!(
            "kube-sts: container {name} has variables of every kind, and gets no token"
        )));
    }
    let of_identity = identity.map(|identity| credential_variables(identity, container));
    let ours = of_labels.chain(of_identity.into_iter().flatten());
    let ours: Vec<&str> = ours.map(|(variable, _)| variable).collect();
    warnings.extend(of_shadows(container, &name, &ours));
    warnings
}

/// What the SDKs take before what the variables `ours` lead to
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).
fn of_shadows(container: &ContainerView<'_>, name: &Shown<'_>, ours: &[&str]) -> Vec<String> {
    let shadows: &[&str] = if ours.contains(&AWS_ROLE_ARN) {
        &SHADOWS
    } else if ours.contains(&AGENT_URI) {
        &SHADOWS_OF_AGENT
    } else {
        return Vec::new();
    };
    let shadows = shadows
        .iter()
        .filter(|shadow| container.variable(shadow).is_some());
    let mut warnings: Vec<String> = shadows
        .map(|shadow| {
            short(format!(
                "kube-sts: container {name} sets {shadow}, which wins over the role"
            ))
        })
        .collect();
    let sources = container.env_from.as_ref();
    if sources.is_some_and(|sources| !sources.is_empty()) {
        warnings.push(short(format!(
            "kube-sts: container {name} has envFrom; AWS keys in it would win over the role"
        )));
    }
    warnings
}

pub(crate) fn short(text: String) -> String {
    if text.chars().count() < MAX_CHARACTERS {
        return text;
    }
    text.chars()
        .take(MAX_CHARACTERS - 4)
        .chain("...".chars())
        .collect()
}

/// By `/proc/<pid>/root`
/// (<https://kubernetes.io/docs/tasks/configure-pod-container/share-process-namespace/>).
const SHARED_PROCESSES: &str =
    "kube-sts: with shareProcessNamespace a container may read the sidecar's files, its token too";
/// Variables by which the AWS SDKs find other credentials before the web identity.
const SHADOWS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"];
/// The same before an agent on the node, which they ask at last but one.
const SHADOWS_OF_AGENT: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", AWS_TOKEN_FILE];
/// Kubernetes asks for warnings shorter than this.
const MAX_CHARACTERS: usize = 120;
/// The API server cuts off what is more than 4 KiB in sum; a pod of 100 containers stays below it.
const MAX_WARNINGS: usize = 20;
