//! Makes the output of `--version --verbose`, for bug reports.

use std::ffi::{OsStr, OsString};

/// The commit, if this variable was set at build time.
const COMMIT: Option<&str> = option_env!("TURNLOCK_COMMIT");

/// The optional Cargo features, and whether they are compiled in.
const FEATURES: &[(&str, bool)] = &[
    ("embedded", cfg!(feature = "embedded")),
    ("etcd", cfg!(feature = "etcd")),
    ("zk", cfg!(feature = "zk")),
    ("bench", cfg!(feature = "bench")),
    ("conformance", cfg!(feature = "conformance")),
    ("otel", cfg!(feature = "otel")),
    ("top", cfg!(feature = "top")),
];

/// Splits the version of the API that a coordinator tells: the version of etcd whose API it has, and
/// Turnlock's own, which stands behind it as build metadata. Returns `None` for a real etcd.
#[cfg(feature = "etcd")]
pub fn split_api_version(text: &str) -> Option<(&str, &str)> {
    text.split_once("+turnlock.")
}

/// Returns whether these arguments, which ask for the version, also ask for the details.
pub fn is_verbose(args: impl Iterator<Item = OsString>) -> bool {
    let is_option = |arg: &OsString| arg != OsStr::new("--");
    args.skip(1).take_while(is_option).any(|arg| {
        // Short options may stand together, as in -vV.
        let short = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        arg == OsStr::new("--verbose")
            || short.is_some_and(|letters| {
                letters.contains('v') && letters.chars().all(|letter| "vV".contains(letter))
            })
    })
}

/// Describes the build in lines: version, commit, features, profile and platform.
pub fn describe() -> String {
    let features: Vec<_> = FEATURES
        .iter()
        .filter(|(_, compiled_in)| *compiled_in)
        .map(|(name, _)| *name)
        .collect();
    let build = match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    };
    format!(
        "turnlock {}\ncommit: {}\nfeatures: {}\nbuild: {build}\nplatform: {} {}",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
        features.join(" "),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_the_manifest_is_listed() {
        let manifest = include_str!("../Cargo.toml");
        let features = manifest.split("[features]").nth(1).expect("a section");
        let lines = features.lines().take_while(|line| !line.starts_with('['));
        let names = lines.filter_map(|line| Some(line.split_once(" = ")?.0));
        let names: Vec<_> = names
            .filter(|name| *name != "default" && !name.starts_with('#'))
            .collect();
        assert!(!names.is_empty());
        let listed: Vec<_> = FEATURES.iter().map(|(name, _)| *name).collect();
        for name in names {
            assert!(listed.contains(&name), "{name}");
        }
    }

    #[test]
    fn verbose_is_asked_for_in_any_order() {
        let asks = |line: &str| is_verbose(line.split(' ').map(OsString::from));
        for line in [
            "turnlock --version --verbose",
            "turnlock --verbose -V",
            "turnlock -vV",
            "turnlock -V -v",
        ] {
            assert!(asks(line), "{line}");
        }
        for line in [
            "turnlock --version",
            "turnlock -V",
            "turnlock --version -- -v",
            "-v --version",
        ] {
            assert!(!asks(line), "{line}");
        }
    }
}
