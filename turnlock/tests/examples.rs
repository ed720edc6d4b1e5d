//! Runs each program of `examples/`, and holds them to the length that a reader takes in at once.

#[path = "../examples/blocking.rs"]
mod blocking;
#[path = "../examples/choose_backend.rs"]
mod choose_backend;
#[path = "../examples/fenced_file.rs"]
mod fenced_file;
#[path = "../examples/read_write.rs"]
mod read_write;
#[path = "../examples/timed_mutex.rs"]
mod timed_mutex;

/// An example has fewer lines than this.
const LINES: usize = 25;

#[test]
fn a_mutex_with_a_time_limit() {
    timed_mutex::main().expect("runs");
}

#[test]
fn a_read_write_lock() {
    read_write::main().expect("runs");
}

#[test]
fn a_program_without_an_executor() {
    blocking::main().expect("runs");
}

#[test]
fn a_file_under_a_fence() {
    fenced_file::main().expect("runs");
}

#[test]
fn a_backend_by_its_url() {
    choose_backend::main().expect("runs");
}

#[test]
fn every_example_is_short_and_runs_here() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let here = include_str!("examples.rs");
    let mut examples = 0;
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a program");
        let lines = text.lines().count();
        assert!(lines < LINES, "{} has {lines} lines", path.display());
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(
            here.contains(&format!("{name}::main()")),
            "{name} is not run"
        );
        examples += 1;
    }
    assert_eq!(examples, 5);
}
