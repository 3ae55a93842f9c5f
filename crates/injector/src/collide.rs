//! What in a pod stands where ours has to go: names, volumes, mounts, variables. We only ever add,
//! so a collision is a refusal; what is ours already is not a collision.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::annotations::AnnotationValue;
use crate::decide::SidecarUser;
use crate::pod::{ContainerView, EmptyDirView, MountView, SourceView, SpecView, Text, VolumeView};
use crate::refusal::Refusal;
use crate::review::{PodName, Shown};
use crate::settings::{EndpointSettings, Settings};
use crate::sidecar::{
    ENDPOINTS_ENV, SIDECAR_NAME, SUBJECT_VOLUME, TOKENS_PATH, TOKENS_VOLUME, difference,
    endpoints_value,
};

type Grants<'a> = [(&'a EndpointSettings, AnnotationValue)];

/// Refuses endpoints of one pod that set the same variable.
pub(crate) fn environment(grants: &Grants<'_>, name: &PodName) -> Result<(), Refusal> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (
        EndpointSettings {
            name: endpoint,
            token_env,
            annotation_env,
            ..
        },
        _,
    ) in grants
    {
        for variable in [token_env, annotation_env] {
            if let Some(first) = owners.insert(variable, endpoint) {
                return Err(Refusal::EnvironmentClash {
                    pod: name.clone(),
                    variable: variable.clone(),
                    first: first.to_owned(),
                    second: endpoint.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Refuses a pod in which something else has our names or stands at our paths.
pub(crate) fn pod(
    settings: &Settings,
    grants: &Grants<'_>,
    user: SidecarUser,
    name: &PodName,
    spec: &SpecView<'_>,
) -> Result<(), Refusal> {
    sidecar(settings, grants, user, name, spec)?;
    for volume in spec.volumes.iter().flatten() {
        own_volume(grants, name, volume)?;
    }
    for container in others(spec) {
        own_volumes_mounts(name, container)?;
        mounts(name, container)?;
    }
    Ok(())
}

/// Whether this is our sidecar, by name; the names of a pod's containers are unique.
pub(crate) fn is_sidecar(container: &ContainerView<'_>) -> bool {
    container.name.as_str() == SIDECAR_NAME
}

/// Whether this mount is the one we add: a writable one would let a container replace its own token, and
/// the others'.
pub(crate) fn is_own_mount(mount: &MountView<'_>) -> bool {
    let whole = |part: Option<&Text<'_>>| part.is_none_or(|text| text.as_str().is_empty());
    mount.name.as_str() == TOKENS_VOLUME
        && mount.mount_path.as_str() == TOKENS_PATH
        && mount.read_only == Some(true)
        && whole(mount.sub_path.as_ref())
        && whole(mount.sub_path_expr.as_ref())
}

/// All containers but our sidecar.
fn others<'s, 'a>(spec: &'s SpecView<'a>) -> impl Iterator<Item = &'s ContainerView<'a>> {
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !is_sidecar(container));
    init.chain(spec.containers.iter().flatten())
}

fn sidecar(
    settings: &Settings,
    grants: &Grants<'_>,
    user: SidecarUser,
    name: &PodName,
    spec: &SpecView<'_>,
) -> Result<(), Refusal> {
    let taken = || Refusal::ContainerNameTaken {
        pod: name.clone(),
        container: SIDECAR_NAME,
    };
    if spec.containers.iter().flatten().any(is_sidecar) {
        return Err(taken());
    }
    for container in spec
        .init_containers
        .iter()
        .flatten()
        .filter(|one| is_sidecar(one))
    {
        let image = container.image.as_ref().map(Text::as_str);
        if image != Some(settings.sidecar.image.as_str()) {
            return Err(taken());
        }
        let served = container
            .variable(ENDPOINTS_ENV)
            .and_then(|entry| entry.value.as_ref());
        let wanted = endpoints_value(grants.iter().map(|(endpoint, _)| *endpoint));
        if served.map(Text::as_str) != Some(wanted.as_str()) {
            let pod = name.clone();
            return Err(Refusal::SidecarOutdated {
                pod,
                container: SIDECAR_NAME,
            });
        }
        let json = container.json.map_or("null", RawValue::get);
        // Unreadable is only what is nested too deep, and nothing of ours is.
        let found = serde_json::from_str(json).unwrap_or_default();
        if let Some(part) = difference(&settings.sidecar, &wanted, user, &found) {
            return Err(Refusal::SidecarChanged {
                pod: name.clone(),
                container: SIDECAR_NAME,
                part: Shown(&part).to_string(),
            });
        }
    }
    Ok(())
}

fn own_volume(grants: &Grants<'_>, name: &PodName, volume: &VolumeView<'_>) -> Result<(), Refusal> {
    let (known, is_ours) = match volume.name.as_str() {
        TOKENS_VOLUME => (TOKENS_VOLUME, is_in_memory(volume.empty_dir.as_ref())),
        SUBJECT_VOLUME => (SUBJECT_VOLUME, has_subject_tokens(grants, volume)),
        _ => return Ok(()),
    };
    if is_ours {
        Ok(())
    } else {
        Err(Refusal::VolumeNameTaken {
            pod: name.clone(),
            volume: known,
        })
    }
}

/// Between two calls the API server fills in defaults, so only what we set is compared.
fn is_in_memory(volume: Option<&EmptyDirView<'_>>) -> bool {
    let medium = volume.and_then(|volume| volume.medium.as_ref());
    medium.is_some_and(|medium| medium.as_str() == "Memory")
}

fn has_subject_tokens(grants: &Grants<'_>, volume: &VolumeView<'_>) -> bool {
    let sources = volume
        .projected
        .as_ref()
        .and_then(|projected| projected.sources.as_deref());
    let sources = sources.unwrap_or_default();
    sources.len() == grants.len()
        && grants.iter().all(|(endpoint, _)| {
            sources
                .iter()
                .any(|source| is_subject_token(endpoint, source))
        })
}

fn is_subject_token(endpoint: &EndpointSettings, source: &SourceView<'_>) -> bool {
    source.service_account_token.as_ref().is_some_and(|token| {
        token.path.as_str() == endpoint.name
            && token.audience.as_ref().map(Text::as_str) == Some(endpoint.audience.as_str())
    })
}

/// Our volumes are mounted by nobody but as we do it: the pod's own tokens by the sidecar alone, since
/// whoever has them can exchange them anywhere.
fn own_volumes_mounts(name: &PodName, container: &ContainerView<'_>) -> Result<(), Refusal> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut foreign = mounts.filter(|mount| !is_own_mount(mount));
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

fn mounts(name: &PodName, container: &ContainerView<'_>) -> Result<(), Refusal> {
    let foreign = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|mount| !is_own_mount(mount) && overlap(mount.mount_path.as_str(), TOKENS_PATH));
    if !foreign {
        return Ok(());
    }
    Err(Refusal::MountTaken {
        pod: name.clone(),
        container: Shown(container.name.as_str()).to_string(),
        path: TOKENS_PATH,
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
