//! The data folder on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::folder::FolderMedium;
use super::*;

fn medium(path: &Path) -> Result<FolderMedium, Error> {
    Folder::claim(path)?.into_medium()
}

fn open_folder(path: &Path) -> Result<(Store, Loaded), Error> {
    Store::open(Box::new(medium(path)?))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_folder_is_for_the_user_alone_and_holds_a_store() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/data");
    let mut writer = Writer::new(1);
    let (mut store, loaded) = open_folder(&path).unwrap();
    store.reserve().unwrap();
    for _ in 0..20 {
        store.commit(&writer.next()).unwrap();
    }
    assert_eq!(
        store.file_size(),
        fs::metadata(path.join("store.redb")).unwrap().len()
    );
    drop(store);
    assert_eq!(mode(&path), 0o700);
    for name in ["store.redb", "ACKED", "LOCK"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    let (_, again) = open_folder(&path).unwrap();
    assert_eq!(again.snapshot, writer.state());
    assert_eq!(again.identity, loaded.identity);
}

#[test]
fn a_second_owner_is_refused_and_told_the_first() {
    let root = tempfile::tempdir().unwrap();
    let first = Folder::claim(root.path()).unwrap();
    let error = Folder::claim(root.path()).unwrap_err();
    let Error::AlreadyOpen { path, pid } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, root.path());
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&std::process::id().to_string()));
    drop(first);
    assert!(Folder::claim(root.path()).is_ok());
}

#[test]
fn a_store_half_made_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("store.redb.new"), b"half a store").unwrap();
    let (_, loaded) = open_folder(root.path()).unwrap();
    assert_eq!(loaded.snapshot, Writer::new(0).state());
    assert!(!root.path().join("store.redb.new").exists());
}

#[test]
fn a_store_that_is_gone_or_empty_is_not_taken_for_a_new_one() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store.redb");
    drop(open_folder(root.path()).unwrap());
    let kept = fs::read(&store).unwrap();
    let damages: [fn(&Path); 3] = [
        |store| fs::remove_file(store).unwrap(),
        |store| fs::write(store, b"").unwrap(),
        |store| fs::write(store, b"something else").unwrap(),
    ];
    for damage in damages {
        damage(&store);
        let error = open_folder(root.path()).unwrap_err();
        let Error::Damaged { path, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(path, &store);
    }
    fs::write(&store, kept).unwrap();
    open_folder(root.path()).unwrap();
}

#[test]
fn a_damaged_mark_is_named_and_a_missing_one_made_again() {
    let root = tempfile::tempdir().unwrap();
    let mark = root.path().join("ACKED");
    drop(open_folder(root.path()).unwrap());
    let kept = fs::read(&mark).unwrap();
    for damage in [&kept[..23], &[0; 24], &[&kept[..], b"x"].concat()] {
        fs::write(&mark, damage).unwrap();
        let error = open_folder(root.path()).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged { path, .. } if path == &mark),
            "{error}"
        );
    }
    fs::remove_file(&mark).unwrap();
    drop(open_folder(root.path()).unwrap());
    assert_eq!(fs::read(&mark).unwrap(), kept);
}

#[test]
fn a_store_of_another_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(open_folder(root.path()).unwrap());
    let path = root.path().join("store.redb");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", 99)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open_folder(root.path()).unwrap_err();
    let Error::FormatVersion {
        found, supported, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((found, supported), (99, 2));
}
