//! Enums that later versions may extend.
//!
//! postcard writes an enum as the number of its variant and whatever the variant holds, so a reader
//! that does not know the number cannot tell where the value ends. The enums here are written as a
//! kind and a body whose length is known, so that an unknown kind is a value, `Unknown(kind)`, and
//! not a broken message.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Defines an enum whose variants have numbers on the wire, with one more variant, `Unknown`, for
/// the numbers that this version does not know.
macro_rules! growing_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $kind:literal => $variant:ident $(($body:ty))?,)*
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant $(($body))?,)*
            /// A later version's kind, of which only the number is known.
            Unknown(u16),
        }

        impl $name {
            /// Returns the number of the kind on the wire.
            pub fn kind(&self) -> u16 {
                match self {
                    $(Self::$variant { .. } => $kind,)*
                    Self::Unknown(kind) => *kind,
                }
            }

            /// Writes what follows the kind.
            pub(crate) fn write_body(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant $(($crate::message::growing::growing_enum!(@bind body $body)))? => {
                        $crate::message::growing::growing_enum!(@write $(body $body)?)
                    })*
                    Self::Unknown(_) => Vec::new(),
                }
            }

            /// Reads a kind and all of its body, or returns `None` if the body is not of this kind.
            pub(crate) fn read(kind: u16, bytes: &[u8]) -> Option<Self> {
                match kind {
                    $($kind => $crate::message::growing::growing_enum!(@read $name $variant bytes $($body)?),)*
                    other => Some(Self::Unknown(other)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                (self.kind(), serde_bytes::Bytes::new(&self.write_body())).serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (kind, body) = <(u16, &serde_bytes::Bytes)>::deserialize(deserializer)?;
                let value = Self::read(kind, body);
                value.ok_or_else(|| serde::de::Error::custom("the body is not of its kind"))
            }
        }
    };
    (@bind $name:ident $body:ty) => { $name };
    (@write) => { Vec::new() };
    (@write $name:ident $body:ty) => { $crate::message::growing::write::<$body>($name) };
    (@read $name:ident $variant:ident $bytes:ident) => {
        $bytes.is_empty().then_some($name::$variant)
    };
    (@read $name:ident $variant:ident $bytes:ident $body:ty) => {
        $crate::message::growing::read::<$body>($bytes).map($name::$variant)
    };
}

pub(crate) use growing_enum;

/// Writes a value.
pub(crate) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a vector takes every byte")
}

/// Reads a value that takes all of the bytes.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

/// Takes a value from the front of the bytes.
pub(crate) fn take<T: DeserializeOwned>(bytes: &mut &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(value)
}
