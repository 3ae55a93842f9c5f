//! `cargo xtask krew`: the archive of `kubectl sts` as krew installs it, and its manifest with the archive's checksum.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use crate::image::{Profile, program};
use crate::progress::say;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct KrewOptions {
    /// The version of the release, without a `v`
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    release: String,
    /// How it is compiled: dist is what is published
    #[arg(long, default_value_t = Profile::Dist)]
    profile: Profile,
    /// The folder that archive and manifest are written to [default: target/krew]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The manifest without what a release fills in.
const TEMPLATE: &str = "docs/krew/sts.yaml";
const PROGRAM: &str = "kubectl-sts";
const ARCHIVE: &str = "kubectl-sts-linux-amd64.tar.gz";

pub(crate) fn run(workspace: &Workspace, options: &KrewOptions) -> Result<()> {
    let binary = program(workspace, options.profile, PROGRAM)?;
    let archive = pack(&[
        (PROGRAM, 0o755, &binary),
        ("LICENSE", 0o644, &workspace.root.join("LICENSE")),
    ])?;
    let template = fs::read_to_string(workspace.root.join(TEMPLATE))?;
    let manifest = fill(&template, &options.release, &checksum(&archive))?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => workspace.root.join("target/krew"),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    fs::write(out.join(ARCHIVE), archive)?;
    fs::write(out.join("sts.yaml"), manifest)?;
    let out = out.display();
    say(format!(
        "{out}/sts.yaml and {out}/{ARCHIVE}: kubectl krew install --manifest={out}/sts.yaml --archive={out}/{ARCHIVE}"
    ));
    Ok(())
}

/// A tar whose bytes depend on nothing but the files.
fn pack(files: &[(&str, u32, &Path)]) -> Result<Vec<u8>> {
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    let mut tar = Builder::new(gzip);
    for (name, mode, path) in files {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut header = Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(u64::try_from(content.len())?);
        tar.append_data(&mut header, name, content.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

fn checksum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("{digest:x}")
}

/// The manifest of a release: its version wherever the template has one, and the checksum.
fn fill(template: &str, release: &str, checksum: &str) -> Result<String> {
    const EMPTY: &str = "sha256: \"\"";
    let comments = |line: &&str| !line.starts_with('#');
    let lines = template.lines().filter(comments);
    let template: String = lines.flat_map(|line| [line, "\n"]).collect();
    let version = template
        .lines()
        .find_map(|line| line.strip_prefix("  version: "))
        .context("the manifest's template has no version")?
        .to_owned();
    ensure!(
        template.matches(EMPTY).count() == 1 && template.contains(ARCHIVE),
        "{TEMPLATE} is not the template of one archive"
    );
    Ok(template
        .replace(&version, &format!("v{release}"))
        .replace(EMPTY, &format!("sha256: {checksum}")))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_manifest_names_the_release_and_its_checksum() {
        let template = fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/krew/sts.yaml"
        ));
        let manifest = fill(&template.unwrap(), "1.2.3", "0123").unwrap();
        assert!(
            manifest.starts_with("apiVersion: krew.googlecontainertools.github.com/v1alpha2\n")
        );
        for line in [
            "  version: v1.2.3\n",
            "    uri: https://github.com/tremolosecurity/kube-sts/releases/download/v1.2.3/kubectl-sts-linux-amd64.tar.gz\n",
            "    sha256: 0123\n",
            "    bin: kubectl-sts\n",
        ] {
            assert!(manifest.contains(line), "{line}{manifest}");
        }
    }

    #[test]
    fn an_archive_holds_the_program_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "program").unwrap();
        let files = [(PROGRAM, 0o755, path.as_path())];
        let archive = pack(&files).unwrap();
        assert_eq!(archive, pack(&files).unwrap());
        let mut tar = tar::Archive::new(GzDecoder::new(archive.as_slice()));
        let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some(PROGRAM));
        assert_eq!(entry.header().mode().unwrap(), 0o755);
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "program");
    }

    #[test]
    fn a_checksum_is_sha_256_in_hexadecimal() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(checksum(b""), empty);
    }
}
