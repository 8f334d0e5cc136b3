//! Files and folders that only their owner may use.
//!
//! A device's folder holds its key and trees that are not for everyone. It may have been made or copied
//! with modes that let others in, and in a folder that others could write they may have left links, so
//! that a program would read or write elsewhere.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is read whole in bytes: the record of a server of many trees.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Creates a folder that only its owner can enter, and its parents, unless they exist.
#[cfg(unix)]
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Creates a folder and its parents; access is inherited.
#[cfg(not(unix))]
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a file that only its owner can use. It must not exist, not even as a link.
pub(super) fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads a file of the store, unless it is a link that another user has placed, or no file at all.
pub(super) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    refuse_link_of_others(path)?;
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    mode(path).is_some_and(|mode| mode & 0o077 != 0)
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(fs::metadata(path).ok()?.permissions().mode())
}

/// Keeps others out of a store as far as the file system allows: its folder, if it is one already or is
/// empty, and these files.
///
/// # Errors
/// One of them is a link that another user has placed.
#[cfg(unix)]
pub(super) fn make_private(folder: &Path, files: &[PathBuf], is_store: bool) -> io::Result<()> {
    for path in std::iter::once(folder).chain(files.iter().map(PathBuf::as_path)) {
        refuse_link_of_others(path)?;
    }
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut names| names.next().is_none());
    if is_open_to_others(folder) && (is_store || is_empty()) {
        close(folder, 0o700);
    }
    for file in files.iter().filter(|file| is_open_to_others(file)) {
        close(file, 0o600);
    }
    Ok(())
}

/// Other systems than Unix inherit access from the parent.
#[cfg(not(unix))]
pub(super) fn make_private(_: &Path, _: &[PathBuf], _: bool) -> io::Result<()> {
    Ok(())
}

/// Closes a file or a folder. Some file systems have no modes: [`Exposure`] tells what stays open.
#[cfg(unix)]
fn close(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let _stays_open = fs::set_permissions(path, fs::Permissions::from_mode(mode));
}

/// A way in which other users of the machine can get at a device's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// They can use a file or a folder that should be its owner's alone.
    Open(PathBuf),
    /// They can replace the device's folder, because they can write to this folder above it.
    Replaceable(PathBuf),
}

impl Exposure {
    /// Tells whether others can use a file, such as one with a secret.
    #[cfg(unix)]
    pub fn of(file: &Path) -> Option<Self> {
        is_open_to_others(file).then(|| Self::Open(file.to_owned()))
    }

    /// Other systems than Unix have no modes.
    #[cfg(not(unix))]
    pub fn of(_: &Path) -> Option<Self> {
        None
    }

    /// Tells whether others can write to a folder above `folder`, unless everybody keeps only files of
    /// their own there, as in `/tmp`.
    #[cfg(unix)]
    pub(super) fn above(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        let is_shared = |parent: &&Path| {
            mode(parent).is_some_and(|mode| mode & 0o022 != 0 && mode & 0o1000 == 0)
        };
        let parent = folder.ancestors().skip(1).find(is_shared)?;
        Some(Self::Replaceable(parent.to_owned()))
    }

    #[cfg(not(unix))]
    pub(super) fn above(_: &Path) -> Option<Self> {
        None
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => {
                let path = path.display();
                write!(f, "others can read {path}; try: chmod go= {path}")
            }
            Self::Replaceable(parent) => {
                let parent = parent.display();
                write!(
                    f,
                    "others can replace the store, because they can write to {parent}"
                )
            }
        }
    }
}

/// Refuses a symbolic link that neither the administrator nor the owner of its target has made.
#[cfg(unix)]
fn refuse_link_of_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(link) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !link.is_symlink() {
        return Ok(());
    }
    // A target that does not exist yet would be created in its folder.
    let owner = match fs::metadata(path) {
        Ok(target) => Some(target.uid()),
        Err(_) => path
            .parent()
            .and_then(|it| fs::metadata(it).ok())
            .map(|it| it.uid()),
    };
    match link.uid() == 0 || owner == Some(link.uid()) {
        true => Ok(()),
        false => {
            let text = format!("{} is a link that another user has placed", path.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }
}

#[cfg(not(unix))]
fn refuse_link_of_others(_: &Path) -> io::Result<()> {
    Ok(())
}
