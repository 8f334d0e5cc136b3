//! Files and folders that only their owner may use.
//!
//! A store holds the device's key and trees that are not for everyone. It may have been made or copied
//! with modes that let others in, and in a folder that others could write they may have left links, so
//! that the program would read or write elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::output::out::note;
use crate::output::text;

/// The largest file that is read whole in bytes: the record of a server of many trees.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Creates a folder that only its owner can enter, and its parents, unless they exist.
#[cfg(unix)]
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Creates a folder and its parents; access is inherited.
#[cfg(not(unix))]
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a file that only its owner can use. It must not exist, not even as a link.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads a file of the store, unless it is a link that another user has placed, or no file at all.
pub(crate) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    refuse_link_of_others(path)?;
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Warns if others can read a secret file.
#[cfg(unix)]
pub(crate) fn warn_if_others_can_read(file: &Path) {
    if is_open_to_others(file) {
        let file = text::path(file);
        note(format!(
            "warning: others can read {file}; try: chmod 600 {file}"
        ));
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_others_can_read(_: &Path) {}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    mode(path).is_some_and(|mode| mode & 0o077 != 0)
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(fs::metadata(path).ok()?.permissions().mode())
}

/// Keeps others out of a store: its folder, if it is one already or is empty, and these files. Warns where
/// that is not possible, or where others could replace the folder.
///
/// # Errors
/// One of them is a link that another user has placed.
#[cfg(unix)]
pub(crate) fn make_private(folder: &Path, files: &[PathBuf], is_store: bool) -> io::Result<()> {
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
pub(crate) fn make_private(_: &Path, _: &[PathBuf], _: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn close(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        let path = text::path(path);
        note(format!(
            "warning: others can use {path}: its mode cannot be changed to {mode:o}: {error}"
        ));
    }
}

/// Warns where others could replace the store by another: they can write to a folder above it, which is
/// not one where everybody keeps only files of their own, such as /tmp.
#[cfg(unix)]
pub(crate) fn warn_if_others_can_replace(folder: &Path) {
    let Ok(folder) = folder.canonicalize() else {
        return;
    };
    let is_shared =
        |parent: &&Path| mode(parent).is_some_and(|mode| mode & 0o022 != 0 && mode & 0o1000 == 0);
    if let Some(parent) = folder.ancestors().skip(1).find(is_shared) {
        note(format!(
            "warning: others can replace the store, because they can write to {}",
            text::path(parent)
        ));
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_others_can_replace(_: &Path) {}

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
            let text = format!(
                "{} is a link that another user has placed",
                text::path(path)
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }
}

#[cfg(not(unix))]
fn refuse_link_of_others(_: &Path) -> io::Result<()> {
    Ok(())
}
