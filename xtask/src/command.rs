//! The commands a user can give.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::catalogue::{self, CatalogueOptions};
use crate::cluster::{Cluster, ClusterName, UpOptions, node};
use crate::fuzz::{self, FuzzOptions};
use crate::image::{self, Image, Profile};
use crate::krew::{self, KrewOptions};
use crate::mutants::{self, MutantsOptions};
use crate::stage::{self, GivenOptions};
use crate::suite::TestOptions;
use crate::workspace::Workspace;
use crate::{demo, doctor, packages, python, suite, tidy, tools};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The main job, told step by step: a labelled pod on a real cluster gets credentials
    Demo(DemoOptions),
    /// Format, lints, unit tests, tests against a real API server, end-to-end tests
    Test(TestOptions),
    /// What our programs cost
    Bench {
        #[command(subcommand)]
        bench: Bench,
    },
    /// What neither the compiler nor clippy sees
    Tidy,
    /// Say which row of docs/security-tests is tested, not applicable or open
    Catalogue(CatalogueOptions),
    /// Say what this machine lacks
    Doctor,
    /// Fuzz the readers of untrusted input
    Fuzz(FuzzOptions),
    /// See whether the tests of verifier, rules and claims notice changes in them
    Mutants(MutantsOptions),
    /// Install the Debian packages the test cluster is made of
    Packages,
    /// Build the Go programs and the Python environment of the test cluster
    Tools,
    /// Make the images of the test cluster and of our programs
    Images {
        #[arg(long, default_value_t)]
        profile: Profile,
    },
    /// Pack `kubectl sts` for krew, and write its manifest with the archive's checksum
    Krew(KrewOptions),
    /// A real one-node Kubernetes cluster on this machine
    Cluster {
        /// More than one cluster can run at the same time
        #[arg(long, default_value = "default")]
        name: ClusterName,

        #[command(subcommand)]
        command: ClusterCommand,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// Play in a cluster that is there, not on a node made for it: a context of kubectl
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Where the context is [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How images come to that cluster's nodes: called with each image's tar, as in 'kind load image-archive'
    #[arg(long, requires = "context", value_name = "COMMAND")]
    load: Option<String>,
    /// Remove the demo from that cluster
    #[arg(long, requires = "context")]
    down: bool,
}

impl DemoOptions {
    fn run(self, workspace: &Workspace) -> Result<()> {
        let Some(context) = self.context else {
            equip(workspace)?;
            return demo::run(workspace, &Cluster::open(workspace, "default".parse()?));
        };
        let options = GivenOptions {
            context,
            kubeconfig: self.kubeconfig.filter(|file| !file.as_os_str().is_empty()),
            load: self.load,
        };
        if self.down {
            doctor::examine_builder(workspace)?;
            return stage::take_down(workspace, &options);
        }
        demo::run_given(workspace, &options)
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start it; does nothing if it runs
    Up {
        /// An image tar to import; may be repeated
        #[arg(long = "image", value_name = "TAR")]
        images: Vec<PathBuf>,
    },
    /// Show the node and its pods
    Status,
    /// Stop it and remove everything of it
    Down {
        /// Copy its logs to this folder first
        #[arg(long, value_name = "DIR")]
        keep_logs: Option<PathBuf>,
    },
    /// Import image tars into the running node
    Import {
        #[arg(required = true)]
        tars: Vec<PathBuf>,
    },
    /// Run kubectl against it
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run a program in the node's network: aws, curl, helm, python, ...
    #[command(disable_help_flag = true)]
    Exec {
        /// See the node's names, files and processes too, not the host's
        #[arg(long)]
        in_node: bool,
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Pid 1 of the node
    #[command(hide = true)]
    Node {
        #[arg(long)]
        root: PathBuf,
    },
}

impl Command {
    pub(crate) fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        match self {
            Self::Demo(options) => options.run(workspace)?,
            Self::Test(options) => {
                equip(workspace)?;
                suite::run(workspace, &options)?;
            }
            Self::Bench { bench } => {
                equip(workspace)?;
                bench.run(workspace)?;
            }
            Self::Tidy => tidy::run(workspace)?,
            Self::Catalogue(options) => catalogue::run(workspace, &options)?,
            Self::Fuzz(options) => fuzz::run(workspace, &options)?,
            Self::Mutants(options) => mutants::run(workspace, &options)?,
            Self::Doctor => {
                doctor::examine(workspace)?;
                println!("this machine has what it takes");
            }
            Self::Packages => equip(workspace)?,
            Self::Tools => {
                equip(workspace)?;
                tools::ensure_all(workspace)?;
                python::ensure(workspace)?;
            }
            Self::Images { profile } => {
                equip(workspace)?;
                let mut images = image::base(workspace)?;
                images.push(image::awscli(workspace)?);
                images.extend(image::ours(workspace, profile)?);
                images.iter().try_for_each(print_image)?;
            }
            Self::Krew(options) => {
                doctor::examine_builder(workspace)?;
                krew::run(workspace, &options)?;
            }
            Self::Cluster { name, command } => {
                return command.run(&Cluster::open(workspace, name), workspace);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ClusterCommand {
    fn run(self, cluster: &Cluster<'_>, workspace: &Workspace) -> Result<ExitCode> {
        match self {
            Self::Up { images } => {
                equip(workspace)?;
                let images = images
                    .into_iter()
                    .map(std::path::absolute)
                    .collect::<Result<_, _>>()?;
                cluster.up(&UpOptions { images })?;
            }
            Self::Status => print!("{}", cluster.status()?),
            Self::Down { keep_logs } => cluster.down(keep_logs.as_deref())?,
            Self::Import { tars } => {
                for tar in tars {
                    cluster.import_image(&std::path::absolute(tar)?)?;
                }
            }
            Self::Kubectl { arguments } => {
                return pass_through(cluster.command_in_netns("kubectl")?, &arguments);
            }
            Self::Exec {
                in_node,
                program,
                arguments,
            } => {
                let command = if in_node {
                    cluster.command_in_node(&program)?
                } else {
                    cluster.command_in_netns(&program)?
                };
                return pass_through(command, &arguments);
            }
            Self::Node { root } => node::run(&root)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything that starts or builds something comes here first.
fn equip(workspace: &Workspace) -> Result<()> {
    doctor::examine(workspace)?;
    packages::ensure(workspace)
}

/// With our input, output and errors, and its exit code.
fn pass_through(mut command: process::Command, arguments: &[OsString]) -> Result<ExitCode> {
    let status = command
        .args(arguments)
        .status()
        .context("cannot enter the node")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn print_image(image: &Image) -> Result<()> {
    println!(
        "{:8.1} MB  {:35} {}",
        image.megabytes()?,
        image.reference,
        image.tar.display()
    );
    Ok(())
}
