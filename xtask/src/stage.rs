//! The stage that the demo and the end-to-end tests play on: the cluster, the outside world as far as a pod's credentials need it,
//! and our chart.
//!
//! The outside world is on the node, beside the cluster: MinIO answers for AWS under AWS's own names, a bucket of it holds the issuer's
//! documents, a stand-in for a CDN serves that bucket as the issuer's URL, and a strict STS of another make gives a second opinion.
//! None of them is told a key of ours: they read the issuer's documents.

mod documents;
mod outside;
mod release;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, UpOptions};
use crate::image::{self, Image, Profile};
use crate::progress::say;
use crate::workspace::Workspace;
use crate::{python, tools};

pub(crate) use outside::{APP_SUBJECT, BUCKET};
pub(crate) use release::{CHART, NAMESPACE, RELEASE};

/// A cluster with everything on it.
#[derive(Debug)]
pub(crate) struct Stage<'c, 'w> {
    pub(crate) workspace: &'w Workspace,
    pub(crate) cluster: &'c Cluster<'w>,
    /// The images of our programs.
    pub(crate) ours: Vec<Image>,
    /// The AWS CLI, for applications.
    pub(crate) awscli: Image,
}

impl<'c, 'w> Stage<'c, 'w> {
    /// Builds what is missing, starts what does not run, installs the chart and publishes the issuer's documents. Whatever is there
    /// already stays.
    pub(crate) fn set_up(workspace: &'w Workspace, cluster: &'c Cluster<'w>) -> Result<Self> {
        if !workspace.cache.root().join("tools").exists() {
            say(
                "the first run builds Kubernetes, MinIO and our programs from source: about 25 minutes on two cores",
            );
        }
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

    /// The tag of one of our images.
    pub(crate) fn tag_of(&self, program: &str) -> Result<&str> {
        let image = self
            .ours
            .iter()
            .find(|image| image.reference.contains(program));
        let image = image.with_context(|| format!("there is no image of {program}"))?;
        image
            .reference
            .rsplit_once(':')
            .map(|(_, tag)| tag)
            .context("an image has a tag")
    }

    /// The certificate of the authority that the outside world's servers are known by.
    pub(crate) fn ca(&self) -> PathBuf {
        self.cluster.pki_dir().join("ca.crt")
    }
}
