//! What is measured: walks, each a new place and steps in it one after the other. Pure data. Tags
//! are those that `hack/bench-images.sh` (or `hack/demo-images.sh`) gives.

/// Where a walk pulls to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A new repository.
    Repo,
    /// A new sysroot, for steps that deploy.
    Sysroot,
}

impl Store {
    /// The repository below the directory of a walk.
    pub const fn repo(self) -> &'static str {
        match self {
            Self::Repo => "repo",
            Self::Sysroot => "sysroot/ostree/repo",
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Pull the image with this tag.
    Pull(&'static str),
    /// Deploy the image that was pulled.
    Deploy,
    /// The tag that is followed has moved to the image with this tag: pull that and deploy it.
    Upgrade(&'static str),
}

/// A step, and how it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name in the table; a step without one only prepares the next.
    pub name: Option<&'static str>,
    /// What is done.
    pub step: Step,
    /// Over the slow link, where the walk has one.
    pub slow: bool,
}

const fn case(name: &'static str, step: Step) -> Case {
    Case {
        name: Some(name),
        step,
        slow: false,
    }
}

const fn before(step: Step) -> Case {
    Case {
        name: None,
        step,
        slow: false,
    }
}

const fn slow(name: &'static str, step: Step) -> Case {
    Case {
        slow: true,
        ..case(name, step)
    }
}

/// A new place and the steps in it.
#[derive(Debug)]
pub struct Walk {
    /// Its name on the command line.
    pub name: &'static str,
    /// Where it pulls to.
    pub store: Store,
    /// Its steps, in order.
    pub cases: &'static [Case],
}

impl Walk {
    /// Whether it needs the slow link.
    pub fn is_slow(&self) -> bool {
        self.cases.iter().any(|case| case.slow)
    }
}

/// The tag that a host follows.
pub const FOLLOWED: &str = "stable";

/// All walks.
pub const WALKS: &[Walk] = &[
    Walk {
        name: "gzip",
        store: Store::Repo,
        cases: &[
            case("cold pull, gzip", Step::Pull("1")),
            case("nothing new", Step::Pull("1")),
            case("upgrade", Step::Pull("2")),
        ],
    },
    Walk {
        name: "zstd",
        store: Store::Repo,
        cases: &[case("cold pull, zstd", Step::Pull("1-zstd"))],
    },
    Walk {
        name: "derived",
        store: Store::Repo,
        cases: &[case("cold pull, derived", Step::Pull("derived"))],
    },
    Walk {
        name: "plain",
        store: Store::Repo,
        cases: &[
            case("cold pull, plain", Step::Pull("plain-1")),
            case("upgrade, plain", Step::Pull("plain-2")),
        ],
    },
    Walk {
        name: "chunked",
        store: Store::Repo,
        cases: &[
            before(Step::Pull("chunked-1")),
            case("upgrade, zstd:chunked", Step::Pull("chunked-2")),
        ],
    },
    Walk {
        name: "slow",
        store: Store::Repo,
        cases: &[
            before(Step::Pull("chunked-1")),
            slow("upgrade, zstd:chunked, slow link", Step::Pull("chunked-2")),
        ],
    },
    Walk {
        name: "host",
        store: Store::Sysroot,
        cases: &[
            before(Step::Pull(FOLLOWED)),
            case("deploy of a pulled image", Step::Deploy),
            case("upgrade end to end", Step::Upgrade("2")),
        ],
    },
    Walk {
        name: "huge",
        store: Store::Repo,
        cases: &[case("cold pull, a million files", Step::Pull("huge"))],
    },
];
