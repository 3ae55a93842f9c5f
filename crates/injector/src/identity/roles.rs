//! The roles of a pod's containers.

use std::collections::BTreeMap;

use super::account::{Account, CONTAINER_ROLE, ROLE};
use super::{Origin, glob};
use crate::annotations::AnnotationValue;
use crate::pod::{Pairs, PodView};
use crate::refusal::Refusal;
use crate::review::{RequestFacts, Shown};
use crate::settings::{AllowedRoles, IdentitySettings};

/// A role for each container, or for some of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Roles {
    pod: Option<AnnotationValue>,
    by_container: BTreeMap<String, AnnotationValue>,
}

impl Roles {
    /// The role of a container.
    pub fn of(&self, container: &str) -> Option<&AnnotationValue> {
        self.by_container.get(container).or(self.pod.as_ref())
    }

    /// The containers that have one of their own.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &str> {
        self.by_container.keys().map(String::as_str)
    }

    /// All roles, each with the name of the annotation that names it, and its container.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, Option<&str>, &AnnotationValue)> {
        let of_pod = self.pod.iter().map(|role| (ROLE.to_owned(), None, role));
        let of_containers = self.by_container.iter().map(|(container, role)| {
            let name = format!("{CONTAINER_ROLE}{}", Shown(container));
            (name, Some(container.as_str()), role)
        });
        of_pod.chain(of_containers)
    }

    /// Of the pod's annotations, which go first, and of the account's.
    pub(super) fn parse(
        settings: &IdentitySettings,
        (account, origin): (&Account, Origin),
        request: &RequestFacts,
        pod: &PodView<'_>,
    ) -> Result<Self, Refusal> {
        let prefix = &settings.prefix;
        let of_account = |key: &str| match origin {
            Origin::ConfigMap => "the ConfigMap's RoleARN for its ServiceAccount".to_owned(),
            Origin::Agent | Origin::Pod | Origin::ServiceAccount => {
                format!("annotation {prefix}/{} of its ServiceAccount", Shown(key))
            }
        };
        let parse = |text: &str, place: String| parse(settings, request, text, place);
        let role = account.role.as_deref();
        let role = role.map(|text| parse(text, of_account(ROLE))).transpose()?;
        let mut by_container = BTreeMap::new();
        for (container, text) in &account.container_roles {
            let place = of_account(&format!("{CONTAINER_ROLE}{container}"));
            drop(by_container.insert(container.clone(), parse(text, place)?));
        }
        for (container, text) in of_pod(prefix, pod) {
            let place = format!("annotation {prefix}/{CONTAINER_ROLE}{}", Shown(container));
            drop(by_container.insert(container.to_owned(), parse(text, place)?));
        }
        Ok(Self {
            pod: role,
            by_container,
        })
    }
}

/// What the pod's own annotations say: container and role.
pub(super) fn of_pod<'p>(
    prefix: &'p str,
    pod: &'p PodView<'_>,
) -> impl Iterator<Item = (&'p str, &'p str)> {
    let keys = pod.metadata.annotations.iter().flat_map(Pairs::keys);
    keys.filter_map(move |key| {
        let name = key.strip_prefix(prefix)?.strip_prefix('/')?;
        let container = name.strip_prefix(CONTAINER_ROLE)?;
        let role = pod.annotation(key).filter(|role| !role.is_empty())?;
        Some((container, role))
    })
}

fn parse(
    settings: &IdentitySettings,
    request: &RequestFacts,
    text: &str,
    place: String,
) -> Result<AnnotationValue, Refusal> {
    let IdentitySettings {
        shape,
        role_arn_prefix,
        allowed_roles,
        ..
    } = settings;
    let text = match role_arn_prefix {
        Some(prefix) if !text.contains("arn:") => format!("{prefix}{text}"),
        Some(_) | None => text.to_owned(),
    };
    let role = match AnnotationValue::parse(&text, *shape) {
        Ok(role) => role,
        Err(problem) => {
            return Err(Refusal::RoleInvalid {
                pod: request.pod.clone(),
                place,
                problem,
                shape: *shape,
            });
        }
    };
    let is_allowed = allowed_roles
        .as_ref()
        .is_none_or(|allowed| allows(allowed, &request.namespace, role.as_str()));
    if is_allowed {
        return Ok(role);
    }
    Err(Refusal::RoleNotAllowed {
        pod: request.pod.clone(),
        place,
        namespace: Shown(&request.namespace).to_string(),
    })
}

fn allows(allowed: &[AllowedRoles], namespace: &str, role: &str) -> bool {
    let of_namespace = allowed
        .iter()
        .filter(|one| glob::matches(&one.namespace, namespace));
    let mut roles = of_namespace.flat_map(|one| &one.roles);
    roles.any(|pattern| glob::matches(pattern, role))
}
