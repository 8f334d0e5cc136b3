//! Addresses of peers, as text that only their transport understands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest address in bytes, including its kind. An iroh ticket with a dozen direct addresses and
/// two relays takes about 300.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// The address of a peer: `kind:value`, such as `http:127.0.0.1:8080` or
/// `iroh:<endpoint ticket>`.
///
/// The kind names the transport that understands the value. Nothing else reads the value, so a
/// transport can change its form freely.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    text: String,
    kind_bytes: usize,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `:` between a kind and a value.
    #[error("{0:?} is not an address: expected kind:value, such as http:127.0.0.1:8080")]
    NoKind(String),
    /// The kind contains other characters than lower-case letters, digits and `-`.
    #[error("the kind of an address consists of a-z, 0-9 and '-', but this is {0:?}")]
    BadKind(String),
    /// The value is empty, or contains white space or control characters.
    #[error("the value of an address is empty or contains white space: {0:?}")]
    BadValue(String),
    /// The text is longer than [`ADDRESS_BYTES_MAX`].
    #[error("an address has at most {ADDRESS_BYTES_MAX} bytes, but this one has {0}")]
    TooLong(usize),
}

impl Address {
    /// Makes the address `kind:value`.
    ///
    /// # Errors
    /// The variant names the malformed part.
    pub fn new(kind: &str, value: &str) -> Result<Self, AddressError> {
        let bytes = kind.len() + 1 + value.len();
        if bytes > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong(bytes));
        }
        let kind_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if kind.is_empty() || !kind.chars().all(kind_ok) {
            return Err(AddressError::BadKind(kind.to_owned()));
        }
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::BadValue(value.to_owned()));
        }
        Ok(Self {
            text: format!("{kind}:{value}"),
            kind_bytes: kind.len(),
        })
    }

    /// Returns the part before the first `:`.
    pub fn kind(&self) -> &str {
        &self.text[..self.kind_bytes]
    }

    /// Returns the part after the first `:`.
    pub fn value(&self) -> &str {
        &self.text[self.kind_bytes + 1..]
    }

    /// Returns the whole address as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong(text.len()));
        }
        let (kind, value) = text
            .split_once(':')
            .ok_or_else(|| AddressError::NoKind(text.to_owned()))?;
        Self::new(kind, value)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_may_hold_colons() {
        let address: Address = "http:[::1]:80".parse().expect("an address");
        assert_eq!((address.kind(), address.value()), ("http", "[::1]:80"));
        assert_eq!(address.to_string(), "http:[::1]:80");
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        let error = |text: &str| text.parse::<Address>().expect_err("not an address");
        assert_eq!(error("nothing"), AddressError::NoKind("nothing".into()));
        assert_eq!(error("Http:x"), AddressError::BadKind("Http".into()));
        assert_eq!(error(":x"), AddressError::BadKind(String::new()));
        assert_eq!(error("http:"), AddressError::BadValue(String::new()));
        assert_eq!(error("http:a b"), AddressError::BadValue("a b".into()));
        let long = format!("http:{}", "x".repeat(ADDRESS_BYTES_MAX));
        assert_eq!(error(&long), AddressError::TooLong(long.len()));
    }
}
