//! The stage that the demo and the end-to-end tests play on: the cluster, the outside world as far as a pod's credentials need it,
//! and our chart.
//!
//! The outside world is on the node, beside the cluster: MinIO answers for AWS under AWS's own names, a bucket of it holds the issuer's
//! documents, a stand-in for a CDN serves that bucket as the issuer's URL, and a strict STS of another make gives a second opinion.
//! None of them is told a key of ours: they read the issuer's documents.
//!
//! In a cluster that somebody has (`given`), MinIO and the CDN are pods instead.

mod documents;
mod given;
mod outside;
mod place;
mod release;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cluster::{Cluster, UpOptions};
use crate::image::{self, Image, Profile};
use crate::progress::{output_of, say};
use crate::workspace::Workspace;
use crate::{python, tools};

pub(crate) use given::{Given, GivenOptions, take_down};
pub(crate) use outside::{ADMINISTER_SCRIPT, APP_SUBJECT, BUCKET};
pub(crate) use place::Place;
pub(crate) use release::{CHART, HELM_ARGUMENTS, NAMESPACE, RELEASE};

/// A cluster with everything on it.
#[derive(Debug)]
pub(crate) struct Stage<'c, 'w> {
    pub(crate) workspace: &'w Workspace,
    pub(crate) cluster: &'c Cluster<'w>,
    /// The images of our programs.
    ours: Vec<Image>,
    /// The AWS CLI, for applications.
    pub(crate) awscli: Image,
}

impl<'c, 'w> Stage<'c, 'w> {
    /// Builds what is missing, starts what does not run, installs the chart and publishes the issuer's documents. Whatever is there
    /// already stays.
    pub(crate) fn set_up(workspace: &'w Workspace, cluster: &'c Cluster<'w>) -> Result<Self> {
        announce_first_run(workspace);
        tools::ensure_all(workspace)?;
        python::ensure(workspace)?;
        let relying_parties = outside::build(workspace)?;
        let awscli = image::awscli(workspace)?;
        let ours = image::ours(workspace, Profile::Release)?;
        let images = ours
            .iter()
            .chain([&awscli])
            .map(|image| image.tar.clone())
            .collect();
        cluster.up(&UpOptions { images })?;
        let stage = Self {
            workspace,
            cluster,
            ours,
            awscli,
        };
        outside::start(&stage, &relying_parties)?;
        release::install(&stage)?;
        documents::publish(&stage)?;
        outside::wait_for_trust(&stage)?;
        Ok(stage)
    }

    /// The certificate of the authority that the outside world's servers are known by.
    pub(crate) fn ca(&self) -> PathBuf {
        self.cluster.pki_dir().join("ca.crt")
    }
}

impl Place for Stage<'_, '_> {
    fn workspace(&self) -> &Workspace {
        self.workspace
    }

    fn folder(&self) -> PathBuf {
        self.cluster.root()
    }

    fn ours(&self) -> &[Image] {
        &self.ours
    }

    fn awscli(&self) -> &Image {
        &self.awscli
    }

    fn ca(&self) -> PathBuf {
        Stage::ca(self)
    }

    fn client(&self, program: &str) -> Result<Command> {
        self.cluster.command_in_netns(program)
    }

    fn shell(&self, script: &str, environment: &[(&str, &str)]) -> Result<String> {
        let python = python::ensure(self.workspace)?;
        let mut bash = self.cluster.command_in_node("bash")?;
        bash.args(["-c", &format!("{ON_THE_NODE}{script}")])
            .env("PATH", format!("{}:/usr/bin:/bin", python.display()))
            .env("ADMINISTER", self.workspace.root.join(ADMINISTER_SCRIPT))
            .env("AWS_CA_BUNDLE", self.ca())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", outside::ADMINISTRATOR.0)
            .env("AWS_SECRET_ACCESS_KEY", outside::ADMINISTRATOR.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(environment.iter().copied());
        output_of(&mut bash)
    }

    fn adapt(&self, example: &str) -> Result<String> {
        Ok(example.to_owned())
    }

    fn kubectl_by_hand(&self) -> String {
        "cargo xtask cluster kubectl".to_owned()
    }

    fn farewell(&self) -> String {
        format!(
            "   kubeconfig, to be used in the node's network (nsenter): {}\n   To end it: cargo xtask cluster down",
            self.cluster.kubeconfig().display()
        )
    }
}

/// Says how long a first run takes, before it begins.
pub(crate) fn announce_first_run(workspace: &Workspace) {
    if !workspace.cache.root().join("tools").exists() {
        say(
            "the first run builds Kubernetes, MinIO and our programs from source: about 25 minutes on two cores",
        );
    }
}

/// The node has curl and jq. No name of the cluster is known there: `STS_HOST` leads to `STS_ADDRESS`.
const ON_THE_NODE: &str = r#"
fetch() {
  curl --silent --show-error --fail --max-time 5 --cacert "$1" ${STS_HOST:+--resolve "$STS_HOST:443:$STS_ADDRESS"} "$2"
}
administer() { python "$ADMINISTER" "$@"; }
"#;
