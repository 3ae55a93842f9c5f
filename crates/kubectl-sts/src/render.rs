//! `render`: what the API server can do in the webhook's place, as objects to apply.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use injector::admission_policy::{self, Scope};
use k8s_openapi::api::core::v1::ConfigMap;
use sts_config::Config;

use crate::cluster::{Cluster, Place};
use crate::output::{self, Format};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Policies that give labelled pods what the webhook would: for clusters of Kubernetes 1.36 and later that run no injector
    MutatingAdmissionPolicy(Options),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration; without it the one in the namespace's ConfigMap is read from the cluster
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the policies are named
    #[arg(long, value_name = "NAME", default_value = "kube-sts")]
    name: String,
    /// Only pods of namespaces with this label; several narrow it further
    #[arg(long = "namespace-label", value_name = "KEY=VALUE", value_parser = parse_label)]
    namespace_labels: Vec<(String, String)>,
}

pub(crate) async fn run(place: Place, what: What, format: Format) -> Result<ExitCode> {
    let What::MutatingAdmissionPolicy(options) = what;
    let (config, namespace) = match &options.config {
        Some(file) => (read_file(file)?, place.namespace()?),
        None => read_cluster(&Cluster::connect(place).await?).await?,
    };
    let scope = Scope {
        name: &options.name,
        namespace: &namespace,
        namespace_labels: &options.namespace_labels,
    };
    let objects = admission_policy::render(&config, &scope)?;
    match format {
        Format::Json => output::json(
            &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}),
        )?,
        Format::Table => {
            output::line(&head())?;
            output::line(output::yaml(&objects)?.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The comment above the objects.
fn head() -> String {
    let differences = admission_policy::DIFFERENCES.map(|line| format!("# * {line}"));
    format!("{HEAD}\n{}", differences.join("\n"))
}

const HEAD: &str = "\
# Policies that do for labels what kube-sts's webhook does, by `kubectl sts render mutating-admission-policy`.
# They need Kubernetes 1.36 or later. What they do otherwise than the webhook, or cannot do at all:";

fn read_file(file: &Path) -> Result<Config> {
    Config::load(file).with_context(|| format!("read {}", file.display()))
}

/// The configuration of the one installation of the namespace.
async fn read_cluster(cluster: &Cluster) -> Result<(Config, String)> {
    let config_maps = cluster.config_maps().await?;
    let text = |config_map: &ConfigMap| config_map.data.as_ref()?.get("config.yaml").cloned();
    let texts: Vec<String> = config_maps.iter().filter_map(text).collect();
    let namespace = cluster.namespace.clone();
    match texts.as_slice() {
        [text] => Ok((Config::parse(text)?, namespace)),
        [] => bail!(
            "no ConfigMap of namespace {namespace} has a config.yaml: name a file with --config"
        ),
        _ => bail!(
            "several ConfigMaps of namespace {namespace} have a config.yaml: name a file with --config"
        ),
    }
}

fn parse_label(text: &str) -> Result<(String, String), &'static str> {
    let label = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = label.ok_or("is not of the form key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}
