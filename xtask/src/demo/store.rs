//! What a store holds, as the program prints it, and what the signed bytes themselves say.

use data_encoding::HEXLOWER;
use serde_json::Value;

/// A name of an entry: a SHA-256 hash.
pub type Id = [u8; 32];

/// Bytes after the canonical form of an entry.
const SIGNATURE_BYTES: usize = 64;

/// The one version of the format.
pub const ENTRY_VERSION: u64 = 2;

/// All that a store says about one tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// The node's name.
    pub store: String,
    /// In the order of `log`.
    pub entries: Vec<DumpEntry>,
    /// What `tips` prints.
    pub tips: Vec<Id>,
}

/// One line of `log --json --raw`.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpEntry {
    pub id: Id,
    pub parents: Vec<Id>,
    pub height: u64,
    /// Canonical bytes and signature.
    pub encoded: Vec<u8>,
}

/// What the canonical bytes of an entry say.
#[derive(Debug, PartialEq)]
pub struct Said<'a> {
    pub tree: Option<Id>,
    pub parents: Vec<Id>,
    pub height: u64,
    /// The payload of an entry that carries data.
    pub data: Option<&'a [u8]>,
}

impl Dump {
    /// Reads the output of `log --json --raw` and of `tips`.
    pub fn parse(store: &str, log: &[String], tips: &[String]) -> Result<Self, String> {
        let entry = |line: &String| {
            DumpEntry::parse(line).ok_or_else(|| format!("{store}: no entry in the log: {line}"))
        };
        let tip = |line: &String| id(line).ok_or_else(|| format!("{store}: no tip: {line:?}"));
        Ok(Self {
            store: store.into(),
            entries: log.iter().map(entry).collect::<Result<_, _>>()?,
            tips: tips.iter().map(tip).collect::<Result<_, _>>()?,
        })
    }
}

impl DumpEntry {
    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let parents = value["parents"].as_array()?.iter();
        Some(Self {
            id: id(value["id"].as_str()?)?,
            parents: parents.map(|it| id(it.as_str()?)).collect::<Option<_>>()?,
            height: value["height"].as_u64()?,
            encoded: HEXLOWER
                .decode(value["encoded"].as_str()?.as_bytes())
                .ok()?,
        })
    }
}

impl<'a> Said<'a> {
    /// Reads the canonical bytes of an entry, which are postcard's.
    pub fn read(encoded: &'a [u8]) -> Option<Self> {
        let canonical = encoded.len().checked_sub(SIGNATURE_BYTES)?;
        let mut reader = Reader(&encoded[..canonical]);
        if reader.number()? != ENTRY_VERSION {
            return None;
        }
        let tree = match reader.number()? {
            0 => None,
            1 => Some(reader.id()?),
            _ => return None,
        };
        let parents = reader.number()?;
        let parents = (0..parents).map(|_| reader.id()).collect::<Option<_>>()?;
        let height = reader.number()?;
        let (_timestamp_ms, _author) = (reader.number()?, reader.id()?);
        // Other payloads than data are not read here.
        let data = match reader.number()? {
            0 => {
                let length = usize::try_from(reader.number()?).ok()?;
                Some(reader.take(length).filter(|_| reader.0.is_empty())?)
            }
            _ => None,
        };
        Some(Self {
            tree,
            parents,
            height,
            data,
        })
    }
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn id(&mut self) -> Option<Id> {
        self.take(32)?.try_into().ok()
    }

    /// Reads a number in groups of seven bits, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn id(digits: &str) -> Option<Id> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// Writes the beginning of an id, for people.
pub fn short(id: &Id) -> String {
    HEXLOWER.encode(&id[..5])
}
