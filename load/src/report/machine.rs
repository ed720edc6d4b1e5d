//! The machine that the figures were taken on: its kind, never its name.

use serde::Serialize;

/// The properties of a machine that figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The number of processors that this process may use.
    pub cores: usize,
    /// The model of the processor, as the kernel reports it.
    pub processor: String,
    /// The main memory in GiB.
    pub memory_gib: u64,
    /// The operating system and the version of its kernel.
    pub system: String,
}

impl Machine {
    /// Reads the properties of this machine. A model that the kernel does not report is replaced by
    /// the architecture, an unknown size of memory by 0.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: String, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = field(read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        // The text after the version names the builder.
        let version = release.trim().split('-').next().unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            system: format!("{} {version}", std::env::consts::OS),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Machine {
            cores,
            processor,
            memory_gib,
            system,
        } = self;
        write!(
            f,
            "{cores} cores of {processor}, {memory_gib} GiB, {system}"
        )
    }
}
