module kube-sts/tests/tools/wycheproof

go 1.26.4

// Test vectors: nothing is built from it. `crates/test-support/src/vectors.rs` reads the files where Go has unpacked them.
require github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
