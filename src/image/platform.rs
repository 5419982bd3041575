//! Which machine an image is for. Architecture words of users, kernels and package managers come
//! in; GOARCH words, as images write them, go out. Never looks at the running machine's CPU.

use serde::Deserialize;

/// The machine an image of an index is for (image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// GOARCH word (`amd64`, `arm64`).
    #[serde(default)]
    pub architecture: String,
    /// GOOS word (`linux`).
    #[serde(default)]
    pub os: String,
    /// CPU variant (`v8`); an empty text means none.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of a Linux host: `arch` is a GOARCH word, a variant may follow (`arm/v7`).
    pub fn linux(arch: &str) -> Self {
        let (architecture, variant) = match arch.split_once('/') {
            Some((architecture, variant)) => (architecture, Some(variant.into())),
            None => (arch, None),
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            variant,
        }
    }

    /// How well an image for this platform runs on `host`: 0 is best, `None` not at all.
    ///
    /// The order is that of containers/image: the variant asked for, then older compatible ones,
    /// then images that name none; a host without a variant takes those first.
    pub fn rank_for(&self, host: &Self) -> Option<usize> {
        if self.architecture != host.architecture || self.os != host.os {
            return None;
        }
        host.accepted_variants()
            .iter()
            .position(|v| *v == self.variant())
    }

    fn variant(&self) -> &str {
        self.variant.as_deref().unwrap_or_default()
    }

    /// The variants that run here, best first; "" is an image without one.
    fn accepted_variants(&self) -> Vec<&str> {
        let known: &[&str] = match &*self.architecture {
            "arm" => &["v8", "v7", "v6", "v5"],
            "arm64" => &["v8"],
            _ => &[],
        };
        let wanted = self.variant();
        if wanted.is_empty() {
            return [&[""], known].concat();
        }
        match known.iter().position(|v| *v == wanted) {
            Some(first) => [&known[first..], &[""]].concat(),
            None => vec![wanted, ""],
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

/// The architecture this program was built for, as a GOARCH word.
pub fn host_arch() -> String {
    // The standard library says powerpc64 for both byte orders.
    match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
        ("powerpc64", true) => "ppc64le".into(),
        ("powerpc64", false) => "ppc64".into(),
        (other, _) => normalize_arch(other),
    }
}

/// Architectures that images are made for, as GOARCH words: those of Linux.
const ARCHITECTURES: [&str; 13] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x",
];

/// Whether a GOARCH word, perhaps with a variant (`arm/v7`), names an architecture.
pub fn is_arch(goarch: &str) -> bool {
    let word = goarch.split('/').next().unwrap_or_default();
    ARCHITECTURES.contains(&word)
}

/// Turns the words of kernels and package managers into GOARCH words; leaves others alone.
pub fn normalize_arch(word: &str) -> String {
    let known = match word {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" | "x86" => "386",
        "ppc64el" | "powerpc64le" => "ppc64le",
        "armv7l" | "armv7hl" | "armhf" => "arm/v7",
        "loongarch64" => "loong64",
        other => other,
    };
    known.into()
}

/// The word of Rust's standard library for a GOARCH word; bootc's files use it.
pub fn rust_arch(goarch: &str) -> &str {
    match goarch.split('/').next().unwrap_or_default() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        "ppc64" | "ppc64le" => "powerpc64",
        "loong64" => "loongarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_one_name_in_each_language() {
        assert_eq!(rust_arch(&host_arch()), std::env::consts::ARCH);
        assert_eq!(rust_arch("arm/v7"), "arm");
        assert_eq!(rust_arch("riscv64"), "riscv64");
    }

    #[test]
    fn knows_the_words_for_one_machine() {
        for (word, goarch) in [
            ("x86_64", "amd64"),
            ("amd64", "amd64"),
            ("aarch64", "arm64"),
            ("arm64", "arm64"),
            ("ppc64le", "ppc64le"),
            ("s390x", "s390x"),
            ("riscv64", "riscv64"),
            ("i686", "386"),
            ("armhf", "arm/v7"),
            ("sparc", "sparc"),
        ] {
            assert_eq!(normalize_arch(word), goarch, "{word}");
            assert_eq!(normalize_arch(goarch), goarch, "{word}, twice");
        }
        assert_eq!(host_arch(), normalize_arch(&host_arch()));
        assert!(is_arch(&host_arch()) && is_arch("arm/v7"));
        assert!(!is_arch("bogus") && !is_arch(""));
        if cfg!(target_arch = "x86_64") {
            assert_eq!(host_arch(), "amd64");
        }
    }
}
