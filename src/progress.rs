//! What a long operation tells whoever watches: events in, nothing out. Knows no terminal; the
//! command line turns events into bars, lines or JSON.

use std::time::Duration;

use crate::image::Digest;

/// A stage of the walk from a reference to a bootable deployment. Every stage that can take
/// time has one, so that no phase is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking the source what the reference means now.
    Resolve,
    /// Finding out which files of new layers are here already.
    Compare,
    /// Fetching, verifying and importing layers.
    Fetch,
    /// Making what was imported durable and visible.
    Publish,
    /// Joining the layers into one tree and commit.
    Merge,
    /// Writing or staging the deployment.
    Deploy,
    /// Removing what nothing needs any more.
    Prune,
    /// Writing a new system to its disk.
    Install,
}

impl Phase {
    /// A word for machines, stable.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Compare => "compare",
            Self::Fetch => "fetch",
            Self::Publish => "publish",
            Self::Merge => "merge",
            Self::Deploy => "deploy",
            Self::Prune => "prune",
            Self::Install => "install",
        }
    }

    /// A phrase for people, in the present participle.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Resolve => "Resolving image",
            Self::Compare => "Comparing with local files",
            Self::Fetch => "Fetching layers",
            Self::Publish => "Writing to disk",
            Self::Merge => "Merging layers",
            Self::Deploy => "Deploying",
            Self::Prune => "Pruning",
            Self::Install => "Writing the system to its disk",
        }
    }
}

/// One thing that happened. Sizes are bytes as they travel (compressed).
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A phase begins; the one before it has ended.
    Phase(Phase),
    /// How much there is to fetch; sent once, before the first layer starts.
    Planned {
        /// Layers of the image.
        layers: usize,
        /// Layers that must be fetched.
        layers_to_fetch: usize,
        /// Bytes that must be fetched, as far as the manifest says.
        bytes_to_fetch: u64,
        /// Bytes of layers that are already here.
        bytes_present: u64,
        /// Bytes of the layers to fetch that need not come, since files that are here have them or
        /// an interrupted pull has fetched them.
        bytes_reused: u64,
    },
    /// A layer's transfer begins.
    LayerStarted {
        /// Index of the layer in the manifest.
        index: usize,
        /// Digest of the blob.
        digest: Digest,
        /// Size of the blob where the manifest gives one.
        size: Option<u64>,
    },
    /// So many bytes of the layer have been taken in all. Frequent; may be dropped.
    LayerProgress {
        /// Index of the layer in the manifest.
        index: usize,
        /// Bytes taken so far.
        bytes: u64,
    },
    /// The layer is verified and imported.
    LayerDone {
        /// Index of the layer in the manifest.
        index: usize,
    },
    /// A temporary failure; the operation goes on after `wait`.
    Retry {
        /// What failed and why.
        reason: String,
        /// Pause before the next try.
        wait: Duration,
    },
    /// Something the user should know although the operation goes on.
    Warning(String),
    /// The operation has ended, well or not; bars are taken down.
    Finished,
}

/// Takes events. Called from many threads; must not block.
pub trait ProgressSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl ProgressSink for Silent {
    fn event(&self, _: Event) {}
}
