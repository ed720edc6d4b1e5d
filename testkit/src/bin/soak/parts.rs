//! The list of the parts.

use crate::goal::Goal;
use crate::part::{Part, Work};
use crate::search::Search;

const MINUTE: f64 = 60.0;
const DAY: f64 = 24.0 * 60.0 * MINUTE;

/// All parts, in the order in which they are done.
pub const PARTS: [Part; 22] = [
    // With the next part a simulated year.
    simulation(
        "grpc-busy",
        &["--tier", "grpc", "--profile", "busy"],
        Goal {
            holds: 25_000_000,
            seconds: 10.0 * DAY,
            density: 12.0,
            ..Goal::NOTHING
        },
    ),
    simulation(
        "grpc-sparse",
        &["--tier", "grpc", "--profile", "sparse"],
        lasting(355.0 * DAY),
    ),
    simulation(
        "grpc-dense",
        &["--tier", "grpc", "--profile", "dense"],
        lasting(DAY),
    ),
    simulation(
        "grpc-storm",
        &["--tier", "grpc", "--profile", "storm"],
        lasting(DAY),
    ),
    simulation(
        "embedded-busy",
        &["--tier", "embedded", "--profile", "busy"],
        Goal {
            holds: 75_000_000,
            ..Goal::NOTHING
        },
    ),
    chaos("chaos-embedded", &["--backend", "embedded"]),
    chaos("chaos-etcd", &["--backend", "etcd"]),
    chaos("chaos-zk", &["--backend", "zk"]),
    Part {
        name: "coordinator",
        goal: lasting(60.0 * MINUTE),
        work: Work::Coordinator,
    },
    properties(
        "fuzz-rule",
        "-p lock-core --lib",
        "rule::tests::holders_never_conflict_and_someone_always_holds",
    ),
    properties(
        "fuzz-names",
        "-p lock-core --lib",
        "name::tests::encoding_is_injective_flat_and_keeps_prefixes",
    ),
    properties(
        "fuzz-marks",
        "-p lock-fence --lib",
        "mark::tests::a_mark_survives_its_file",
    ),
    properties(
        "fuzz-tokens",
        "-p lock-fence --lib",
        "token::tests::every_token_survives_its_text",
    ),
    properties(
        "fuzz-ranges",
        "-p backend-embedded --lib",
        "machine::tests::index::the_index_answers_as_a_scan_would",
    ),
    properties(
        "fuzz-nodes",
        "-p backend-zk --lib",
        "node::tests::every_number_that_zookeeper_writes_is_read",
    ),
    properties(
        "fuzz-beliefs",
        "-p testkit --lib",
        "checker::tests::search::rules_and_search_agree_on_the_beliefs_of_clients",
    ),
    properties(
        "fuzz-grants",
        "-p testkit --lib",
        "checker::tests::search::rules_and_search_agree_on_the_grants_of_the_server",
    ),
    fuzz(
        "fuzz-power-cuts",
        200_000,
        Search {
            target: "-p backend-embedded --lib",
            test: "store::tests::crash::a_power_cut_loses_nothing_acknowledged",
            seed: "TURNLOCK_SEED",
            cases: Some(("TURNLOCK_CRASH_ROUNDS", 2_000)),
        },
    ),
    fuzz(
        "fuzz-methods",
        1_000_000,
        Search {
            target: "-p lock-cli --test attacks",
            test: "random::random_requests_of_every_method_do_no_harm",
            seed: "TURNLOCK_SEED",
            cases: Some(("TURNLOCK_REQUESTS", 50_000)),
        },
    ),
    differential(
        "fuzz-requests",
        "-p backend-embedded --features server --test server",
        "differential::random_requests_are_answered_as_by_etcd",
    ),
    differential(
        "fuzz-compactions",
        "-p backend-embedded --features server --test server",
        "differential::random_requests_with_compactions_are_answered_as_by_etcd",
    ),
    differential(
        "fuzz-sessions",
        "-p testkit --test differential",
        "embedded_and_etcd_have_the_same_outcomes",
    ),
];

const fn lasting(seconds: f64) -> Goal {
    Goal {
        seconds,
        ..Goal::NOTHING
    }
}

const fn simulation(name: &'static str, options: &'static [&'static str], goal: Goal) -> Part {
    Part {
        name,
        goal,
        work: Work::Simulation(options),
    }
}

const fn chaos(name: &'static str, options: &'static [&'static str]) -> Part {
    Part {
        name,
        goal: lasting(15.0 * MINUTE),
        work: Work::Chaos(options),
    }
}

const fn fuzz(name: &'static str, cases: u64, search: Search) -> Part {
    Part {
        name,
        goal: Goal {
            runs: cases,
            ..Goal::NOTHING
        },
        work: Work::Fuzz(search),
    }
}

/// Returns the part of a property test.
const fn properties(name: &'static str, target: &'static str, test: &'static str) -> Part {
    let search = Search {
        target,
        test,
        seed: "PROPTEST_RNG_SEED",
        cases: Some(("PROPTEST_CASES", 20_000)),
    };
    fuzz(name, 1_000_000, search)
}

/// Returns the part of a test that gives the same requests to the embedded coordinator and to etcd.
const fn differential(name: &'static str, target: &'static str, test: &'static str) -> Part {
    let search = Search {
        target,
        test,
        seed: "TURNLOCK_SEED",
        cases: None,
    };
    fuzz(name, 300, search)
}
