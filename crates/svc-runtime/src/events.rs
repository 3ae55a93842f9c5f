//! Kubernetes Events. One that cannot be written is only a pity: the log has what it says.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::timeout;

use crate::log::chain;

/// Writes Events under a program's name. Equal ones within some minutes are counted, not repeated.
#[derive(Clone)]
pub struct EventWriter {
    recorder: Recorder,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// In camel case, for programs.
    pub reason: String,
    /// What was being done, in camel case.
    pub action: &'static str,
    /// Whether somebody should look at it.
    pub is_warning: bool,
    /// For people; it is cut to what an Event holds.
    pub note: String,
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventWriter")
    }
}

impl EventWriter {
    /// Writes as `controller`.
    pub fn new(client: Client, controller: &str) -> Self {
        Self {
            recorder: Recorder::new(client, Reporter::from(controller)),
        }
    }

    /// Writes an Event about an object.
    pub async fn write(&self, about: &ObjectReference, happening: Happening) {
        let Happening {
            reason,
            action,
            is_warning,
            note,
        } = happening;
        let name = about.name.clone();
        let event = Event {
            type_: if is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason,
            note: Some(bounded(note)),
            action: action.to_owned(),
            secondary: None,
        };
        match timeout(PATIENCE, self.recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(about = name, error = %chain(&error), "Event cannot be written");
            }
            Err(_elapsed) => {
                tracing::warn!(about = name, "Event cannot be written in time");
            }
        }
    }
}

/// The pod that we are, if we are told its name and uid.
pub fn own_pod(namespace: &str, name: Option<&str>, uid: Option<&str>) -> Option<ObjectReference> {
    Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name?.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid?.to_owned()),
        ..ObjectReference::default()
    })
}

/// What `note` may hold (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>: less than 1 kB).
fn bounded(mut note: String) -> String {
    const MORE: &str = " …";
    if note.len() > LONGEST_NOTE {
        let room = LONGEST_NOTE - MORE.len();
        let end = (0..=room).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or_default());
        note.push_str(MORE);
    }
    note
}

const LONGEST_NOTE: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(bounded("short".to_owned()), "short");
        let cut = bounded("é".repeat(LONGEST_NOTE));
        assert!(cut.len() <= LONGEST_NOTE && cut.ends_with('…'), "{cut}");
    }
}
