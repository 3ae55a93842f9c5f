//! The images of the demo, and how they come onto the nodes of a cluster that is not ours.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::image::{self, Image, Profile};
use crate::progress::{output_of, say};
use crate::stage::outside;
use crate::tools::Module;
use crate::workspace::Workspace;

/// Everything that pods of the demo run.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) ours: Vec<Image>,
    pub(super) awscli: Image,
    pub(super) minio: Image,
    pub(super) cdn: Image,
}

impl Images {
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let minio = Module::Minio.ensure(workspace)?.join("minio");
        let cdn = outside::build(workspace)?.join("cdn");
        Ok(Self {
            awscli: image::awscli(workspace)?,
            minio: image::relying_party(workspace, "minio", &minio)?,
            cdn: image::relying_party(workspace, "cdn", &cdn)?,
            ours: image::ours(workspace, Profile::Release)?,
        })
    }

    /// Gives the user's command each tar that this cluster has not had yet. `record` says which it had.
    pub(super) fn load(&self, command: &str, record: &Path) -> Result<()> {
        let mut loaded = std::fs::read_to_string(record).unwrap_or_default();
        for image in [&self.awscli, &self.minio, &self.cdn]
            .into_iter()
            .chain(&self.ours)
        {
            let tar = image.tar.to_string_lossy();
            if loaded.lines().any(|known| known == tar) {
                continue;
            }
            say(format!("{command} {tar}"));
            output_of(&mut shell(command, &image.tar))?;
            loaded += &tar;
            loaded.push('\n');
            std::fs::write(record, &loaded)?;
        }
        Ok(())
    }
}

/// The user's command with a tar as its last argument.
fn shell(command: &str, tar: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{command} \"$1\""), "sh"])
        .arg(tar);
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_is_the_last_argument() {
        let mut command = shell("X=1 printf '<%s>' a", Path::new("/a folder/image.tar"));
        assert_eq!(output_of(&mut command).unwrap(), "<a></a folder/image.tar>");
    }
}
