//! Keys and tokens for tests: a valid token to begin with, and one thing changed in it. Only ever a dev-dependency.

mod keys;
mod tokens;

pub use keys::TestKey;
pub use tokens::TokenBuilder;
