//! The `keyrum` binary: the command line, and the wiring of the other crates into nodes.
//!
//! Nothing here decides anything about keys: a node is a store, a group, a service and a server
//! put together (`node`), in one process for all (`dev`) or one process each (`supervisor`).

// They end the process when nobody reads; `run` has what takes their place.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod assembly;
mod certs;
mod cli;
mod cluster;
mod control;
mod data;
mod dev;
mod domain_key;
mod fault;
mod files;
mod front;
mod identities;
mod key_files;
mod lab;
mod node;
mod operate;
mod ports;
mod power;
mod process;
mod run;
mod seed;
mod signals;
mod supervisor;
mod topology;
mod unlock;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use keyrum_consensus::tasks::{Tasks, background_threads};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::cli::{Cli, Verb};

/// A fifth of a CreateKey's CPU went into glibc's allocator; this one needs half of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever ends a command early. Its text names what to do; nobody looks at its kind.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    trace();
    allow_files();
    match start(cli.verb) {
        Ok(code) => code,
        Err(failure) => {
            run::remark(&format!("keyrum: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Lets the process have as many files open as it may: connections are files, and the few that a
/// shell allows are soon used up, by clients that mean no good or by many that do.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn start(verb: Verb) -> Result<ExitCode, Failure> {
    // A simulation brings a runtime of its own, with one thread.
    if let Verb::Lab(cli::Lab::Sim(args)) = &verb
        && args.seeds.is_none()
        && !args.shorten
    {
        return lab::sim(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let background = match &verb {
        Verb::Dev(_) | Verb::Node(_) => Some(background_threads()?),
        _ => None,
    };
    let tasks = background
        .as_ref()
        .map_or_else(Tasks::together, |background| {
            Tasks::apart(&runtime, background)
        });
    let code = runtime.block_on(async {
        match verb {
            Verb::Dev(args) => dev::run(args, tasks).await,
            Verb::Node(args) => node::run(args, tasks).await,
            Verb::Cluster(verb) => cluster::run(verb).await,
            Verb::Log(cli::Log::Show(args)) => operate::show_log(args).await,
            Verb::Clock(cli::Clock::Advance(args)) => operate::advance_clock(args).await,
            Verb::Clock(cli::Clock::Level(args)) => operate::level_clocks(args).await,
            Verb::Identity(verb) => identities::run(verb).await,
            Verb::DomainKey(cli::DomainKey::Versions(verb)) => domain_key::run(verb).await,
            Verb::DomainKey(cli::DomainKey::Files(verb)) => key_files::run(verb).await,
            Verb::Fault(verb) => fault::run(verb).await,
            Verb::Lab(cli::Lab::Sim(args)) => lab::runs(&args).await,
            Verb::Lab(cli::Lab::Run(args)) => lab::play(&args).await,
            Verb::Lab(cli::Lab::Report(args)) => lab::report::write(&args),
        }
    });
    // Work that blocks, such as a flush, may still be under way; the stores were closed in order.
    for runtime in background.into_iter().chain([runtime]) {
        runtime.shutdown_background();
    }
    code
}

/// Sends traces to standard error. `KEYRUM_LOG` chooses them, such as `info` or
/// `keyrum_consensus=debug`; without it, warnings of Keyrum's own crates.
fn trace() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEYRUM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,keyrum=warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
}
