//! Compares the pages with the code: no page may name a file, a test or a figure that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read_page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Adds to `found` the files below a folder of the repository whose names end with `ending`.
fn find_files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            find_files_below(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Returns the texts between single backquotes, outside of fenced blocks.
fn find_quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside
        .flat_map(|part| part.lines())
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut pages = Vec::new();
    find_files_below(&root(), ".md", &mut pages);
    let mut missing = Vec::new();
    for path in pages {
        let changes = path.ends_with("CHANGELOG.md");
        let text = fs::read_to_string(&path).expect("a page");
        let rooms = ["src/", "tests/", "museum/", "examples/", "report/"];
        for name in find_quoted(&text) {
            let Some((folder, rest)) = name.split_once('/') else {
                continue;
            };
            let is_path = root().join(folder).join("Cargo.toml").exists()
                && rooms.iter().any(|room| rest.starts_with(room))
                && !name.contains([' ', '*', '{', '<', ':']);
            if is_path && !changes && !root().join(name).exists() {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "files that do not exist: {missing:#?}");
}

#[test]
fn every_test_of_an_invariant_exists() {
    let mut sources = Vec::new();
    find_files_below(&root(), ".rs", &mut sources);
    let text: String = sources
        .iter()
        .map(|path| fs::read_to_string(path).expect("a source"))
        .collect();
    let architecture = read_page("ARCHITECTURE.md");
    let (_, invariants) = architecture
        .split_once("## Invariants")
        .expect("the section");
    let (invariants, _) = invariants.split_once("\n## ").expect("the next section");
    let rows = invariants.lines().filter(|line| line.starts_with("| "));
    // The first two rows are the heading of the table.
    let rows: Vec<_> = rows.skip(1).collect();
    assert!(rows.len() >= 15, "{rows:#?}");
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [_, _, kept_in, tests] = cells[..] else {
            panic!("no invariant, file and test: {row}");
        };
        assert!(!find_quoted(kept_in).is_empty(), "no file in: {row}");
        assert!(!find_quoted(tests).is_empty(), "no test in: {row}");
        for test in find_quoted(tests) {
            let exists = match test.ends_with(".rs") {
                true => root().join(test).exists(),
                false => text.contains(&format!("fn {test}(")),
            };
            assert!(exists, "there is no test {test}, named in: {row}");
        }
    }
}

#[test]
fn overview_pages_stay_short() {
    for (name, limit) in [("README.md", 150), ("ARCHITECTURE.md", 200)] {
        let lines = read_page(name).lines().count();
        assert!(
            lines <= limit,
            "{name} has {lines} lines, more than {limit}"
        );
    }
}

/// The names of a target in the report, and on the page about the choice of a backend.
const TARGETS: [(&str, &str); 5] = [
    ("memory", "`embedded:memory`"),
    ("durable", "`embedded:///DIR`"),
    ("served", "`turnlock serve`, Unix socket"),
    ("etcd", "etcd"),
    ("zookeeper", "ZooKeeper"),
];

#[test]
fn the_page_about_the_choice_has_the_figures_of_the_report() {
    let report = read_page("benches/report/report.md");
    let mut figures = BTreeMap::new();
    for line in report.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [target, workload, workers, rate, p50, p99, _] = cells[..] {
            figures.insert((target, workload, workers), (rate, p50, p99));
        }
    }
    let of = |target, workload, workers| {
        let found = figures.get(&(target, workload, workers));
        found.unwrap_or_else(|| panic!("{target} {workload} {workers} is not in the report"))
    };
    let rows = TARGETS.map(|(target, name)| {
        let (alone, p50, p99) = of(target, "uncontended", "1");
        let (many, _, many_p99) = of(target, "uncontended", "64");
        let (one, _, one_p99) = of(target, "contended", "16");
        format!("| {name} | {alone} | {p50} | {p99} | {many} | {many_p99} | {one} | {one_p99} |")
    });
    let table = rows.join("\n");
    assert!(
        read_page("docs/choosing-a-backend.md").contains(&table),
        "docs/choosing-a-backend.md has other figures than the report, or an older date; put \
         in:\n{table}"
    );
}

/// Replaces each block of code whose first line names a file by that file.
fn insert_code(text: &str) -> (String, BTreeSet<String>) {
    let mut shown = BTreeSet::new();
    let parts = text.split("```").enumerate().map(|(at, part)| {
        let named = part.strip_prefix("rust,ignore\n// conformance/tests/");
        let Some((name, _)) = named.and_then(|rest| rest.split_once('\n')) else {
            return part.to_owned();
        };
        assert!(at % 2 == 1, "the name stands in a block");
        let name = format!("conformance/tests/{name}");
        let code = read_page(&name);
        shown.insert(name.clone());
        format!("rust,ignore\n// {name}\n{code}")
    });
    (parts.collect::<Vec<_>>().join("```"), shown)
}

/// A failing case names decisions by their numbers and headings.
#[test]
fn the_decisions_that_the_suite_names_are_those_of_the_page() {
    let text = read_page("docs/adding-a-backend.md");
    let (_, decisions) = text
        .split_once("## Decisions that go wrong")
        .expect("the section");
    let (decisions, _) = decisions.split_once("\n## ").expect("the next section");
    let headings = decisions.lines().filter_map(|line| {
        let (number, rest) = line.split_once(". **")?;
        let heading = rest.split_once(".**")?.0;
        Some((number.parse::<usize>().expect("a number"), heading))
    });
    let headings: Vec<_> = headings.collect();
    let source = read_page("conformance/src/decisions.rs");
    let named = source.lines().filter_map(|line| {
        let heading = line.strip_prefix("    \"")?;
        heading.strip_suffix("\",")
    });
    let named: Vec<_> = (1..).zip(named).collect();
    assert!(!named.is_empty());
    assert_eq!(named, headings);
}

/// The page shows every file of the small backend.
#[test]
fn the_page_shows_the_small_backend() {
    const PAGE: &str = "docs/adding-a-backend.md";
    let text = read_page(PAGE);
    let (true_text, shown) = insert_code(&text);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(root().join(PAGE), &true_text).expect("the page is written");
        return;
    }
    assert!(
        text == true_text,
        "{PAGE} shows other code than conformance/tests has: run this test with UPDATE_PAGES=1"
    );
    let mut small = Vec::new();
    find_files_below(&root().join("conformance/tests/small"), ".rs", &mut small);
    for path in small {
        let name = path.file_name().expect("a file").to_string_lossy();
        let name = format!("conformance/tests/small/{name}");
        assert!(shown.contains(&name), "{PAGE} lacks {name}");
    }
}
