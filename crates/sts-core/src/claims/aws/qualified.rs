//! Names that say whose they are only beside another one: whoever has a namespace may give a ServiceAccount any name, and whoever has a
//! cluster may give a namespace any.

use crate::policy::Attribute;
use crate::template::{Template, Variable};

/// The first name of an object in a namespace, where none of the texts says the namespace.
pub(super) fn without_namespace<'t>(
    texts: impl Iterator<Item = &'t Template> + Clone,
) -> Option<Variable> {
    let owners = [Attribute::Namespace, Attribute::Subject];
    let owned = [Attribute::PodName, Attribute::ServiceAccountName];
    first_without(texts, &owned, &owners)
}

/// The first name of an object in a cluster, where none of the texts says the cluster.
pub(super) fn without_cluster<'t>(
    texts: impl Iterator<Item = &'t Template> + Clone,
) -> Option<Variable> {
    let owned = [
        Attribute::Namespace,
        Attribute::NodeName,
        Attribute::PodName,
        Attribute::ServiceAccountName,
        Attribute::Subject,
    ];
    first_without(texts, &owned, &[Attribute::Cluster])
}

fn first_without<'t>(
    texts: impl Iterator<Item = &'t Template> + Clone,
    owned: &[Attribute],
    owners: &[Attribute],
) -> Option<Variable> {
    let mut variables = texts.clone().flat_map(Template::variables);
    let first = variables
        .find(|variable| matches!(variable, Variable::Attribute(one) if owned.contains(one)));
    let names_owner = |text: &Template| owners.iter().any(|owner| text.names(*owner));
    let mut texts = texts;
    first.filter(|_| !texts.any(names_owner))
}
