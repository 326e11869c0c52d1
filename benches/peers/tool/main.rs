//! What the comparison with other recorders shares: one sender for all of them, one judge of what they recorded, and
//! Sidetone's own receive plane and recorder as one of them. `benches/peers/compare` runs it; README.md there says how.

mod content;
mod judge;
mod line;
mod place;
mod record;
mod send;
mod spent;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use line::Line;

#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// `cargo bench` adds it.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send RTP streams; line n of TARGETS is where stream n goes, `-` sends nothing.
    Send {
        #[arg(long)]
        targets: PathBuf,
        #[command(flatten)]
        run: Run,
    },
    /// Receive stereo calls and record them, until standard input ends.
    Record {
        #[arg(long)]
        calls: usize,
        /// Folder for the recordings; `targets` and `manifest` are written there too.
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value_t = 1)]
        shards: usize,
        #[arg(long, default_value_t = 2)]
        writers: usize,
        #[arg(long, default_value_t = 30_000)]
        port: u16,
    },
    /// Compare recordings with what was sent.
    Judge {
        /// One line a call, JSON: see `judge.rs`.
        #[arg(long)]
        manifest: PathBuf,
        #[command(flatten)]
        run: Run,
        /// Say what is wrong with each call.
        #[arg(long)]
        verbose: bool,
    },
}

/// What sender and judge have to agree on.
#[derive(Clone, Debug, clap::Args)]
struct Run {
    #[arg(long)]
    seconds: u32,
    /// What the network does to the packets.
    #[arg(long, value_enum, default_value_t = Line::Clean)]
    line: Line,
    /// Port that every stream comes from; each has an address of its own (`sidetone::net::load::source`).
    #[arg(long, default_value_t = 30_000)]
    port: u16,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Send { targets, run } => send::run(&targets, &run),
        Command::Record { calls, out, shards, writers, port } => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(record::run(record::Options { calls, out, shards, writers, port })),
        Command::Judge { manifest, run, verbose } => judge::run(&manifest, &run, verbose),
    }
}
