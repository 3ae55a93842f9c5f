//! Where the story plays: on the node that we make, or in a cluster that somebody has.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::image::Image;
use crate::progress::output_of;
use crate::workspace::Workspace;

/// What differs from place to place. The story, the release and the publishing of the documents are the same everywhere.
pub(crate) trait Place {
    fn workspace(&self) -> &Workspace;

    /// Where files about this place are written.
    fn folder(&self) -> PathBuf;

    /// The images of our programs.
    fn ours(&self) -> &[Image];

    /// The AWS CLI, for applications.
    fn awscli(&self) -> &Image;

    /// The certificate of the authority that the outside world's servers are known by.
    fn ca(&self) -> PathBuf;

    /// `kubectl` or `helm`, as the cluster's administrator.
    fn client(&self, program: &str) -> Result<Command>;

    /// Runs a shell script as MinIO's administrator, where AWS's names and the issuer's lead to the stand-ins. It has `aws`, `jq`,
    /// `fetch CA-FILE URL`, the CA's file in `$AWS_CA_BUNDLE`, and `administer`, which is `administer_minio.py`.
    fn shell(&self, script: &str, environment: &[(&str, &str)]) -> Result<String>;

    /// The example, changed as little as this place needs.
    fn adapt(&self, example: &str) -> Result<String>;

    /// How a person calls kubectl here.
    fn kubectl_by_hand(&self) -> String;

    /// What a person should know at the end of the story.
    fn farewell(&self) -> String;

    /// Runs kubectl and returns what it writes.
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.client("kubectl")?.args(arguments))
    }

    /// The tag of one of our images.
    fn tag_of(&self, program: &str) -> Result<&str> {
        let image = self
            .ours()
            .iter()
            .find(|image| image.reference.contains(program));
        let image = image.with_context(|| format!("there is no image of {program}"))?;
        image
            .reference
            .rsplit_once(':')
            .map(|(_, tag)| tag)
            .context("an image has a tag")
    }
}
