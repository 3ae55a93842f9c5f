//! Keys and tokens for tests: a valid token to begin with, and one thing changed in it; test vectors of others. Only ever a
//! dev-dependency.

mod keys;
mod tokens;
mod vectors;

pub use keys::TestKey;
pub use tokens::TokenBuilder;
pub use vectors::wycheproof;
