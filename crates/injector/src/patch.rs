//! A [`Plan`] and the pod it was made for → the JSON patch.
//!
//! Element-wise `add` operations of RFC 6902 only (<https://www.rfc-editor.org/rfc/rfc6902#section-4.1>):
//! nothing is removed or replaced, what we do not know stays as it is, and another webhook's
//! changes do not conflict with ours. Only what is missing is added, so a second pass is empty.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use crate::collide::{is_own_mount, is_sidecar};
use crate::identity::{AGENT_LABEL, Credentials, Identity, TokenVolume, additions};
use crate::plan::{Plan, SidecarPlan, TokensVolume};
use crate::pod::{ContainerView, PodView, SpecView};
use crate::settings::Settings;
use crate::sidecar::{
    self, List, PROJECTED_PATH, PROJECTED_VOLUME, SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME,
    projected_source, projected_volume, token_source,
};

/// The operations that make the pod what the plan says; empty when it is already.
pub fn render_patch(settings: &Settings, plan: &Plan<'_>, pod: &PodView<'_>) -> Patch {
    let mut added = Additions::default();
    let wanted = Wanted::new(plan, pod);
    let spec = &pod.spec;
    // Indexes are those of the pod as it came, so our own init container is inserted last.
    for (list, containers) in [
        (List::Containers, &spec.containers),
        (List::InitContainers, &spec.init_containers),
    ] {
        for (index, container) in containers.iter().flatten().enumerate() {
            if !is_sidecar(container) {
                wanted.add_to(
                    &mut added,
                    &["spec", list.name(), &index.to_string()],
                    container,
                );
            }
        }
    }
    add_volumes(&mut added, settings, plan, spec);
    if let Some(sidecar) = &plan.sidecar {
        add_sidecar(&mut added, settings, sidecar, spec);
    }
    add_label(&mut added, plan.identity.as_ref(), pod);
    Patch(added.0)
}

/// The variables that labels give to each container, name and value.
pub(crate) fn variables(plan: &Plan<'_>, pod: &PodView<'_>) -> Vec<(String, String)> {
    let of = |(endpoint, annotation): &crate::plan::Grant<'_>| {
        let file = crate::identity::in_container(&sidecar::token_file(endpoint), pod);
        let annotation = annotation.as_str().to_owned();
        let fixed = [
            (endpoint.token_env.clone(), file),
            (endpoint.annotation_env.clone(), annotation),
        ];
        let companions = endpoint.files.iter().filter_map(|file| {
            let path = sidecar::companion_file(endpoint, file);
            Some((file.env.clone()?, crate::identity::in_container(&path, pod)))
        });
        fixed.into_iter().chain(companions).collect::<Vec<_>>()
    };
    plan.grants.iter().flat_map(of).collect()
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

    /// Appends to an array, which is made where there is none. `null` counts as none, and `add` puts the array there.
    fn append<T>(&mut self, path: &[&str], existing: Option<&Vec<T>>, elements: Vec<Value>) {
        if existing.is_none() && !elements.is_empty() {
            self.add(path, json!([]));
        }
        let end: Vec<&str> = path.iter().copied().chain(["-"]).collect();
        for element in elements {
            self.add(&end, element);
        }
    }
}

/// What every container gets.
struct Wanted<'p> {
    variables: Vec<(String, String)>,
    /// Volume and path.
    mounts: Vec<(&'static str, &'static str)>,
    identity: Option<&'p Identity<'p>>,
}

impl<'p> Wanted<'p> {
    fn new(plan: &'p Plan<'p>, pod: &PodView<'_>) -> Self {
        let has_projected = plan.projected().next().is_some();
        // An identity's own token is for the containers that have a role; the labels' are for all.
        let served = plan.grants.len().saturating_sub(plan.projected().count());
        let tokens = (served > 0).then_some((TOKENS_VOLUME, TOKENS_PATH));
        let projected = has_projected.then_some((PROJECTED_VOLUME, PROJECTED_PATH));
        Self {
            variables: variables(plan, pod),
            mounts: tokens.into_iter().chain(projected).collect(),
            identity: plan.identity.as_ref(),
        }
    }

    fn add_to(&self, added: &mut Additions, place: &[&str], container: &ContainerView<'_>) {
        let missing = self
            .variables
            .iter()
            .filter(|(name, _)| container.variable(name).is_none());
        let mut entries: Vec<Value> = missing
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let has = |volume: &str, path: &str| {
            let mut mounts = container.volume_mounts.iter().flatten();
            mounts.any(|one| is_own_mount(one, volume, path))
        };
        let lacking = self
            .mounts
            .iter()
            .filter(|(volume, path)| !has(volume, path));
        let mut mounts: Vec<Value> = lacking.map(|(volume, path)| mount(volume, path)).collect();
        if let Some(identity) = self.identity {
            let TokenVolume {
                name, mount_path, ..
            } = &identity.volume;
            if let Some(more) = additions(identity, container) {
                entries.extend(more);
                let is_there = self.mounts.iter().any(|(volume, _)| volume == name)
                    || mounts_volume(container, name, mount_path);
                if !is_there {
                    mounts.push(mount(name, mount_path));
                }
            }
        }
        let path = |list| place.iter().copied().chain([list]).collect::<Vec<_>>();
        added.append(&path("env"), container.env.as_ref(), entries);
        added.append(
            &path("volumeMounts"),
            container.volume_mounts.as_ref(),
            mounts,
        );
    }
}

pub(crate) fn mount(volume: &str, path: &str) -> Value {
    json!({"name": volume, "mountPath": path, "readOnly": true})
}

fn mounts_volume(container: &ContainerView<'_>, volume: &str, path: &str) -> bool {
    let is_at = |at: &str| at.trim_end_matches('/') == path;
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.any(|one| one.name.as_str() == volume && is_at(one.mount_path.as_str()))
}

fn add_volumes(added: &mut Additions, settings: &Settings, plan: &Plan<'_>, spec: &SpecView<'_>) {
    let has = |name: &str| {
        let mut volumes = spec.volumes.iter().flatten();
        volumes.any(|one| one.name.as_str() == name)
    };
    let mut volumes = Vec::new();
    if let Some(sidecar) = &plan.sidecar {
        if sidecar.volume == TokensVolume::Added && !has(TOKENS_VOLUME) {
            volumes.push(sidecar::tokens_volume());
        }
        if !has(SUBJECT_VOLUME) {
            volumes.push(sidecar::subject_volume(&settings.sidecar, sidecar));
        }
    }
    let sources: Vec<Value> = plan.projected().map(projected_source).collect();
    if !sources.is_empty() && !has(PROJECTED_VOLUME) {
        volumes.push(projected_volume(PROJECTED_VOLUME, &sources.into()));
    }
    let identity = plan.identity.as_ref().map(|identity| &identity.volume);
    if let Some(TokenVolume {
        name,
        projected: Some(token),
        ..
    }) = identity
        && !has(name)
    {
        let source = token_source(&token.audience, token.seconds, &token.path);
        volumes.push(projected_volume(name, &json!([source])));
    }
    added.append(&["spec", "volumes"], spec.volumes.as_ref(), volumes);
}

fn add_sidecar(
    added: &mut Additions,
    settings: &Settings,
    sidecar: &SidecarPlan<'_>,
    spec: &SpecView<'_>,
) {
    for (list, role) in sidecar::roles(settings.sidecar.form) {
        let existing = match list {
            List::Containers => spec.containers.as_ref(),
            List::InitContainers => spec.init_containers.as_ref(),
        };
        let is_it = |one: &ContainerView<'_>| one.name.as_str() == role.container_name();
        if existing.into_iter().flatten().any(is_it) {
            continue;
        }
        let container = sidecar::container(&settings.sidecar, sidecar, *role);
        match list {
            // Behind the others: the first is the one that `kubectl logs` and others take for the pod's own.
            List::Containers => added.append(&["spec", list.name()], existing, vec![container]),
            List::InitContainers => {
                if existing.is_none() {
                    added.add(&["spec", list.name()], json!([]));
                }
                added.add(&["spec", list.name(), "0"], container);
            }
        }
    }
}

/// AWS's webhook marks pods that get their credentials from an agent.
fn add_label(added: &mut Additions, identity: Option<&Identity<'_>>, pod: &PodView<'_>) {
    let is_for_agent =
        identity.is_some_and(|one| matches!(one.credentials, Credentials::Agent { .. }));
    if !is_for_agent || pod.label(AGENT_LABEL).is_some() {
        return;
    }
    if pod.metadata.labels.is_none() {
        added.add(&["metadata", "labels"], json!({}));
    }
    added.add(&["metadata", "labels", AGENT_LABEL], json!("enabled"));
}
