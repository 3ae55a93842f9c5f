//! What in a pod stands where ours has to go: names, volumes, mounts, variables. We only ever add,
//! so a collision is a refusal; what is ours already is not a collision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::identity::{Identity, TokenVolume};
use crate::intact::spoilt_field;
use crate::plan::{Grant, Plan, SidecarPlan, TokensVolume, asker};
use crate::pod::{
    ContainerView, EmptyDirView, MountView, PodView, SourceView, SpecView, Text, VolumeView,
};
use crate::refusal::Refusal;
use crate::review::{PodName, Shown};
use crate::settings::{EndpointSettings, IdentityToken, Settings, SidecarForm};
use crate::sidecar::{
    ENDPOINTS_ENV, FILES_ENV, FIRST_TOKEN_NAME, List, PROJECTED_PATH, PROJECTED_VOLUME, Role,
    SIDECAR_NAME, SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME, endpoints_value, roles,
};

/// Refuses endpoints of one pod that set the same variable.
pub(crate) fn environment(grants: &[Grant<'_>], name: &PodName) -> Result<(), Refusal> {
    let Some((variable, first, second)) = first_clash(grants.iter().map(|(one, _)| *one)) else {
        return Ok(());
    };
    Err(Refusal::EnvironmentClash {
        pod: name.clone(),
        variable: variable.to_owned(),
        first: first.to_owned(),
        second: second.to_owned(),
    })
}

/// The first variable that two of the endpoints set, and these two.
pub(crate) fn first_clash<'e>(
    endpoints: impl IntoIterator<Item = &'e EndpointSettings>,
) -> Option<(&'e str, &'e str, &'e str)> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for endpoint in endpoints {
        let EndpointSettings {
            name,
            token_env,
            annotation_env,
            files,
            ..
        } = endpoint;
        let companions = files.iter().filter_map(|file| file.env.as_ref());
        for variable in [token_env, annotation_env].into_iter().chain(companions) {
            if let Some(first) = owners.insert(variable, name) {
                return Some((variable.as_str(), first, name.as_str()));
            }
        }
    }
    None
}

/// Refuses a pod in which something else has our names or stands at our paths.
pub(crate) fn pod(
    settings: &Settings,
    plan: &Plan<'_>,
    name: &PodName,
    pod: &PodView<'_>,
) -> Result<(), Refusal> {
    let spec = &pod.spec;
    sidecar(settings, plan.sidecar.as_ref(), name, pod)?;
    volumes(settings, plan, name, spec)?;
    for container in others(spec) {
        if plan.sidecar.is_some() {
            own_volumes_mounts(name, container)?;
            mounts(name, container, TOKENS_VOLUME, TOKENS_PATH)?;
        }
        if plan.projected().next().is_some() {
            mounts(name, container, PROJECTED_VOLUME, PROJECTED_PATH)?;
        }
        if let Some(identity) = &plan.identity {
            identity_mount(identity, name, container)?;
        }
    }
    Ok(())
}

/// The endpoint that a sidecar of ours serves besides these: pods of annotated ServiceAccounts get it by another entry of the webhook
/// configuration, which is called first.
pub(crate) fn served_besides<'a>(
    settings: &'a Settings,
    endpoints: &[&'a EndpointSettings],
    spec: &SpecView<'_>,
) -> Option<&'a EndpointSettings> {
    let IdentityToken::Sidecar(more) = &settings.identity.as_ref()?.token else {
        return None;
    };
    let is_besides = !endpoints.iter().any(|one| one.name == more.name);
    let both: Vec<_> = endpoints.iter().copied().chain([more]).collect();
    (is_besides && serves_exactly(&both, spec)).then_some(more)
}

/// Whether the pod has a sidecar of ours that was made for these endpoints, wherever they were then.
pub(crate) fn serves_exactly(endpoints: &[&EndpointSettings], spec: &SpecView<'_>) -> bool {
    let wanted: BTreeSet<_> = endpoints.iter().map(|one| one.name.as_str()).collect();
    let served = ours(spec).find_map(|(_, _, container)| served(container));
    served.is_some_and(|served| names(served) == wanted)
}

/// The names in a value of [`ENDPOINTS_ENV`].
fn names(served: &str) -> BTreeSet<&str> {
    let name = |entry| str::split_once(entry, '=').map_or(entry, |(name, _)| name);
    entries(served).into_iter().map(name).collect()
}

/// Whether the pod has a container of that name that is served.
pub(crate) fn has_container(name: &str, spec: &SpecView<'_>) -> bool {
    others(spec).any(|container| container.name.as_str() == name)
}

/// Whether this is a container of ours, by name; the names of a pod's containers are unique.
pub(crate) fn is_sidecar(container: &ContainerView<'_>) -> bool {
    [SIDECAR_NAME, FIRST_TOKEN_NAME].contains(&container.name.as_str())
}

/// Whether this mount is the one we add: a writable one would let a container replace its own token, and
/// the others'.
pub(crate) fn is_own_mount(mount: &MountView<'_>, volume: &str, path: &str) -> bool {
    let whole = |part: Option<&Text<'_>>| part.is_none_or(|text| text.as_str().is_empty());
    mount.name.as_str() == volume
        && mount.mount_path.as_str() == path
        && mount.read_only == Some(true)
        && whole(mount.sub_path.as_ref())
        && whole(mount.sub_path_expr.as_ref())
}

type Placed<'s, 'a> = (List, usize, &'s ContainerView<'a>);

fn all<'s, 'a>(spec: &'s SpecView<'a>) -> impl Iterator<Item = Placed<'s, 'a>> {
    let lists = [
        (List::InitContainers, &spec.init_containers),
        (List::Containers, &spec.containers),
    ];
    lists.into_iter().flat_map(|(list, containers)| {
        let containers = containers.iter().flatten().enumerate();
        containers.map(move |(index, container)| (list, index, container))
    })
}

fn ours<'s, 'a>(spec: &'s SpecView<'a>) -> impl Iterator<Item = Placed<'s, 'a>> {
    all(spec).filter(|(_, _, container)| is_sidecar(container))
}

/// All containers but ours.
fn others<'s, 'a>(spec: &'s SpecView<'a>) -> impl Iterator<Item = &'s ContainerView<'a>> {
    let all = all(spec).map(|(_, _, container)| container);
    all.filter(|container| !is_sidecar(container))
}

fn served<'c>(container: &'c ContainerView<'_>) -> Option<&'c str> {
    let entry = container.variable(ENDPOINTS_ENV)?;
    entry.value.as_ref().map(Text::as_str)
}

/// A container of our name is ours if it is where we put one, and names endpoints. Whatever settings it was made by, it stays, if it works
/// by them and ours.
fn sidecar(
    settings: &Settings,
    plan: Option<&SidecarPlan<'_>>,
    name: &PodName,
    pod: &PodView<'_>,
) -> Result<(), Refusal> {
    let Some(plan) = plan else { return Ok(()) };
    for (list, index, container) in ours(&pod.spec) {
        let own_name = known(container.name.as_str());
        let (Some(role), Some(served)) = (role_at(list, own_name), served(container)) else {
            return Err(Refusal::ContainerNameTaken {
                pod: name.clone(),
                container: own_name,
                key: asker(settings, plan.endpoints.first().copied()),
            });
        };
        if !serves_exactly(&plan.endpoints, &pod.spec) {
            return Err(Refusal::SidecarOutdated {
                pod: name.clone(),
                container: own_name,
            });
        }
        let wanted = endpoints_value(plan.endpoints.iter().copied());
        let files = container.variable(FILES_ENV);
        let files = files.and_then(|entry| entry.value.as_ref().map(Text::as_str));
        let mut configured = roles(settings.sidecar.form).iter();
        let is_by_ours = configured.any(|(_, one)| *one == role)
            && entries(served) == entries(&wanted)
            && files == plan.files.as_deref();
        if !is_by_ours {
            return Err(Refusal::OtherSettings {
                pod: name.clone(),
                part: format!("container {own_name}"),
            });
        }
        let found = whole(pod.json, list, index);
        if let Some(part) = spoilt_field(role, plan.user, &found) {
            return Err(Refusal::SidecarChanged {
                pod: name.clone(),
                container: own_name,
                part: part.to_owned(),
            });
        }
    }
    Ok(())
}

/// What a container of ours is for, by its place and name, in whichever form of the sidecar.
fn role_at(list: List, name: &str) -> Option<Role> {
    let forms = [SidecarForm::Native, SidecarForm::Classic];
    let mut all = forms.into_iter().flat_map(roles);
    let found = all.find(|(place, role)| *place == list && role.container_name() == name);
    found.map(|(_, role)| *role)
}

/// The endpoints in a value of [`ENDPOINTS_ENV`], whose order does not matter.
fn entries(served: &str) -> BTreeSet<&str> {
    served.split(',').collect()
}

fn known(name: &str) -> &'static str {
    if name == FIRST_TOKEN_NAME {
        FIRST_TOKEN_NAME
    } else {
        SIDECAR_NAME
    }
}

/// The whole of one container. Unreadable is only what is nested too deep, and nothing of ours is.
fn whole(json: &str, list: List, index: usize) -> Value {
    let pod: Value = serde_json::from_str(json).unwrap_or_default();
    let container = pod.get("spec").and_then(|spec| spec.get(list.name()));
    let container = container.and_then(|list| list.get(index));
    container.cloned().unwrap_or_default()
}

fn volumes(
    settings: &Settings,
    plan: &Plan<'_>,
    name: &PodName,
    spec: &SpecView<'_>,
) -> Result<(), Refusal> {
    let brings = plan.sidecar.as_ref().map(|sidecar| sidecar.volume);
    let has_tokens = spec
        .volumes
        .iter()
        .flatten()
        .any(|one| one.name.as_str() == TOKENS_VOLUME);
    if brings == Some(TokensVolume::Brought) && !has_tokens {
        return Err(Refusal::VolumeMissing {
            pod: name.clone(),
            volume: TOKENS_VOLUME,
        });
    }
    let projected: Vec<_> = plan.projected().collect();
    for volume in spec.volumes.iter().flatten() {
        let own_name = volume.name.as_str();
        let taken = match (own_name, &plan.sidecar) {
            (TOKENS_VOLUME, Some(sidecar)) if sidecar.volume == TokensVolume::Added => {
                (!is_in_memory(volume.empty_dir.as_ref())).then_some(TOKENS_VOLUME)
            }
            (SUBJECT_VOLUME, Some(sidecar)) => {
                let is_ours = has_tokens_of(&sidecar.endpoints, volume, |one| one.name.clone());
                if !is_ours && ours(spec).next().is_some() {
                    return Err(Refusal::OtherSettings {
                        pod: name.clone(),
                        part: format!("volume {SUBJECT_VOLUME}"),
                    });
                }
                (!is_ours).then_some(SUBJECT_VOLUME)
            }
            (PROJECTED_VOLUME, _) if !projected.is_empty() => {
                let is_ours =
                    has_tokens_of(&projected, volume, |one| format!("{}/token", one.name));
                (!is_ours).then_some(PROJECTED_VOLUME)
            }
            _ => None,
        };
        if let Some(volume) = taken {
            return Err(Refusal::VolumeNameTaken {
                pod: name.clone(),
                volume,
            });
        }
        if let Some(identity) = &plan.identity {
            identity_volume(settings, identity, name, volume)?;
        }
    }
    Ok(())
}

/// Between two calls the API server fills in defaults, so only what we set is compared.
fn is_in_memory(volume: Option<&EmptyDirView<'_>>) -> bool {
    let medium = volume.and_then(|volume| volume.medium.as_ref());
    medium.is_some_and(|medium| medium.as_str() == "Memory")
}

fn sources<'v, 'a>(volume: &'v VolumeView<'a>) -> &'v [SourceView<'a>] {
    let projected = volume.projected.as_ref();
    let sources = projected.and_then(|projected| projected.sources.as_deref());
    sources.unwrap_or_default()
}

/// Whether the volume has exactly these endpoints' tokens, each in its file.
fn has_tokens_of(
    endpoints: &[&EndpointSettings],
    volume: &VolumeView<'_>,
    file: impl Fn(&EndpointSettings) -> String,
) -> bool {
    let sources = sources(volume);
    let has = |endpoint: &&EndpointSettings| {
        let path = file(endpoint);
        sources.iter().any(|source| {
            source.service_account_token.as_ref().is_some_and(|token| {
                token.path.as_str() == path
                    && token.audience.as_ref().map(Text::as_str) == Some(&endpoint.audience)
            })
        })
    };
    sources.len() == endpoints.len() && endpoints.iter().all(has)
}

/// A volume of this name without a token in it would leave the container without its credentials, and the SDK with its node's. One with
/// a token, of whatever audience and life, is what the pod's author wants.
fn identity_volume(
    settings: &Settings,
    identity: &Identity<'_>,
    name: &PodName,
    volume: &VolumeView<'_>,
) -> Result<(), Refusal> {
    let wanted = &identity.volume;
    let Some(projected) = &wanted.projected else {
        return Ok(());
    };
    let has_token = sources(volume).iter().any(|source| {
        let token = source.service_account_token.as_ref();
        token.is_some_and(|token| token.path.as_str() == projected.path)
    });
    if volume.name.as_str() != wanted.name || has_token {
        return Ok(());
    }
    Err(Refusal::TokenVolumeTaken {
        pod: name.clone(),
        volume: wanted.name.clone(),
        key: identity.origin.asker(settings),
    })
}

/// Two mounts at one path are no valid pod.
fn identity_mount(
    identity: &Identity<'_>,
    name: &PodName,
    container: &ContainerView<'_>,
) -> Result<(), Refusal> {
    let TokenVolume {
        name: volume,
        mount_path,
        projected,
    } = &identity.volume;
    let mounts = container.volume_mounts.iter().flatten();
    let mut at_path =
        mounts.filter(|one| segments(one.mount_path.as_str()) == segments(mount_path));
    let is_foreign = at_path.any(|one| one.name.as_str() != volume);
    if projected.is_none()
        || !is_foreign
        || crate::identity::additions(identity, container).is_none()
    {
        return Ok(());
    }
    Err(Refusal::TokenMountTaken {
        pod: name.clone(),
        container: Shown(container.name.as_str()).to_string(),
        path: mount_path.clone(),
    })
}

/// Our volumes are mounted by nobody but as we do it: the pod's own tokens by the sidecar alone, since
/// whoever has them can exchange them anywhere.
fn own_volumes_mounts(name: &PodName, container: &ContainerView<'_>) -> Result<(), Refusal> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut foreign = mounts.filter(|mount| !is_own_mount(mount, TOKENS_VOLUME, TOKENS_PATH));
    let volume = foreign.find_map(|mount| {
        let volumes = [SUBJECT_VOLUME, TOKENS_VOLUME];
        volumes.into_iter().find(|one| *one == mount.name.as_str())
    });
    let Some(volume) = volume else { return Ok(()) };
    Err(Refusal::VolumeMounted {
        pod: name.clone(),
        container: Shown(container.name.as_str()).to_string(),
        volume,
    })
}

fn mounts(
    name: &PodName,
    container: &ContainerView<'_>,
    volume: &str,
    path: &'static str,
) -> Result<(), Refusal> {
    let mut mounts = container.volume_mounts.iter().flatten();
    let foreign = mounts.any(|mount| {
        !is_own_mount(mount, volume, path) && overlap(mount.mount_path.as_str(), path)
    });
    if !foreign {
        return Ok(());
    }
    Err(Refusal::MountTaken {
        pod: name.clone(),
        container: Shown(container.name.as_str()).to_string(),
        path,
    })
}

/// Whether one path is the other, above it or under it, however they are spelt.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (segments(one), segments(other));
    one.iter().zip(&other).all(|(left, right)| left == right)
}

fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_at_under_and_above_ours_overlap() {
        for path in [
            "/",
            "/var",
            "/var/run/",
            "/var/run/secrets",
            "/var//run/./secrets/sts.tremolo.io",
            "/var/run/secrets/sts.tremolo.io/tokens",
            "/var/run/secrets/sts.tremolo.io/tokens/aws",
            "/tmp/../var/run/secrets/sts.tremolo.io/tokens",
        ] {
            assert!(overlap(path, TOKENS_PATH), "{path}");
        }
        for path in [
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "/var/run/secrets/sts.tremolo.io/tokens2",
            "/var/run/secrets/sts.tremolo.io/subject",
            "/var/lib",
            "/run",
        ] {
            assert!(!overlap(path, TOKENS_PATH), "{path}");
        }
    }
}
