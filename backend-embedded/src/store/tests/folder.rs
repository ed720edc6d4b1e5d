//! The data folder on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::folder::FolderMedium;
use super::*;

fn medium(path: &Path) -> Result<FolderMedium, Error> {
    Arc::new(Folder::claim(path)?).medium()
}

fn open_folder(path: &Path) -> Result<(Store, LoadedState), Error> {
    Store::open(Box::new(medium(path)?), 0)
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
        store.commit(writer.next()).unwrap();
    }
    assert_eq!(
        store.file_size(),
        fs::metadata(path.join("store.redb")).unwrap().len()
    );
    drop(store);
    assert_eq!(mode(&path), 0o700);
    for name in ["store.redb", "JOURNAL", "ACKED", "LOCK"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    let (_, again) = open_folder(&path).unwrap();
    assert_eq!(again.snapshot, writer.state());
    assert_eq!(again.identity, loaded.identity);
}

#[test]
fn a_second_owner_is_refused_with_the_first() {
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

/// Sets the format of a closed store, and returns the one it had.
fn set_format(folder: &Path, format: u64) -> u64 {
    let database = redb::Database::open(folder.join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let mut meta = transaction.open_table(meta).unwrap();
    let before = meta.insert("format", format).unwrap().unwrap().value();
    drop(meta);
    transaction.commit().unwrap();
    before
}

#[test]
fn a_store_of_another_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(open_folder(root.path()).unwrap());
    set_format(root.path(), 99);
    let error = open_folder(root.path()).unwrap_err();
    let Error::FormatVersion {
        found, supported, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((found, supported), (99, 3));
}

#[test]
fn a_store_from_before_there_was_a_journal_is_taken_over() {
    let root = tempfile::tempdir().unwrap();
    drop(open_folder(root.path()).unwrap());
    set_format(root.path(), 2);
    fs::remove_file(root.path().join("JOURNAL")).unwrap();
    let mut writer = Writer::new(1);
    let (mut store, loaded) = open_folder(root.path()).unwrap();
    assert_eq!(loaded.snapshot, writer.state());
    store.commit(writer.next()).unwrap();
    drop(store);
    let (_, loaded) = open_folder(root.path()).unwrap();
    assert_eq!(loaded.snapshot, writer.state());
    assert_eq!(set_format(root.path(), 3), 3, "no older program opens it");
}

#[test]
fn a_journal_that_is_gone_or_cut_off_is_noticed_if_anything_is_missing() {
    let damages: [fn(&Path); 3] = [
        |journal| fs::remove_file(journal).unwrap(),
        |journal| fs::write(journal, b"").unwrap(),
        |journal| fs::write(journal, b"something else").unwrap(),
    ];
    for damage in damages {
        let root = tempfile::tempdir().unwrap();
        let journal = root.path().join("JOURNAL");
        let mut writer = Writer::new(1);
        let (mut store, _) = open_folder(root.path()).unwrap();
        store.commit(writer.next()).unwrap();
        drop(store);
        let kept = fs::read(&journal).unwrap();
        damage(&journal);
        let error = open_folder(root.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        fs::write(&journal, kept).unwrap();
        let (_, loaded) = open_folder(root.path()).unwrap();
        assert_eq!(loaded.snapshot, writer.state());
    }
}

#[test]
#[cfg(feature = "server")]
fn a_restored_store_is_there_wholly_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let state = {
        let mut writer = Writer::new(7);
        for _ in 0..50 {
            writer.next();
        }
        writer.state()
    };
    let folder = Folder::claim(root.path()).unwrap();
    assert_eq!(folder.find_store(), None);
    folder.restore(&state).unwrap();
    assert_eq!(folder.find_store(), Some(root.path().join("store.redb")));
    drop(folder);
    let (store, loaded) = open_folder(root.path()).unwrap();
    assert_eq!(loaded.snapshot, state);
    drop(store);

    // What a kill in the middle leaves.
    let half = root.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("store.redb.restoring"), "half of it").unwrap();
    let error = medium(&half).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("restore into this folder has not ended"),
        "{error}"
    );
    let folder = Folder::claim(&half).unwrap();
    folder.restore(&state).unwrap();
    drop(folder);
    assert_eq!(open_folder(&half).unwrap().1.snapshot, state);
}
