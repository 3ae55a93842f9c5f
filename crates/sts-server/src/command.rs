//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sts_core::ident::{ClusterName, EndpointName, LabelKey, Namespace, Role, ServiceAccountName};
use sts_core::policy::{Attribute, KnownLabels};
use sts_server::explain::Question;
use svc_runtime::LogFormat;

/// Security Token Service: exchanges pods' ServiceAccount tokens for tokens that services outside the cluster trust.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The configuration file; docs/samples has two
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,
    /// Say whether the configuration can be run, with every problem in it, and end; the same as `check-config FILE`
    #[arg(long)]
    pub(crate) check_config: bool,
    /// The namespace of our own objects
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "default"
    )]
    pub(crate) namespace: String,
    /// The pod we run in, for Events about its configuration
    #[arg(long, value_name = "NAME", env = "POD_NAME", requires = "pod_uid")]
    pub(crate) pod_name: Option<String>,
    /// That pod's uid
    #[arg(long, value_name = "UID", env = "POD_UID", requires = "pod_name")]
    pub(crate) pod_uid: Option<String>,
    /// How log lines are written: json or text
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub(crate) log_format: LogFormat,
    /// Which log lines are written, such as info or info,sts_server=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

/// What can be asked instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a configuration can be run, with every problem in it
    CheckConfig {
        /// The configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say what an endpoint would answer a pod, by which rule, with which claims; no cluster is asked
    ///
    /// Ends with status 0 if an endpoint that was asked about gives a token, with 3 if none does, and with 1 if the question or the
    /// configuration is wrong.
    Explain(ExplainArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The pod's namespace
    #[arg(long, value_name = "NAME")]
    namespace: Namespace,
    /// The pod's ServiceAccount
    #[arg(long, value_name = "NAME")]
    service_account: ServiceAccountName,
    /// The role the pod asks for: its annotation's value
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// One endpoint; all if it is left out
    #[arg(long, value_name = "NAME")]
    endpoint: Option<EndpointName>,
    /// The pod's cluster; each that the endpoint takes tokens of if it is left out
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// What else is known of the pod, such as pod-name=web-0 or node-name=n1; may be given several times
    #[arg(long, value_name = "ATTRIBUTE=VALUE", value_parser = parse_known)]
    with: Vec<(Attribute, String)>,
    /// A label of the pod, or that it has none: tier=web, or tier-; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pod_label: Vec<(LabelKey, Option<String>)>,
    /// The same of its namespace
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    namespace_label: Vec<(LabelKey, Option<String>)>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

impl ExplainArguments {
    pub(crate) fn into_question(self) -> Question {
        let Self {
            config: _,
            namespace,
            service_account,
            role,
            endpoint,
            cluster,
            with,
            pod_label,
            namespace_label,
            output: _,
        } = self;
        Question {
            endpoint,
            cluster,
            namespace,
            service_account,
            role,
            known: with,
            labels: KnownLabels {
                pod: pod_label.into_iter().collect(),
                namespace: namespace_label.into_iter().collect(),
            },
        }
    }
}

/// What the other arguments say cannot be said a second time, and differently.
fn parse_known(text: &str) -> Result<(Attribute, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write ATTRIBUTE=VALUE, such as pod-name=web-0")?;
    match Attribute::parse(name) {
        Some(
            attribute @ (Attribute::CredentialId
            | Attribute::NodeName
            | Attribute::NodeUid
            | Attribute::PodName
            | Attribute::PodUid
            | Attribute::Uid),
        ) => Ok((attribute, value.to_owned())),
        Some(_) => Err(format!("{name} follows from the other arguments")),
        None => Err(format!(
            "no subject has an attribute {name:?}: known are credential-id, node-name, node-uid, pod-name, pod-uid and uid"
        )),
    }
}

/// As `kubectl label` writes it: `key=value`, or `key-` for none.
fn parse_label(text: &str) -> Result<(LabelKey, Option<String>), String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value.to_owned())),
        (None, Some(key)) => (key, None),
        (None, None) => return Err("write KEY=VALUE, or KEY- if it has none".to_owned()),
    };
    let key = LabelKey::parse(key).map_err(|error| format!("the key {error}"))?;
    Ok((key, value))
}
