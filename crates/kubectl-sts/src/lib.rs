//! The kubectl plugin of kube-sts: where rotations of signing keys stand, starting them, revoking a key, writing or publishing the issuer's
//! documents, judging a token as a relying party does, a look at trust policies in AWS, and policies of admission in the webhook's place.
//!
//! It reads no private key: of a key Secret it asks for the metadata alone, and public keys come from the public record. It decides
//! nothing either: what it writes are the annotations that `kubectl annotate` would write, and the servers act on them.

mod annotate;
mod cluster;
mod documents;
mod output;
mod publish;
mod render;
mod status;
mod trust;
mod verify;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use cluster::{Cluster, Place};
use output::Format;

/// Signing keys and issuer documents of kube-sts.
#[derive(Debug, Parser)]
#[command(name = "kubectl sts", version)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How results are written
    #[arg(short, long, global = true, default_value = "table")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show each key and what its rotation waits for
    Status {
        /// The key Secrets; all of the namespace if none is named
        #[arg(value_name = "SECRET")]
        secrets: Vec<String>,
    },
    /// Start a rotation; no token fails meanwhile
    Rotate {
        /// The key Secret
        #[arg(value_name = "SECRET")]
        secret: String,
    },
    /// Take a compromised key out of signing and out of the key set at once, which breaks every token it signed
    Revoke {
        /// The key Secret
        #[arg(value_name = "SECRET")]
        secret: String,
        /// The key's id, as `status` shows it
        #[arg(value_name = "KID")]
        key_id: String,
        /// Needed: tokens that are in use break
        #[arg(long)]
        yes: bool,
    },
    /// Print an endpoint's discovery document and key set, or write them into a folder to upload
    IssuerDocs {
        /// The endpoint's name
        #[arg(value_name = "ENDPOINT")]
        endpoint: String,
        /// Writes .well-known/openid-configuration and certs under this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Put an endpoint's documents where its configuration says, with the credentials of this environment
    Publish {
        /// The endpoint's name
        #[arg(value_name = "ENDPOINT")]
        endpoint: String,
        /// What an S3 store's certificate is trusted by, PEM: this machine's copy of what the configuration names
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// Print objects for the cluster, to be reviewed and applied
    Render {
        #[command(subcommand)]
        what: render::What,
    },
    /// Find what of a role's trust policy in AWS lets in more pods than it seems to
    CheckTrustPolicy {
        /// The policy, JSON; `-` reads it from standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Judge an issued token by the documents that its public issuer serves
    Verify {
        /// The token; `-` reads it from standard input, where no shell history has it
        #[arg(value_name = "TOKEN")]
        token: String,
        /// What it must be for
        #[arg(long, value_name = "AUDIENCE")]
        audience: Option<String>,
        /// What the issuer's certificate is trusted by, PEM; without it what this machine trusts
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Where the issuer's documents are read instead
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
}

/// Runs the command line.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments).await {
        Ok(code) => code,
        Err(error) => {
            // If stderr is closed, the exit code must do.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    // Fails where a library installed it before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let Arguments {
        place,
        output,
        command,
    } = arguments;
    match command {
        Command::Status { secrets } => {
            status::run(&Cluster::connect(place).await?, &secrets, output).await
        }
        Command::Rotate { secret } => {
            annotate::rotate(&Cluster::connect(place).await?, &secret).await
        }
        Command::Revoke {
            secret,
            key_id,
            yes,
        } => annotate::revoke(&Cluster::connect(place).await?, &secret, &key_id, yes).await,
        Command::IssuerDocs { endpoint, out } => {
            documents::run(
                &Cluster::connect(place).await?,
                &endpoint,
                out.as_deref(),
                output,
            )
            .await
        }
        Command::Publish { endpoint, ca_file } => {
            publish::run(&Cluster::connect(place).await?, &endpoint, ca_file, output).await
        }
        Command::CheckTrustPolicy { file } => trust::run(&file, output),
        Command::Render { what } => render::run(place, what, output).await,
        Command::Verify {
            token,
            audience,
            ca_file,
            address,
        } => {
            let options = verify::Options {
                audience,
                ca_file,
                address,
            };
            verify::run(&token, &options, output).await
        }
    }
}
