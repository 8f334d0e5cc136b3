//! Devices in folders that are new, damaged, in use, or open to others.

use std::fs;
use std::time::Duration;

use eidetica_dag::TreeId;
use tempfile::TempDir;

use super::*;
use crate::store::StoreError;

fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = place.path().join("device");
    (place, folder)
}

async fn tree_on(device: &Device) -> TreeId {
    let node = device.node().start();
    let tree = node.create_tree("notes", vec![]).await.expect("room");
    node.shutdown().await.expect("it stops");
    tree
}

#[tokio::test]
async fn a_device_is_the_same_when_it_is_opened_again() {
    let (_place, folder) = place();
    let device = Device::open_or_create(&folder).await.expect("room");
    let (key, tree) = (device.key(), tree_on(&device).await);
    drop(device);
    let again = DeviceFolder::new(&folder).open().await.expect("it is here");
    assert_eq!(again.key(), key);
    assert_eq!(again.store().trees().expect("sound"), [tree]);
}

#[tokio::test]
async fn an_absent_device_is_created_only_if_asked() {
    let (_place, folder) = place();
    let opened = DeviceFolder::new(&folder).open().await;
    assert!(matches!(opened, Err(DeviceError::Absent(at)) if at == folder));
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_key_without_its_database_is_no_new_device() {
    let (_place, folder) = place();
    let key = Device::open_or_create(&folder).await.expect("room").key();
    let database = folder.join("eidetica.redb");
    for is_there in [true, false] {
        match is_there {
            true => fs::write(&database, "").expect("room"),
            false => fs::remove_file(&database).expect("it is here"),
        }
        let error = Device::open_or_create(&folder).await.expect_err("lost");
        assert!(
            matches!(&error, DeviceError::DatabaseMissing { is_empty, .. } if *is_empty == is_there),
            "{error}"
        );
    }
    let folder = DeviceFolder::new(folder);
    folder.begin_again().expect("room");
    assert_eq!(folder.open().await.expect("it is here").key(), key);
}

#[tokio::test]
async fn trees_without_a_key_get_no_other_one() {
    let (_place, folder) = place();
    let device = Device::open_or_create(&folder).await.expect("room");
    tree_on(&device).await;
    drop(device);
    let file = folder.join("key");
    let key = fs::read(&file).expect("it is here");
    fs::write(&file, "abc").expect("room");
    let error = Device::open_or_create(&folder).await.expect_err("no key");
    assert!(matches!(&error, DeviceError::NotAKey(_)), "{error}");
    fs::remove_file(&file).expect("it is here");
    let error = Device::open_or_create(&folder).await.expect_err("no key");
    assert!(matches!(&error, DeviceError::KeyMissing(_)), "{error}");
    assert!(!file.exists());
    fs::write(&file, key).expect("room");
    Device::open_or_create(&folder).await.expect("whole again");
}

#[tokio::test]
async fn a_device_in_use_is_waited_for() {
    let (_place, folder) = place();
    let device = Device::open_or_create(&folder).await.expect("room");
    let key = device.key();
    let impatient = DeviceFolder::new(&folder).with_wait(Duration::ZERO);
    let refused = impatient.open_or_create().await.expect_err("in use");
    assert!(
        matches!(
            &refused,
            DeviceError::Store {
                source: StoreError::InUse { .. },
                ..
            }
        ),
        "{refused}"
    );
    let patient = DeviceFolder::new(&folder).with_wait(Duration::from_secs(600));
    let opening = tokio::spawn(patient.open_or_create());
    // It is in the queue, so it has found the store in use.
    let queue = folder.join("queue");
    while !fs::read_dir(&queue).is_ok_and(|mut it| it.next().is_some()) {
        tokio::task::yield_now().await;
    }
    drop(device);
    let opened = opening.await.expect("no panic").expect("it is free");
    assert_eq!(opened.key(), key);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_use_the_folder_whatever_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let (_place, folder) = place();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("here").permissions().mode();
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    fs::create_dir(&folder).expect("room");
    let files = ["key", "eidetica.redb"].map(|name| folder.join(name));
    for round in 0..2 {
        set(&folder, 0o777);
        if round > 0 {
            files.iter().for_each(|file| set(file, 0o666));
        }
        let device = Device::open_or_create(&folder).await.expect("room");
        assert_eq!(mode(&folder) & 0o777, 0o700);
        for file in &files {
            assert_eq!(mode(file) & 0o777, 0o600, "{}", file.display());
        }
        set(&files[0], 0o644);
        let open = Exposure::Open(files[0].clone());
        assert!(device.folder().exposures().contains(&open));
    }
}
