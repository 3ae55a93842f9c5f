//! The programs as processes, against a real kube-apiserver with etcd on loopback. There is no kubelet: pods stay pending, which is all
//! that a token bound to a pod needs, and no controller: ServiceAccounts are made by hand.
//!
//! [`control_plane`] starts the API server once for all tests; [`install`] gives each test namespaces of its own with what the chart
//! would create in them; [`process`] runs the programs with the rights the chart gives them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test's helpers may fail the test, read the environment, and start tasks that end with the test's runtime"
)]

mod bench;
mod bench_admission;
mod bucket;
mod certificates;
mod chart;
mod clusters;
mod control_plane;
mod danger;
mod exchange;
mod grace;
mod install;
mod keys;
mod kubectl_sts;
mod labels;
mod liveness;
mod load;
mod minio;
mod near_miss;
mod outage;
mod process;
mod public_issuer;
mod publishing;
mod read_back;
mod relay;
mod reload;
mod replicas;
mod ring;
mod rotation;
mod service_accounts;
mod strictness;
mod swarm;
mod wait;
mod watch;
mod webhook;
mod webhook_admits;
mod webhook_bounds;
mod webhook_policy;
