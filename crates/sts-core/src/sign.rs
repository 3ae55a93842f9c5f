//! Signing keys and signed tokens.
//!
//! The private key is parsed once and kept in the crypto library's own handle: parsing an RSA key costs as much as two signatures.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::claims::{OutgoingClaims, OwnClaims};
use crate::ident::KeyId;
use crate::keys::{Algorithm, KeySet};

/// A private key, the algorithm it signs with, and the public half as relying parties see it.
#[derive(Clone)]
pub struct SigningKey {
    private: Arc<Private>,
    public: PublicJwk,
    key_id: KeyId,
}

enum Private {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A public key in a JWK Set (RFC 7517, section 4): these members and no others, since AWS refuses a key with `key_ops`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PublicJwk {
    kty: &'static str,
    kid: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    #[serde(flatten)]
    parameters: Parameters,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
enum Parameters {
    Ec {
        crv: &'static str,
        x: String,
        y: String,
    },
    Rsa {
        n: String,
        e: String,
    },
}

/// A public key of ours, read again. Any other member, such as a private one, is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: String,
    alg: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl PublicJwk {
    /// Parses a public key that we wrote before.
    ///
    /// # Errors
    /// [`KeyError::NoPublicKey`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // Whatever reads a key set judges it: it is one of the allow-list, and whole.
        KeySet::parse(format!("{{\"keys\":[{text}]}}").as_bytes())
            .or(Err(KeyError::NoPublicKey))?;
        let raw: RawJwk = serde_json::from_str(text).or(Err(KeyError::NoPublicKey))?;
        let (kty, alg, parameters) = match raw {
            RawJwk {
                x: Some(x),
                y: Some(y),
                crv: Some(_),
                n: None,
                e: None,
                ..
            } => (
                "EC",
                Algorithm::Es256.name(),
                Parameters::Ec { crv: "P-256", x, y },
            ),
            RawJwk {
                n: Some(n),
                e: Some(e),
                crv: None,
                x: None,
                y: None,
                ..
            } => ("RSA", Algorithm::Rs256.name(), Parameters::Rsa { n, e }),
            RawJwk { .. } => return Err(KeyError::NoPublicKey),
        };
        if raw.kty != kty || raw.alg != alg || raw.usage != "sig" {
            return Err(KeyError::NoPublicKey);
        }
        Ok(Self {
            kty,
            kid: raw.kid,
            usage: "sig",
            alg,
            parameters,
        })
    }

    /// Its id.
    pub fn key_id(&self) -> &str {
        &self.kid
    }

    /// The algorithm relying parties check its signatures with.
    pub fn algorithm(&self) -> &'static str {
        self.alg
    }
}

/// A token that we signed. Its text never leaves but through [`SignedToken::expose`].
pub struct SignedToken(Zeroizing<String>);

impl SignedToken {
    /// The compact form, for the one it was issued to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedToken")
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum KeyError {
    /// The key is of another type than the configured algorithm needs.
    #[error("key is not one for {algorithm}")]
    AlgorithmMismatch {
        /// The configured algorithm.
        algorithm: &'static str,
    },
    /// The crypto library could not make a key.
    #[error("no key could be generated")]
    GenerationFailed,
    /// Not a public key as we write them.
    #[error("text is not one public JWK of ours")]
    NoPublicKey,
    /// No PEM section with a private key, or more than one.
    #[error("text does not hold exactly one PEM private key (PKCS#8, PKCS#1 or SEC1)")]
    NotOneKey,
    /// The key is damaged, or weaker than RSA 2048.
    #[error("key is damaged or too weak: RSA of 2048 bits or more, or P-256")]
    Rejected,
}

/// The crypto library failed to sign; the key is a good one, so this has no cause that we know.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("token could not be signed")]
pub struct SignError;

impl SigningKey {
    /// Generates a key: RSA with 2048 bits, which takes 0.05 to 0.3 s, or P-256.
    ///
    /// # Errors
    /// [`KeyError::GenerationFailed`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        const FAILED: KeyError = KeyError::GenerationFailed;
        let private = match algorithm {
            Algorithm::Es256 => Private::Ec(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).or(Err(FAILED))?,
            ),
            Algorithm::Rs256 => {
                Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).or(Err(FAILED))?)
            }
        };
        Self::of(private)
    }

    /// Parses a PEM private key (PKCS#8, PKCS#1 or SEC1) for an algorithm.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong, and never shows the text.
    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let der = single_key(pem)?;
        let private = match algorithm {
            Algorithm::Es256 => Private::Ec(parse_ec(&der)?),
            Algorithm::Rs256 => Private::Rsa(parse_rsa(&der)?),
        };
        Self::of(private)
    }

    /// The private key as PKCS#8 in PEM, the form it is stored in.
    ///
    /// # Errors
    /// [`KeyError::Rejected`], which no key that was parsed should give.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        const REJECTED: KeyError = KeyError::Rejected;
        Ok(match &*self.private {
            Private::Ec(key) => pkcs8_pem(key.to_pkcs8v1().or(Err(REJECTED))?.as_ref()),
            Private::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().or(Err(REJECTED))?;
                pkcs8_pem(der.as_ref())
            }
        })
    }

    fn of(private: Private) -> Result<Self, KeyError> {
        let (spki, parameters) = private.public()?;
        let kid = key_id(&spki);
        let (kty, alg) = match private {
            Private::Ec(_) => ("EC", Algorithm::Es256.name()),
            Private::Rsa(_) => ("RSA", Algorithm::Rs256.name()),
        };
        let public = PublicJwk {
            kty,
            kid: kid.clone(),
            usage: "sig",
            alg,
            parameters,
        };
        let key_id = KeyId::parse(&kid).or(Err(KeyError::Rejected))?;
        Ok(Self {
            private: Arc::new(private),
            public,
            key_id,
        })
    }

    /// The key's id: base64url(SHA-256(DER SubjectPublicKeyInfo)), as kube-apiserver derives it.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        match &*self.private {
            Private::Ec(_) => Algorithm::Es256,
            Private::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// Signs claims (RFC 7515, section 7.1).
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, claims: &OutgoingClaims) -> Result<SignedToken, SignError> {
        self.sign_payload(claims)
    }

    /// Signs claims for ourselves.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign_own(&self, claims: &OwnClaims) -> Result<SignedToken, SignError> {
        self.sign_payload(claims)
    }

    fn sign_payload(&self, claims: &impl Serialize) -> Result<SignedToken, SignError> {
        let header = Header {
            alg: self.public.alg,
            kid: self.key_id.as_str(),
            typ: "JWT",
        };
        let header = serde_json::to_vec(&header).or(Err(SignError))?;
        let payload = serde_json::to_vec(claims).or(Err(SignError))?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.private.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(SignedToken(Zeroizing::new(token)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

impl Private {
    /// The DER SubjectPublicKeyInfo, and the members of the JWK.
    fn public(&self) -> Result<(Vec<u8>, Parameters), KeyError> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(key) => {
                let spki: PublicKeyX509Der<'_> =
                    key.public_key().as_der().or(Err(KeyError::Rejected))?;
                // An uncompressed point: 4, x, y.
                let [4, point @ ..] = key.public_key().as_ref() else {
                    return Err(KeyError::Rejected);
                };
                let (x, y) = point.split_at_checked(32).ok_or(KeyError::Rejected)?;
                let parameters = Parameters::Ec {
                    crv: "P-256",
                    x: encode(x),
                    y: encode(y),
                };
                Ok((spki.as_ref().to_vec(), parameters))
            }
            Self::Rsa(key) => {
                let spki: PublicKeyX509Der<'_> =
                    key.public_key().as_der().or(Err(KeyError::Rejected))?;
                let n = key.public_key().modulus().big_endian_without_leading_zero();
                let e = key
                    .public_key()
                    .exponent()
                    .big_endian_without_leading_zero();
                if e != [1, 0, 1] {
                    return Err(KeyError::Rejected);
                }
                Ok((
                    spki.as_ref().to_vec(),
                    Parameters::Rsa {
                        n: encode(n),
                        e: encode(e),
                    },
                ))
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .or(Err(SignError)),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .or(Err(SignError))?;
                Ok(signature)
            }
        }
    }
}

fn key_id(spki: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
    URL_SAFE_NO_PAD.encode(digest.as_ref())
}

/// The one private key of a PEM text (RFC 7468). Not read by the library that has PEM for certificates: what it takes a section apart with
/// stays in freed memory.
fn single_key(pem: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, KeyError> {
    // Some editors write a byte order mark.
    let mut lines = pem.trim_start_matches('\u{feff}').lines();
    let mut found = None;
    while let Some(line) = lines.next() {
        let begin = line.trim_end().strip_prefix("-----BEGIN ");
        let Some(label) = begin.and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut section = lines.by_ref().map(str::trim_end);
        let mut text = Zeroizing::new(String::with_capacity(pem.len()));
        loop {
            let line = section.next().ok_or(KeyError::NotOneKey)?;
            if line == end {
                break;
            }
            text.push_str(line);
        }
        let form: fn(Vec<u8>) -> PrivateKeyDer<'static> = match label {
            "PRIVATE KEY" => |der| PrivatePkcs8KeyDer::from(der).into(),
            "RSA PRIVATE KEY" => |der| PrivatePkcs1KeyDer::from(der).into(),
            "EC PRIVATE KEY" => |der| PrivateSec1KeyDer::from(der).into(),
            // Such as EC PARAMETERS, which OpenSSL writes beside a key.
            _ => continue,
        };
        let key = Zeroizing::new(form(decoded(&text)?));
        if found.replace(key).is_some() {
            return Err(KeyError::NotOneKey);
        }
    }
    found.ok_or(KeyError::NotOneKey)
}

/// In one allocation: one that grew would leave its beginning behind.
fn decoded(text: &str) -> Result<Vec<u8>, KeyError> {
    let mut der = Zeroizing::new(Vec::with_capacity(text.len()));
    let read = STANDARD.decode_vec(text, &mut der);
    read.or(Err(KeyError::NotOneKey))?;
    Ok(std::mem::take(&mut *der))
}

fn parse_ec(der: &PrivateKeyDer<'_>) -> Result<EcdsaKeyPair, KeyError> {
    let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = if let PrivateKeyDer::Pkcs8(der) = der {
        EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der())
    } else if let PrivateKeyDer::Sec1(der) = der {
        EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der())
    } else {
        return Err(KeyError::AlgorithmMismatch {
            algorithm: Algorithm::Es256.name(),
        });
    };
    key.or(Err(KeyError::Rejected))
}

fn parse_rsa(der: &PrivateKeyDer<'_>) -> Result<RsaKeyPair, KeyError> {
    let key = if let PrivateKeyDer::Pkcs8(der) = der {
        RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
    } else if let PrivateKeyDer::Pkcs1(der) = der {
        RsaKeyPair::from_der(der.secret_pkcs1_der())
    } else {
        return Err(KeyError::AlgorithmMismatch {
            algorithm: Algorithm::Rs256.name(),
        });
    };
    key.or(Err(KeyError::Rejected))
}

/// RFC 7468: 64 characters a line.
fn pkcs8_pem(der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(text.len().saturating_mul(2)));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at.is_multiple_of(64) {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
#[path = "sign/tests.rs"]
mod tests;
