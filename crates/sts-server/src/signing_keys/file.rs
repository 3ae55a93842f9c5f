//! A signing key in a file, for a server without a cluster.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sts_config::SigningAlgorithm;
use sts_core::sign::SigningKey;
use zeroize::Zeroizing;

use super::{SigningKeyError, generate};

/// Reads the key; makes it if the file is absent and `create` says so.
pub(super) async fn load(
    path: &Path,
    algorithm: SigningAlgorithm,
    create: bool,
) -> Result<SigningKey, SigningKeyError> {
    let failed = |verb| {
        move |source| SigningKeyError::File {
            path: path.display().to_string(),
            verb,
            source,
        }
    };
    match std::fs::read_to_string(path) {
        Ok(pem) => parse(path, &Zeroizing::new(pem), algorithm),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            let (_, pem) = generate(algorithm).await?;
            match write_new(path, &pem) {
                Ok(()) => parse(path, &pem, algorithm),
                // Another process was first: its key counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let pem = std::fs::read_to_string(path).map_err(failed("read"))?;
                    parse(path, &Zeroizing::new(pem), algorithm)
                }
                Err(error) => Err(failed("created")(error)),
            }
        }
        Err(error) => Err(failed("read")(error)),
    }
}

fn parse(
    path: &Path,
    pem: &str,
    algorithm: SigningAlgorithm,
) -> Result<SigningKey, SigningKeyError> {
    SigningKey::from_pem(pem, algorithm).map_err(|source| SigningKeyError::Key {
        place: path.display().to_string(),
        source,
    })
}

/// Writes the key beside the file and links it into place, so that the file is whole from its first moment and is never replaced.
/// Readable by its owner alone.
fn write_new(path: &Path, pem: &str) -> io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        std::fs::create_dir_all(directory)?;
    }
    let temporary = path.with_extension(format!("{}.pem.tmp", std::process::id()));
    // One that is there was left behind by a process of the same id, or laid there by somebody who would like to read the key.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_laid_in_the_way_does_not_get_the_key() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("key.pem");
        let trap = directory.path().join("trap");
        std::fs::write(&trap, "open to all").unwrap();
        let temporary = path.with_extension(format!("{}.pem.tmp", std::process::id()));
        std::os::unix::fs::symlink(&trap, &temporary).unwrap();
        write_new(&path, "key").unwrap();
        assert_eq!(std::fs::read_to_string(&trap).unwrap(), "open to all");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "key");
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(!temporary.exists());
    }
}
