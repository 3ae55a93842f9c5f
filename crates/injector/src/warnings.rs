//! What the author of an admitted pod ought to know: `warnings` of the response, which kubectl
//! prints (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>).

use crate::collide::is_sidecar;
use crate::decide::Plan;
use crate::patch::variables;
use crate::pod::{ContainerView, PodView, Text};
use crate::review::Shown;
use crate::settings::AWS_ROLE_ARN;

/// The warnings for a pod; each shorter than 120 characters, at most 20 of them.
pub fn warnings(plan: &Plan<'_>, pod: &PodView<'_>) -> Vec<String> {
    let variables = variables(plan);
    let containers = pod
        .spec
        .containers
        .iter()
        .chain(&pod.spec.init_containers)
        .flatten();
    let of_containers = containers
        .filter(|container| !is_sidecar(container))
        .flat_map(|container| of_container(container, &variables));
    let shared = pod.spec.share_process_namespace == Some(true);
    let of_pod = shared.then(|| SHARED_PROCESSES.to_owned());
    let mut warnings: Vec<String> = of_pod.into_iter().chain(of_containers).collect();
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

fn of_container(container: &ContainerView<'_>, variables: &[(String, String)]) -> Vec<String> {
    let name = Shown(container.name.as_str());
    let kept = variables
        .iter()
        .filter(|(variable, value)| has_another(container, variable, value))
        .map(|(variable, _)| {
            short(format!(
                "kube-sts: container {name} keeps its own {variable}"
            ))
        });
    let mut warnings: Vec<String> = kept.collect();
    if variables
        .iter()
        .any(|(variable, _)| variable == AWS_ROLE_ARN)
    {
        let shadows = SHADOWS
            .iter()
            .filter(|shadow| container.variable(shadow).is_some());
        warnings.extend(shadows.map(|shadow| {
            short(format!(
                "kube-sts: container {name} sets {shadow}, which wins over the role"
            ))
        }));
        if container
            .env_from
            .as_ref()
            .is_some_and(|sources| !sources.is_empty())
        {
            warnings.push(short(format!(
                "kube-sts: container {name} has envFrom; AWS keys in it would win over the role"
            )));
        }
    }
    warnings
}

/// Whether the container sets `variable`, and not to what we would set it to.
fn has_another(container: &ContainerView<'_>, variable: &str, value: &str) -> bool {
    container
        .variable(variable)
        .is_some_and(|entry| entry.value.as_ref().map(Text::as_str) != Some(value))
}

fn short(text: String) -> String {
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
/// Variables by which the AWS SDKs find other credentials before the web identity
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).
const SHADOWS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"];
/// Kubernetes asks for warnings shorter than this.
const MAX_CHARACTERS: usize = 120;
/// The API server cuts off what is more than 4 KiB in sum; a pod of 100 containers stays below it.
const MAX_WARNINGS: usize = 20;
