//! Trees for the tests of stores: random, and the same for the same seed.

use bytes::Bytes;
use eidetica_dag::{
    AccessChange, AccessRule, Body, Entry, EntryId, Genesis, Role, SecretKey, Subject, TreeId,
    VerifiedEntry,
};

/// Writes one tree, with three authors: the first is its admin, the others may write.
#[derive(Debug)]
pub struct Authors {
    keys: [SecretKey; 3],
    entries: Vec<VerifiedEntry>,
    random: u64,
}

impl Authors {
    /// Begins a tree. Other seeds make other trees.
    pub fn new(seed: u64) -> Self {
        let keys = [1, 2, 3].map(|author| SecretKey::from_bytes(&[author; 32]));
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&seed.to_le_bytes());
        let grant = |key: &SecretKey| AccessChange::grant(Subject::Key(key.public()), Role::Write);
        let genesis = Genesis {
            access_rule: AccessRule::SENIORITY,
            nonce,
            name: "conformance".to_owned(),
            access: keys[1..].iter().map(grant).collect(),
        };
        let root = Entry {
            tree: None,
            parents: Vec::new(),
            height: 0,
            timestamp_ms: 0,
            author: keys[0].public(),
            body: Body::Genesis(genesis),
        };
        let root = VerifiedEntry::sign(root, &keys[0]).expect("a root is well formed");
        Self {
            keys,
            entries: vec![root],
            // Any odd constant does; zero would stay zero.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Returns the tree's name.
    pub fn tree(&self) -> TreeId {
        self.entries[0].get().tree()
    }

    /// Returns every entry so far, parents before children.
    pub fn entries(&self) -> &[VerifiedEntry] {
        &self.entries
    }

    /// Returns a copy of the entry with this index.
    pub fn entry(&self, index: usize) -> VerifiedEntry {
        self.entries[index].clone()
    }

    /// Returns the id of the entry with this index.
    pub fn id(&self, index: usize) -> EntryId {
        self.entries[index].get().id()
    }

    /// Returns a random number below `end`, by xorshift.
    pub fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % end as u64) as usize
    }

    /// Adds an entry on top of those with these indexes, and returns its index.
    pub fn write(&mut self, author: usize, parents: &[usize], body: Body) -> usize {
        let height = parents
            .iter()
            .map(|parent| self.entries[*parent].get().entry().height + 1)
            .max();
        self.write_claiming(author, parents, body, height.unwrap_or(0))
    }

    /// Adds an entry that claims a height, which may be a lie.
    pub fn write_claiming(
        &mut self,
        author: usize,
        parents: &[usize],
        body: Body,
        height: u32,
    ) -> usize {
        let mut parents: Vec<EntryId> = parents.iter().map(|parent| self.id(*parent)).collect();
        parents.sort_unstable();
        parents.dedup();
        let entry = Entry {
            tree: Some(self.tree()),
            parents,
            height,
            timestamp_ms: self.entries.len() as u64,
            author: self.keys[author].public(),
            body,
        };
        let entry = VerifiedEntry::sign(entry, &self.keys[author]).expect("it is well formed");
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Adds an entry with data.
    pub fn write_data(&mut self, author: usize, parents: &[usize]) -> usize {
        let data = Bytes::from(vec![0x5a; self.entries.len() % 40]);
        self.write(author, parents, Body::Data(data))
    }

    /// Adds an entry by which the admin changes another key's role.
    pub fn write_access(&mut self, parents: &[usize], role: Option<Role>) -> usize {
        let subject = Subject::Key(SecretKey::from_bytes(&[9; 32]).public());
        let change = AccessChange { subject, role };
        self.write(0, parents, Body::Access(vec![change]))
    }

    /// Adds entries until there are `count`, of a random shape: runs, forks, merges, and now and
    /// then a change of access.
    pub fn grow(&mut self, count: usize) {
        while self.entries.len() < count {
            let top = self.entries.len();
            // Mostly near the top, so that heights grow; sometimes anywhere, so that tips remain.
            let reach = if self.below(16) == 0 { top } else { top.min(4) };
            let parents: Vec<usize> = (0..1 + self.below(4) / 2)
                .map(|_| top - 1 - self.below(reach))
                .collect();
            if self.below(64) == 0 {
                let roles = [None, Some(Role::Read), Some(Role::Write)];
                let role = roles[self.below(roles.len())];
                self.write_access(&parents, role);
            } else {
                let author = self.below(3);
                self.write_data(author, &parents);
            }
        }
    }

    /// Makes a tree of a random shape with this many entries.
    pub fn grown(seed: u64, count: usize) -> Self {
        let mut authors = Self::new(seed);
        authors.grow(count);
        authors
    }
}
