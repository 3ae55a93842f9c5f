//! What is in the memory of a process that holds private keys stays there.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Has no core dump of this process written, whatever takes core dumps here, and lets no other process of its user read its memory.
///
/// Where the system does not allow that, it is said and nothing else: a program without its protection is better than none.
pub fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    // Also where a program of the node's takes core dumps, which asks for no limit.
    let kept = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(kept) {
        tracing::warn!(%error, "a core dump of this process would hold its keys, and cannot be ruled out");
    }
}
