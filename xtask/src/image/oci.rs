//! An OCI image of one layer as a tar that containerd imports: no registry, no daemon.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::Builder;

use super::layer::{Layer, append_file};
use crate::cache::hex;

/// How the image's process is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) user: Option<String>,
}

/// A piece of the image, named by its digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: hex(&Sha256::digest(&bytes)),
            bytes,
        }
    }

    fn of_json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// The image's tar. `reference` is the full name with a tag, as a pod names it.
pub(crate) fn render_image(reference: &str, layer: &Layer, settings: &Settings) -> Result<Vec<u8>> {
    let tag = parse_tag(reference)?;
    let layer = Blob::new(layer.render_tar()?);
    let config = Blob::of_json(&config(settings, &layer));
    let manifest = Blob::of_json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    }));
    let mut entry = manifest.descriptor(MANIFEST);
    let entry_fields = entry.as_object_mut().context("a descriptor is an object")?;
    entry_fields.insert(
        "platform".into(),
        json!({ "architecture": "amd64", "os": "linux" }),
    );
    entry_fields.insert(
        "annotations".into(),
        json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag }),
    );
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });

    let mut tar = Builder::new(Vec::new());
    append_file(
        &mut tar,
        "oci-layout",
        0o644,
        json!({ "imageLayoutVersion": "1.0.0" })
            .to_string()
            .as_bytes(),
    )?;
    append_file(&mut tar, "index.json", 0o644, index.to_string().as_bytes())?;
    for blob in [config, layer, manifest] {
        append_file(
            &mut tar,
            &format!("blobs/sha256/{}", blob.digest),
            0o644,
            &blob.bytes,
        )?;
    }
    Ok(tar.into_inner()?)
}

/// The kubelet would always pull an image tagged `latest`, and there is nowhere to pull from.
fn parse_tag(reference: &str) -> Result<&str> {
    let (_, tag) = reference
        .rsplit_once(':')
        .with_context(|| format!("{reference} has no tag"))?;
    ensure!(
        !tag.contains('/') && tag != "latest",
        "{reference} needs a tag other than latest"
    );
    Ok(tag)
}

fn config(settings: &Settings, layer: &Blob) -> Value {
    let Settings {
        entrypoint,
        environment,
        user,
    } = settings;
    let mut process = json!({});
    let mut variables = vec!["PATH=/bin:/usr/bin:/sbin".to_owned()];
    variables.extend(environment.iter().cloned());
    if let Some(fields) = process.as_object_mut() {
        fields.insert("Env".into(), json!(variables));
        if !entrypoint.is_empty() {
            fields.insert("Entrypoint".into(), json!(entrypoint));
        }
        if let Some(user) = user {
            fields.insert("User".into(), json!(user));
        }
    }
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        "history": [{ "created_by": "cargo xtask" }],
    })
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn image() -> Vec<u8> {
        let mut layer = Layer::new();
        layer.script("run", "#!/bin/sh\n");
        let settings = Settings {
            entrypoint: vec!["/run".into()],
            environment: vec!["HOME=/tmp".into()],
            user: Some("65532".into()),
        };
        render_image("localhost/thing:1", &layer, &settings).unwrap()
    }

    fn files(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(image);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
        });
        entries.collect()
    }

    fn follow(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let bytes = files[&format!("blobs/sha256/{digest}")].clone();
        assert_eq!(hex(&Sha256::digest(&bytes)), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn every_descriptor_leads_to_its_blob() {
        let files = files(&image());
        assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(
            entry["annotations"]["io.containerd.image.name"],
            "localhost/thing:1"
        );
        assert_eq!(
            entry["annotations"]["org.opencontainers.image.ref.name"],
            "1"
        );
        let manifest: Value = serde_json::from_slice(&follow(&files, entry)).unwrap();
        let config: Value = serde_json::from_slice(&follow(&files, &manifest["config"])).unwrap();
        follow(&files, &manifest["layers"][0]);
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        assert_eq!(config["config"]["User"], "65532");
        assert_eq!(
            config["config"]["Env"],
            json!(["PATH=/bin:/usr/bin:/sbin", "HOME=/tmp"])
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(image(), image());
    }

    #[test]
    fn refuses_references_the_kubelet_would_pull() {
        for reference in [
            "localhost/thing:latest",
            "localhost/thing",
            "localhost:5000/thing",
        ] {
            render_image(reference, &Layer::new(), &Settings::default()).unwrap_err();
        }
    }
}
