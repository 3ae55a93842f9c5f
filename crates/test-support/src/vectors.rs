//! Test vectors of others: files of a Go module, which its own go.mod and go.sum pin. Go fetches it once and keeps it.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// A file of Project Wycheproof (github.com/c2sp/wycheproof), under `testvectors_v1`.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test without its vectors cannot go on"
)]
pub fn wycheproof(file: &str) -> Value {
    static FOLDER: OnceLock<String> = OnceLock::new();
    let folder = Path::new(FOLDER.get_or_init(module_folder)).join("testvectors_v1");
    let text = std::fs::read(folder.join(file)).expect("the module has the file");
    serde_json::from_slice(&text).expect("vectors are JSON")
}

/// Where Go has unpacked the module; it fetches it if need be, and checks it against go.sum.
#[expect(clippy::panic, reason = "a test without its vectors cannot go on")]
fn module_folder() -> String {
    const MODULE: &str = "github.com/c2sp/wycheproof";
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tools/wycheproof");
    let output = Command::new("go")
        .current_dir(pinned)
        .args(["mod", "download", "-json", MODULE])
        .output();
    let output = output.unwrap_or_else(|error| panic!("these tests need Go: {error}"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let folder = answer.get("Dir").and_then(Value::as_str);
    let said = String::from_utf8_lossy(&output.stderr);
    folder.map_or_else(
        || panic!("Go cannot fetch {MODULE}: {answer} {said}"),
        str::to_owned,
    )
}
