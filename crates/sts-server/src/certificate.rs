//! The serving certificate: where it comes from, and how clients get to know its CA.

use std::path::Path;

use kube::Api;
use sts_config::ServingTls;
use svc_runtime::tls::{
    CaBundle, Keeper, LOOK_EVERY, ManagedSecret, Publication, Published, ServingCertificate,
    follow_files,
};
use tokio::sync::watch;

use crate::ca_config_map::CaConfigMap;
use crate::key_source::FetchError;
use crate::run::RunError;
use crate::running::Start;

/// Starts what keeps the certificate, from whichever source the configuration names.
pub(crate) fn start_certificate(
    start: &Start,
    tls: &ServingTls,
    host: &str,
) -> Result<ServingCertificate, RunError> {
    let certificate = ServingCertificate::empty();
    let condition = start.condition("certificate");
    let shutdown = start.shutdown.clone();
    match tls {
        ServingTls::Ephemeral { names, ca_file } => {
            let (pair, bundle) = svc_runtime::tls::ephemeral(names, svc_runtime::clock::now())?;
            write_file(ca_file, bundle.as_pem())?;
            certificate.replace(pair)?;
            condition.met();
        }
        ServingTls::Files {
            certificate: chain,
            key,
        } => {
            let (chain, key, into) = (chain.clone(), key.clone(), certificate.clone());
            start.tasks.spawn("certificate", async move {
                follow_files(&chain, &key, LOOK_EVERY, into, condition, shutdown).await
            });
        }
        ServingTls::Secret {
            name,
            ca_config_map,
            rotation,
        } => {
            // `run` makes a client whenever this source is configured.
            let Some(client) = start.client() else {
                return Err(FetchError::NoApiServer.into());
            };
            let managed = ManagedSecret {
                client,
                namespace: start.namespace.clone(),
                name: name.clone(),
                dns_names: names_of(host),
                rotation: *rotation,
            };
            let (ca_sender, ca) = watch::channel(None);
            let published = follow_ca_config_map(start, ca_config_map.as_ref(), &managed, ca);
            let into = certificate.clone();
            let following = managed.follow(into, condition, ca_sender, published, shutdown);
            start.tasks.spawn("certificate", following);
        }
    }
    Ok(certificate)
}

/// Publishes the CA, if there is a ConfigMap for it, and tells what is found there.
fn follow_ca_config_map(
    start: &Start,
    name: Option<&String>,
    managed: &ManagedSecret,
    ca: watch::Receiver<Option<CaBundle>>,
) -> watch::Receiver<Published> {
    let Some(name) = name else {
        return watch::channel(Published::Nowhere).1;
    };
    let (published, receiver) = watch::channel(Published::Seen(Vec::new()));
    let publication = Publication {
        place: CaConfigMap,
        api: Api::namespaced(managed.client.clone(), &start.namespace),
        name: name.clone(),
        field_manager: FIELD_MANAGER,
        keeper: Some(Keeper {
            secret: managed.clone(),
            ca,
            published,
        }),
        readiness: None,
    };
    let keeping = publication.keep(start.shutdown.clone());
    start.tasks.spawn("CA ConfigMap", keeping);
    receiver
}

/// The URL's host; a Service's name has a longer form too.
fn names_of(host: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    if host.split('.').next_back() == Some("svc") {
        names.push(format!("{host}.cluster.local"));
    }
    names
}

fn write_file(path: &Path, text: &str) -> Result<(), RunError> {
    let failed = |source| RunError::CaFile {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

const FIELD_MANAGER: &str = "kube-sts-server";
