//! The cluster's certificates and keys. All of one test CA, which lives as long as the cluster.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::address::{API_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME};
use crate::progress::output_of;

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct LeafFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Default)]
struct Leaf<'a> {
    common_name: &'a str,
    organization: Option<&'a str>,
    dns_names: Vec<&'a str>,
    addresses: Vec<IpAddr>,
}

/// Makes the CA, a certificate for each component, and the key that signs ServiceAccount tokens.
pub(crate) fn create(folder: &Path) -> Result<()> {
    // RSA takes longest and needs another program; it runs beside the rest.
    let token_key = folder.join("sa.key");
    let mut generate = Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(&token_key)
        .arg("2048")
        .stderr(fs::File::create(folder.join("openssl.log"))?)
        .spawn()
        .context("cannot start openssl")?;
    let issuer = create_ca(folder)?;
    let node_user = format!("system:node:{NODE_NAME}");
    for (name, leaf) in component_leaves(&node_user) {
        write_leaf(&issuer, folder, name, &leaf)?;
    }
    generate.wait()?;
    let mut derive = Command::new("openssl");
    derive
        .args(["rsa", "-pubout", "-in"])
        .arg(&token_key)
        .arg("-out")
        .arg(folder.join("sa.pub"));
    output_of(&mut derive)?;
    Ok(())
}

/// Makes a CA alone, for servers that are in no cluster of ours.
pub(crate) fn create_authority(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("leaf"))?;
    create_ca(folder)?;
    Ok(())
}

/// Issues a certificate for a server of the tests, under `pki/leaf`.
pub(crate) fn issue_leaf(
    folder: &Path,
    name: &str,
    dns_names: &[&str],
    addresses: &[IpAddr],
) -> Result<LeafFiles> {
    let authority =
        fs::read_to_string(folder.join("ca.crt")).context("there is no CA: is the cluster up?")?;
    let key = KeyPair::from_pem(&fs::read_to_string(folder.join("ca.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
    let leaf = Leaf {
        common_name: name,
        organization: None,
        dns_names: dns_names.to_vec(),
        addresses: addresses.to_vec(),
    };
    write_leaf(&issuer, &folder.join("leaf"), name, &leaf)
}

fn component_leaves(node_user: &str) -> [(&'static str, Leaf<'_>); 7] {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let client = |common_name| Leaf {
        common_name,
        ..Leaf::default()
    };
    let master = |common_name| Leaf {
        organization: Some("system:masters"),
        ..client(common_name)
    };
    [
        ("admin", master("admin")),
        (
            "apiserver-kubelet-client",
            master("kube-apiserver-kubelet-client"),
        ),
        (
            "apiserver",
            Leaf {
                dns_names: vec![
                    "localhost",
                    "kubernetes",
                    "kubernetes.default",
                    "kubernetes.default.svc",
                    "kubernetes.default.svc.cluster.local",
                ],
                addresses: vec![loopback, API_SERVICE_ADDRESS.into(), NODE_ADDRESS.into()],
                ..client("kube-apiserver")
            },
        ),
        (
            "controller-manager",
            client("system:kube-controller-manager"),
        ),
        (
            "kubelet",
            Leaf {
                organization: Some("system:nodes"),
                dns_names: vec![NODE_NAME],
                addresses: vec![loopback, NODE_ADDRESS.into()],
                ..client(node_user)
            },
        ),
        ("proxy", client("system:kube-proxy")),
        ("scheduler", client("system:kube-scheduler")),
    ]
}

fn create_ca(folder: &Path) -> Result<Issuer<'static, KeyPair>> {
    let mut params = parameters("kube-sts test CA", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
    fs::write(folder.join("ca.key"), key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

fn write_leaf(
    issuer: &Issuer<'_, KeyPair>,
    folder: &Path,
    name: &str,
    leaf: &Leaf<'_>,
) -> Result<LeafFiles> {
    let Leaf {
        common_name,
        organization,
        dns_names,
        addresses,
    } = leaf;
    let mut params = parameters(common_name, *organization);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    for dns_name in dns_names {
        params
            .subject_alt_names
            .push(SanType::DnsName(Ia5String::try_from(*dns_name)?));
    }
    params
        .subject_alt_names
        .extend(addresses.iter().copied().map(SanType::IpAddress));
    let key = KeyPair::generate()?;
    let files = LeafFiles {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&files.certificate, params.signed_by(&key, issuer)?.pem())?;
    fs::write(&files.key, key.serialize_pem())?;
    Ok(files)
}

fn parameters(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    // Fixed, because the key is thrown away with the cluster and a test must not depend on today.
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(folder: &Path, certificate: &Path) -> String {
        let mut command = Command::new("openssl");
        command
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(folder.join("ca.crt"))
            .arg(certificate);
        output_of(&mut command).unwrap()
    }

    #[test]
    fn strict_verifiers_accept_what_we_issue() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("leaf")).unwrap();
        create(folder.path()).unwrap();
        let names = ["s3.amazonaws.com", "*.s3.amazonaws.com"];
        let leaf = issue_leaf(folder.path(), "s3", &names, &[NODE_ADDRESS.into()]).unwrap();
        for certificate in [folder.path().join("kubelet.crt"), leaf.certificate.clone()] {
            assert!(verify(folder.path(), &certificate).contains(": OK"));
        }
        let mut show = Command::new("openssl");
        show.args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
            .arg(&leaf.certificate);
        let names = output_of(&mut show).unwrap();
        assert!(
            names.contains("DNS:*.s3.amazonaws.com, IP Address:10.203.0.1"),
            "{names}"
        );
        assert!(
            fs::read_to_string(folder.path().join("sa.pub"))
                .unwrap()
                .starts_with("-----BEGIN PUBLIC KEY")
        );
    }
}
