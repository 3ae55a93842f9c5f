//! End-to-end tests: all of them are in `tests/e2e`, and run on the stage that `cargo xtask test --only e2e` sets up.
