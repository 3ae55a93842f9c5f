//! What others list ServiceAccounts in: the ConfigMap of AWS's webhook, and EKS Pod Identity's file.

mod agent;
mod config_map;

pub(crate) use agent::{AgentList, follow_file};
pub(crate) use config_map::{RoleList, follow};
