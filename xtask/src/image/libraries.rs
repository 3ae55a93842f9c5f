//! The shared libraries of a program that is not linked statically.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::layer::Layer;
use crate::progress::output_of;

/// What the loader would map for these programs and modules.
pub(super) fn shared_objects(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        found.extend(parse_ldd(&output_of(Command::new("ldd").arg(program))?));
    }
    Ok(found)
}

/// The libraries where they are on this machine, their loader, and the order in which a pod's names are looked up.
pub(super) fn add_shared_objects(
    layer: &mut Layer,
    shared_objects: &BTreeSet<PathBuf>,
) -> Result<()> {
    layer.file(LOADER, &Path::new("/").join(LOADER))?;
    for shared_object in shared_objects {
        layer.file(&shared_object.to_string_lossy(), shared_object)?;
    }
    // Some versions of glibc ask DNS first when nothing is said: a pod's `hostAliases` would count for nothing.
    layer.text("etc/nsswitch.conf", "hosts: files dns\n", 0o644);
    Ok(())
}

/// `\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)` → its path.
fn parse_ldd(listing: &str) -> impl Iterator<Item = PathBuf> {
    listing.lines().filter_map(|line| {
        let path = line.split_once("=> ")?.1.split_whitespace().next()?;
        path.starts_with('/').then(|| path.into())
    })
}

const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_libraries_of_a_program() {
        let listing = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibz.so.1 => /lib/x/libz.so.1 (0x7f)\n\tlibm.so.6 => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            parse_ldd(listing).collect::<Vec<_>>(),
            [PathBuf::from("/lib/x/libz.so.1")]
        );
    }
}
