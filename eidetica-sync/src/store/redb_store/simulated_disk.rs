//! A disk in memory that loses power and fills up.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::testing::Random;
use redb::StorageBackend;

use super::RedbStore;
use crate::store::StoreError;

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// A disk that loses power and fills up.
///
/// What was written and not synced may reach it or not, sector by sector and in any order: an older
/// version of a sector can stay where a newer one was lost, and a file can have its old length. Clones
/// are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What reads give.
    seen: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    /// How many more writes and syncs there are before the cut.
    left: u64,
    done: u64,
    /// Whether no write beyond the end succeeds for lack of room.
    is_full: bool,
    /// How often the disk was unplugged.
    plug: u64,
}

/// The disk as a store sees it, until it is unplugged.
#[derive(Debug, Clone)]
struct Plugged {
    disk: SimulatedDisk,
    plug: u64,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, mut is_kept: impl FnMut() -> bool) {
        match self {
            Self::Length(length) => {
                if is_kept() {
                    file.resize(*length, 0);
                }
            }
            Self::Write(offset, data) => {
                for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    let start = offset + index * SECTOR_BYTES;
                    if is_kept() {
                        let end = start + sector.len();
                        if file.len() < end {
                            file.resize(end, 0);
                        }
                        file[start..end].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

impl SimulatedDisk {
    /// Makes a disk with an empty store. A file is made apart from its name, so no cut finds half of
    /// one: see [`RedbStoreBuilder::open`](super::RedbStoreBuilder::open).
    pub fn new() -> Self {
        let disk = Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            seen: Vec::new(),
            pending: Vec::new(),
            left: u64::MAX,
            done: 0,
            is_full: false,
            plug: 0,
        })));
        drop(disk.open().expect("the power stays"));
        disk.state().done = 0;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the store on the disk.
    ///
    /// # Errors
    /// Those of [`RedbStoreBuilder::open`](super::RedbStoreBuilder::open), and those of the disk.
    pub fn open(&self) -> Result<RedbStore, StoreError> {
        let plugged = Plugged {
            disk: self.clone(),
            plug: self.state().plug,
        };
        RedbStore::builder().open_with(Path::new("in memory"), move |builder| {
            builder.create_with_backend(plugged.clone())
        })
    }

    /// Lets the power fail after so many writes and syncs.
    pub fn cut_after(&self, left: u64) {
        self.state().left = left;
    }

    /// Returns how many writes and syncs there were since the store was made.
    pub fn steps_done(&self) -> u64 {
        self.state().done
    }

    /// Lets writes beyond the present end fail for lack of room, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Returns a disk with what is synced on this one, such as a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(State {
            durable: state.durable.clone(),
            seen: state.durable.clone(),
            pending: Vec::new(),
            left: u64::MAX,
            done: state.done,
            is_full: false,
            plug: 0,
        })))
    }

    /// Takes the disk away from the stores on it, as the death of their process does: what they have
    /// written is there, and they can do nothing more.
    pub fn unplug(&self) {
        self.state().plug += 1;
    }

    /// The power is back; what was not synced is what the disk made of it. The stores on it are gone.
    pub fn restart(&self, random: &mut Random) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        let mut file = std::mem::take(&mut state.durable);
        // Some disks keep nearly all, some nearly nothing.
        let of_eight = random.below(9);
        for change in pending {
            change.apply(&mut file, || random.below(8) < of_eight);
        }
        state.seen.clone_from(&file);
        state.durable = file;
        state.left = u64::MAX;
        state.plug += 1;
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.left == 0 {
            return Err(io::Error::other("there is no power"));
        }
        self.left -= 1;
        self.done += 1;
        Ok(())
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let end = match &change {
            Change::Length(length) => *length,
            Change::Write(offset, data) => offset + data.len(),
        };
        if self.is_full && end > self.seen.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let stepped = self.step();
        if stepped.is_ok() {
            change.apply(&mut self.seen, || true);
        }
        // The change that is cut may reach the disk, too.
        self.pending.push(change);
        stepped
    }
}

impl Plugged {
    /// Returns the disk, unless it was unplugged.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        match state.plug == self.plug {
            true => Ok(state),
            false => Err(io::Error::other("the disk was unplugged")),
        }
    }
}

impl StorageBackend for Plugged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let found = state.seen.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state()?.change(Change::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.step()?;
        for change in std::mem::take(&mut state.pending) {
            change.apply(&mut state.durable, || true);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let data = data.to_vec();
        self.state()?.change(Change::Write(offset as usize, data))
    }
}
