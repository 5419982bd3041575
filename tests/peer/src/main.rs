//! The command line of the `ostree-ext` crate, as a program: the reference peer that tests and
//! benches run beside `bowline`. It takes what `ostree container …` takes and never does more.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    ostree_ext::cli::run_from_iter(std::env::args_os()).await
}
