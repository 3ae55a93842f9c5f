//! Keys that sign test tokens. They are made anew in each test process and protect nothing.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaSignatureEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key pair with a `kid` as kube-apiserver derives it.
#[derive(Debug)]
pub struct TestKey {
    pair: Pair,
    kid: String,
}

#[derive(Debug)]
enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a test without its keys cannot go on"
)]
impl TestKey {
    /// An RSA key with 2048 bits, the same at each call of one process: making one takes a while.
    pub fn rsa() -> &'static Self {
        static KEY: OnceLock<TestKey> = OnceLock::new();
        KEY.get_or_init(Self::new_rsa)
    }

    /// Another RSA key: the attacker's.
    pub fn other_rsa() -> &'static Self {
        static KEY: OnceLock<TestKey> = OnceLock::new();
        KEY.get_or_init(Self::new_rsa)
    }

    /// A new P-256 key.
    pub fn ec() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key is made");
        Self::of(Pair::Ec(pair))
    }

    /// An RSA key from its PKCS#8 encoding: one that somebody else signs with too.
    pub fn from_pkcs8(der: &[u8]) -> Self {
        Self::of(Pair::Rsa(RsaKeyPair::from_pkcs8(der).expect("an RSA key")))
    }

    fn new_rsa() -> Self {
        Self::of(Pair::Rsa(
            RsaKeyPair::generate(KeySize::Rsa2048).expect("key is made"),
        ))
    }

    fn of(pair: Pair) -> Self {
        let spki = spki(&pair);
        let kid =
            URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki));
        Self { pair, kid }
    }

    /// The public half as DER (SubjectPublicKeyInfo).
    pub fn spki(&self) -> Vec<u8> {
        spki(&self.pair)
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm's name.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The public half as a JWK.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref().split_at(33);
                let x = x.get(1..).expect("an uncompressed point");
                json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "alg": "ES256",
                       "x": encode(x), "y": encode(y)})
            }
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                json!({"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256",
                       "n": encode(key.modulus().big_endian_without_leading_zero()),
                       "e": encode(key.exponent().big_endian_without_leading_zero())})
            }
        }
    }

    /// A JWK Set of keys, as text.
    pub fn jwks(keys: &[&Self]) -> String {
        json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
    }

    /// Signs a message, in the form a JWS has.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair
                .sign(&random, message)
                .expect("message is signed")
                .as_ref()
                .to_vec(),
            Pair::Rsa(_) => self.sign_rsa(&RSA_PKCS1_SHA256, message),
        }
    }

    /// Signs a message with an RSA key in another way than RS256.
    pub fn sign_rsa(&self, encoding: &'static RsaSignatureEncoding, message: &[u8]) -> Vec<u8> {
        let Pair::Rsa(pair) = &self.pair else {
            panic!("an EC key cannot do that");
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
            .expect("message is signed");
        signature
    }
}

#[expect(clippy::expect_used, reason = "a test without its keys cannot go on")]
fn spki(pair: &Pair) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = match pair {
        Pair::Ec(pair) => pair.public_key().as_der(),
        Pair::Rsa(pair) => pair.public_key().as_der(),
    }
    .expect("key is encoded");
    der.as_ref().to_vec()
}
