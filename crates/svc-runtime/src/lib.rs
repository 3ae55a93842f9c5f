//! What the long-running kube-sts programs share: TLS serving and its certificates, the admin port, readiness, shutdown, logs, the
//! clock and the Kubernetes client.
//!
//! It knows nothing of tokens or pods. A program is put together like this:
//!
//! ```text
//! log::init ─▶ crypto::install_crypto_provider, memory::keep_memory_private ─▶ Shutdown, Readiness, Tasks
//!                Tasks.spawn("admin",       admin::serve_admin)
//!                Tasks.spawn("certificate", tls::ManagedSecret::follow | tls::follow_files)  ──▶ ServingCertificate
//!                Tasks.spawn("server",      server::serve_tls(ServingCertificate::server_config))
//!                Tasks.run()   until SIGTERM, SIGINT or the first task that fails
//! ```
//!
//! Start reading at [`shutdown`] for how a process lives and ends, at [`server`] for how a connection does, and at
//! [`tls::ManagedSecret`] for how replicas agree on one certificate without a leader.

pub mod admin;
pub mod clock;
pub mod crypto;
pub mod events;
pub mod file;
pub mod follow;
pub mod kube_client;
pub mod log;
pub mod memory;
pub mod readiness;
pub mod reload;
pub mod server;
pub mod shutdown;
pub mod tls;

pub use admin::serve_admin;
pub use crypto::install_crypto_provider;
pub use events::{EventWriter, own_pod};
pub use file::FileChanges;
pub use follow::follow_object;
pub use kube_client::{KubeClients, kube_client, kube_clients_of, kube_request_client};
pub use log::LogFormat;
pub use memory::keep_memory_private;
pub use readiness::{Condition, Readiness};
pub use server::{Limits, ServeError, serve_tls};
pub use shutdown::{DrainTiming, Shutdown, Spawner, Tasks, TasksError};
