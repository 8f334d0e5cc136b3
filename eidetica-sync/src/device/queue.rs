//! The queue of processes that wait for a store that another process has open.
//!
//! Each waiting process has a file in a folder of the store, with the next free number as its name,
//! and holds the system's lock on it. The lock ends with the process, so a process that was killed
//! holds up no other.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::private::create_private_folder;

/// The folder of the queue within the store's folder.
const QUEUE_FOLDER: &str = "queue";

/// How often a waiting process looks again: unnoticeable for a person, and little work.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Longer than any caller waits.
const DAY: Duration = Duration::from_secs(86_400);

/// Tells callers of one process apart.
static CALLERS: AtomicU64 = AtomicU64::new(0);

/// A place in the queue. It is given up when this is dropped.
pub(super) struct Turn {
    number: u64,
    folder: PathBuf,
    /// Locked as long as this place is taken.
    file: Option<File>,
}

impl Turn {
    /// Tells whether others wait for the store in this folder.
    pub(super) fn others_wait(store: &Path) -> bool {
        let folder = store.join(QUEUE_FOLDER);
        numbers(&folder).is_ok_and(|numbers| numbers.iter().any(|it| is_taken(&folder, *it)))
    }

    /// Takes the last place.
    ///
    /// # Errors
    /// The folder cannot be written, or its file system has no links or locks. Then there is no order.
    pub(super) fn take(store: &Path) -> io::Result<Self> {
        let folder = store.join(QUEUE_FOLDER);
        create_private_folder(&folder)?;
        // Locked before it has a number, so that it never looks abandoned.
        let caller = CALLERS.fetch_add(1, Ordering::Relaxed);
        let unnumbered = folder.join(format!("process-{}-{caller}", std::process::id()));
        let _left_by_a_crash = fs::remove_file(&unnumbered);
        let file = File::create_new(&unnumbered)?;
        let numbered = file.lock().and_then(|()| number(&folder, &unnumbered));
        let _is_numbered = fs::remove_file(&unnumbered);
        Ok(Self {
            number: numbered?,
            folder,
            file: Some(file),
        })
    }

    /// Tells whether all processes that came before have their turn behind them.
    pub(super) fn is_first(&self) -> bool {
        let before = numbers(&self.folder).unwrap_or_default();
        let mut before = before.into_iter().filter(|it| *it < self.number);
        !before.any(|it| is_taken(&self.folder, it))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _is_gone = fs::remove_file(self.folder.join(self.number.to_string()));
        drop(self.file.take());
    }
}

/// Gives a file the number after the highest one that is taken.
fn number(folder: &Path, unnumbered: &Path) -> io::Result<u64> {
    let mut number = numbers(folder)?.into_iter().max().unwrap_or(0);
    loop {
        number = number.saturating_add(1);
        match fs::hard_link(unnumbered, folder.join(number.to_string())) {
            Ok(()) => return Ok(number),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lists the numbers in the queue, in no order.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        numbers.extend(name.to_str().and_then(|it| it.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// Tells whether the process of a number lives. If it was killed, its file is removed.
fn is_taken(folder: &Path, number: u64) -> bool {
    let file = folder.join(number.to_string());
    let Ok(open) = File::open(&file) else {
        return false;
    };
    match open.try_lock_shared() {
        Ok(()) => {
            let _is_gone = fs::remove_file(&file);
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

/// The time until which a caller waits.
pub(super) struct Deadline(Instant);

impl Deadline {
    #[expect(
        clippy::disallowed_methods,
        reason = "a caller waits in real time, for other processes"
    )]
    pub(super) fn after(wait: Duration) -> Self {
        let now = Instant::now();
        // A wait beyond a clock's reach is as good as a day.
        Self(now.checked_add(wait).unwrap_or(now + DAY))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a caller waits in real time, for other processes"
    )]
    pub(super) fn has_passed(&self) -> bool {
        self.0 <= Instant::now()
    }
}

/// Waits a moment. Callers are on blocking threads, or have nothing else to do yet.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing announces that another process has closed the store"
)]
pub(super) fn pause() {
    std::thread::sleep(LOOK_AGAIN_AFTER);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_order_of_arrival() {
        let store = tempfile::tempdir().expect("a temporary folder");
        assert!(!Turn::others_wait(store.path()));
        let take = || Turn::take(store.path()).expect("a place");
        let (first, second, third) = (take(), take(), take());
        assert!(Turn::others_wait(store.path()));
        assert!(first.is_first() && !second.is_first() && !third.is_first());
        drop(second);
        assert!(!third.is_first());
        drop(first);
        assert!(third.is_first());
        let fourth = take();
        assert!(!fourth.is_first());
        drop(third);
        assert!(fourth.is_first());
        drop(fourth);
        assert!(!Turn::others_wait(store.path()));
    }

    #[test]
    fn a_killed_process_leaves_no_place() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let folder = store.path().join(QUEUE_FOLDER);
        fs::create_dir(&folder).expect("room");
        for name in ["7", "not-a-number", "99999999999999999999999"] {
            fs::write(folder.join(name), "").expect("room");
        }
        let turn = Turn::take(store.path()).expect("a place");
        assert_eq!(turn.number, 8);
        assert!(turn.is_first());
        assert!(!folder.join("7").exists());
    }
}
