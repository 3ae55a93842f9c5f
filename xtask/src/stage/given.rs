//! A cluster that somebody has, as a place to play. Nothing of the machine's network is touched, and no root is needed: MinIO and the CDN
//! are pods, AWS's names lead there by `hostAliases`, and what the node's shell does elsewhere is done in a pod, too.

mod access;
mod load;
mod parties;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::outside::DOCUMENTS_BUCKET;
use super::place::Place;
use super::{NAMESPACE, RELEASE, announce_first_run, documents, outside, release};
use crate::cache::Lock;
use crate::doctor;
use crate::image::Image;
use crate::progress::{Stopwatch, output_of, say};
use crate::workspace::Workspace;
use access::{Access, OUTSIDE};
use load::Images;
use parties::Addresses;

/// Which cluster, and how images come to its nodes.
#[derive(Debug)]
pub(crate) struct GivenOptions {
    pub(crate) context: String,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) load: Option<String>,
}

/// Somebody's cluster with everything on it.
#[derive(Debug)]
pub(crate) struct Given<'w> {
    workspace: &'w Workspace,
    access: Access,
    folder: PathBuf,
    images: Images,
    addresses: Addresses,
    _lock: Lock,
}

impl<'w> Given<'w> {
    /// Builds what is missing, loads the images, and sets up the outside world and the release as `Stage` does.
    pub(crate) fn set_up(workspace: &'w Workspace, options: &GivenOptions) -> Result<Self> {
        let load = options.load.as_deref().with_context(|| {
            format!(
                "say how images come to the nodes: --load 'COMMAND' is called with each image's tar as its last argument, \
                 as in 'kind load image-archive', 'k3s ctr images import' or 'ctr -n k8s.io images import'; \
                 the tars will be {}/images/*/image.tar",
                workspace.cache.root().display()
            )
        })?;
        doctor::examine_builder(workspace)?;
        announce_first_run(workspace);
        let access = Access::new(workspace, options)?;
        let (folder, lock) = open(workspace, &access)?;
        access.claim_namespaces()?;
        let images = Images::build(workspace)?;
        images.load(load, &folder.join("loaded"))?;
        let addresses = Addresses::reserve(&access, &folder)?;
        let given = Self {
            workspace,
            access,
            folder,
            images,
            addresses,
            _lock: lock,
        };
        given.play_outside()?;
        Ok(given)
    }

    fn play_outside(&self) -> Result<()> {
        let pki = self.folder.join("pki");
        parties::authority(&pki)?;
        say("starting MinIO as AWS, and the CDN, in the cluster");
        parties::deploy(
            &self.access,
            &self.folder,
            &pki,
            &self.images,
            self.addresses,
        )?;
        release::install(self)?;
        parties::wait(&self.access)?;
        outside::administer(self, "buckets", DOCUMENTS_BUCKET)?;
        documents::publish(self)?;
        outside::wait_for_trust(self)
    }
}

/// Takes everything of the demo out of the cluster, and waits until it is gone.
pub(crate) fn take_down(workspace: &Workspace, options: &GivenOptions) -> Result<()> {
    let access = Access::new(workspace, options)?;
    let (folder, _lock) = open(workspace, &access)?;
    let watch = Stopwatch::start();
    let namespaces = access.claimed_namespaces()?;
    if namespaces.iter().any(|name| name == NAMESPACE) {
        let mut helm = access.client("helm");
        helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE])
            .args(["--ignore-not-found", "--wait", "--timeout=120s"]);
        output_of(&mut helm)?;
    }
    if namespaces.is_empty() {
        say(format!(
            "the context {} has nothing of the demo",
            access.context
        ));
    } else {
        let mut delete = access.client("kubectl");
        delete
            .args(["delete", "namespace", "--wait", "--timeout=180s"])
            .args(&namespaces);
        output_of(&mut delete)?;
        say(format!(
            "the release and the namespaces {} are gone after {:.1} s; the images stay on the nodes",
            namespaces.join(", "),
            watch.seconds()
        ));
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// The folder for what is known about a cluster, and the right to use it.
fn open(workspace: &Workspace, access: &Access) -> Result<(PathBuf, Lock)> {
    let identity = access.identity()?;
    let lock = workspace.cache.lock(&format!("demo-{identity}"))?;
    let folder = workspace.cache.root().join("demo").join(identity);
    fs::create_dir_all(&folder)?;
    Ok((folder, lock))
}

impl Place for Given<'_> {
    fn workspace(&self) -> &Workspace {
        self.workspace
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    fn ours(&self) -> &[Image] {
        &self.images.ours
    }

    fn awscli(&self) -> &Image {
        &self.images.awscli
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("pki/ca.crt")
    }

    fn client(&self, program: &str) -> Result<Command> {
        Ok(self.access.client(program))
    }

    fn shell(&self, script: &str, environment: &[(&str, &str)]) -> Result<String> {
        let mut exec = self.access.client("kubectl");
        exec.args([
            "-n",
            OUTSIDE,
            "exec",
            "deployment/administrator",
            "--",
            "env",
        ])
        .args(
            environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .args(["sh", "-c", &format!(". /demo/functions.sh\n{script}")]);
        output_of(&mut exec)
    }

    fn adapt(&self, example: &str) -> Result<String> {
        let line = "      serviceAccountName: aws-test\n";
        ensure!(
            example.contains(line),
            "the example has another ServiceAccount"
        );
        let aliases = format!("{line}      hostAliases: [{}]\n", self.addresses.of_aws());
        Ok(example.replace(line, &aliases))
    }

    fn kubectl_by_hand(&self) -> String {
        self.access.kubectl_by_hand()
    }

    fn farewell(&self) -> String {
        format!("   To end it: {}", self.access.down_by_hand())
    }
}
