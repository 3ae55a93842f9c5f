//! A [`Plan`] and the pod it was made for → the JSON patch.
//!
//! Element-wise `add` operations of RFC 6902 only (<https://www.rfc-editor.org/rfc/rfc6902#section-4.1>):
//! nothing is removed or replaced, what we do not know stays as it is, and another webhook's
//! changes do not conflict with ours. Only what is missing is added, so a second pass is empty.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use crate::collide::{is_own_mount, is_sidecar};
use crate::decide::Plan;
use crate::pod::{ContainerView, PodView, SpecView};
use crate::settings::Settings;
use crate::sidecar::{self, SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME};

/// The operations that make the pod what the plan says; empty when it is already.
pub fn render_patch(settings: &Settings, plan: &Plan<'_>, pod: &PodView<'_>) -> Patch {
    let mut additions = Additions::default();
    let variables = variables(plan);
    let SpecView {
        containers,
        init_containers,
        ..
    } = &pod.spec;
    // Indexes are those of the pod as it came, so our own init container is inserted last.
    for (list, containers) in [
        ("containers", containers),
        ("initContainers", init_containers),
    ] {
        for (index, container) in containers.iter().flatten().enumerate() {
            if !is_sidecar(container) {
                add_to_container(&mut additions, list, index, container, &variables);
            }
        }
    }
    add_volumes(&mut additions, settings, plan, &pod.spec);
    add_sidecar(&mut additions, settings, plan, &pod.spec);
    Patch(additions.0)
}

/// The variables a container gets, name and value.
pub(crate) fn variables(plan: &Plan<'_>) -> Vec<(String, String)> {
    plan.grants
        .iter()
        .flat_map(|(endpoint, annotation)| {
            [
                (endpoint.token_env.clone(), sidecar::token_file(endpoint)),
                (
                    endpoint.annotation_env.clone(),
                    annotation.as_str().to_owned(),
                ),
            ]
        })
        .collect()
}

#[derive(Default)]
struct Additions(Vec<PatchOperation>);

impl Additions {
    fn add(&mut self, path: &[&str], value: Value) {
        // From tokens, so that `~` and `/` are escaped whatever the path is made of.
        let path = PointerBuf::from_tokens(path.iter().copied());
        self.0
            .push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Adds an array where there is none. `null` counts as none, and `add` puts the array there.
    fn add_array<T>(&mut self, path: &[&str], existing: Option<&Vec<T>>) {
        if existing.is_none() {
            self.add(path, json!([]));
        }
    }
}

fn add_to_container(
    additions: &mut Additions,
    list: &str,
    index: usize,
    container: &ContainerView<'_>,
    variables: &[(String, String)],
) {
    let index = index.to_string();
    let missing: Vec<_> = variables
        .iter()
        .filter(|(name, _)| container.variable(name).is_none())
        .collect();
    if !missing.is_empty() {
        additions.add_array(&["spec", list, &index, "env"], container.env.as_ref());
    }
    for (name, value) in missing {
        let entry = json!({"name": name, "value": value});
        additions.add(&["spec", list, &index, "env", "-"], entry);
    }
    if !container.volume_mounts.iter().flatten().any(is_own_mount) {
        let mounts = container.volume_mounts.as_ref();
        additions.add_array(&["spec", list, &index, "volumeMounts"], mounts);
        let mount = json!({"name": TOKENS_VOLUME, "mountPath": TOKENS_PATH, "readOnly": true});
        additions.add(&["spec", list, &index, "volumeMounts", "-"], mount);
    }
}

fn add_volumes(
    additions: &mut Additions,
    settings: &Settings,
    plan: &Plan<'_>,
    spec: &SpecView<'_>,
) {
    let has = |name: &str| {
        spec.volumes
            .iter()
            .flatten()
            .any(|one| one.name.as_str() == name)
    };
    let tokens = (!has(TOKENS_VOLUME)).then(sidecar::tokens_volume);
    let subject = (!has(SUBJECT_VOLUME)).then(|| sidecar::subject_volume(&settings.sidecar, plan));
    if tokens.is_some() || subject.is_some() {
        additions.add_array(&["spec", "volumes"], spec.volumes.as_ref());
    }
    for volume in [tokens, subject].into_iter().flatten() {
        additions.add(&["spec", "volumes", "-"], volume);
    }
}

fn add_sidecar(
    additions: &mut Additions,
    settings: &Settings,
    plan: &Plan<'_>,
    spec: &SpecView<'_>,
) {
    if spec.init_containers.iter().flatten().any(is_sidecar) {
        return;
    }
    additions.add_array(&["spec", "initContainers"], spec.init_containers.as_ref());
    let container = sidecar::container(&settings.sidecar, plan);
    additions.add(&["spec", "initContainers", "0"], container);
}
