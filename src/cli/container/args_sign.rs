//! Arguments about signatures as users type them.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// Arguments of `container sign`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("signer").required(true).multiple(true).args(["sign_by_sigstore_private_key", "sign_by"]))]
pub struct SignArgs {
    /// Image that is there already: host/name:tag, host/name@sha256:… or dir:DIRECTORY
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// File with registry credentials, instead of the usual places
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,

    /// Who signs.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// Who signs an image.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Signing")]
pub struct SigningArgs {
    /// Sign the image with this private key for sigstore, encrypted as cosign does it or plain PKCS#8;
    /// the signature goes into the image's repository
    #[arg(long, value_name = "FILE")]
    pub sign_by_sigstore_private_key: Option<PathBuf>,

    /// Sign the image with this GPG key; the signature goes where registries.d says
    /// (lookaside-staging)
    #[arg(long, value_name = "KEY")]
    pub sign_by: Option<String>,

    /// File whose first line is the passphrase of the key [default: COSIGN_PASSWORD, or none; for GPG
    /// what its agent knows]
    #[arg(long, value_name = "FILE")]
    pub sign_passphrase_file: Option<PathBuf>,

    /// What the signature calls the image, such as host/name:tag [default: IMAGE]
    #[arg(long, value_name = "NAME")]
    pub sign_identity: Option<String>,

    /// Directory with the keys of GnuPG [default: GNUPGHOME, or ~/.gnupg]
    #[arg(long, value_name = "DIR")]
    pub gpg_homedir: Option<PathBuf>,
}

/// Who signs an ostree commit.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Signing")]
pub struct CommitSigningArgs {
    /// Sign the commit, too, with the secret keys for ed25519 in this file, as `ostree sign
    /// --keys-file` has them
    #[arg(long, value_name = "FILE")]
    pub sign_commit_ed25519: Option<PathBuf>,

    /// Sign the commit, too, with this GPG key, by its fingerprint or key ID
    #[arg(long, value_name = "KEY")]
    pub sign_commit_gpg: Option<String>,
}

/// Arguments of `container generate-sigstore-key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The keys become PREFIX.private and PREFIX.pub
    #[arg(long, value_name = "PREFIX")]
    pub output_prefix: String,

    /// File whose first line becomes the passphrase of the private key [default: COSIGN_PASSWORD, or
    /// none]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}
