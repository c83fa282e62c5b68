//! `keyrum-benches`: how fast Keyrum is, as ratios to something known, in one run on one machine.
//!
//! Each part is a module that opens with its question and an estimate made beforehand. A part
//! runs the `keyrum` program as its users do, and beside it what it is compared with: a bare
//! hyper server (this program again), or etcd. The two take turns in short slices, so that
//! whatever else the machine does meets both.
//!
//! Nothing here is ever simulated, so clocks, tasks and sockets are taken directly.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement takes the machine as it is"
)]

mod arguments;
mod bare;
mod client;
mod cluster;
mod etcd;
mod load;
mod machine;
mod parts;
mod process;
mod report;
mod signer;
mod turns;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use arguments::{Arguments, Part};
use machine::Machine;
use report::Report;
use tokio::signal::unix::{SignalKind, signal};

/// Whatever ends a run early. Its text says what to do; nobody looks at its kind.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What every part is given.
struct Setting {
    /// The `keyrum` program.
    keyrum: PathBuf,
    /// Where clusters keep their data: one disk for all of them.
    folder: PathBuf,
    /// Length of a slice in seconds.
    slice_seconds: f64,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given == [bare::VERB] {
        return done(bare::serve());
    }
    match Arguments::parse(&given) {
        Ok(Some(arguments)) => done(run(&arguments)),
        Ok(None) => {
            print!("{}", arguments::HELP);
            ExitCode::SUCCESS
        }
        Err(why) => done(Err(why.into())),
    }
}

fn done(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("keyrum-benches: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folder = tempfile::Builder::new()
        .prefix("keyrum-benches-")
        .tempdir_in(&arguments.data)?;
    let setting = Setting {
        keyrum: match &arguments.keyrum {
            Some(program) => program.clone(),
            None => build()?,
        },
        folder: folder.path().to_owned(),
        slice_seconds: arguments.slice_seconds,
    };
    let machine = Machine::look(folder.path())?;
    eprintln!("{machine}\n");
    let mut report = Report::default();
    // The load shares the machine with what it measures, so it stays on one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            () = measure(&arguments.parts, &setting, &mut report) => Ok(()),
            // What was started is ended by its guards, and the folder removed.
            failure = interrupted() => Err(failure),
        }
    })?;
    let text = report.markdown(&machine);
    // Whoever reads only the beginning must not keep the folder from being removed.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if arguments.write {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");
        std::fs::write(file, text)?;
        eprintln!("written to {file}");
    }
    if report.any_failed() {
        Err("not every part could be measured".into())
    } else {
        Ok(())
    }
}

async fn measure(parts: &[Part], setting: &Setting, report: &mut Report) {
    for part in parts {
        eprintln!("== {part}");
        let outcome = match part {
            Part::Encrypt => parts::encrypt::run(setting, report).await,
            Part::Create => parts::create::run(setting, report).await,
            Part::Failover => parts::failover::run(setting, report).await,
            Part::Keys => parts::keys::run(setting, report).await,
            Part::Primitives => parts::primitives::run(setting, report).await,
            Part::Changes => parts::regions::changes::run(setting, report).await,
            Part::Rotations => parts::regions::rotations::run(setting, report).await,
            Part::Missed => parts::regions::missed::run(setting, report).await,
            Part::Dev => parts::dev::run(setting, report).await,
            Part::Apply => {
                parts::apply::run(report).and_then(|()| parts::apply_families::run(report))
            }
            Part::Authorize => {
                parts::authorize::run(report).and_then(|()| parts::granted::run(report))
            }
            Part::Store => parts::store::run(setting, report),
            Part::Sigv4 => parts::sigv4::run(setting, report),
            Part::Guarded => parts::guarded::run(setting, report).await,
        };
        // The other parts still have something to say.
        if let Err(failure) = outcome {
            report.failed(&part.to_string(), &failure.to_string());
        }
    }
}

/// Comes back when the run is to end early.
async fn interrupted() -> Failure {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
        return "signals cannot be caught".into();
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    "interrupted".into()
}

/// Builds `keyrum` with the profile of this program, next to it.
fn build() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe()?;
    let folder = this.parent().ok_or("this program is in no folder")?;
    let release = folder.ends_with("release");
    if !release {
        eprintln!("not a release build: the figures mean little");
    }
    let target = folder
        .parent()
        .ok_or("this program is in no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "keyrum"])
        .args(["--profile", if release { "release" } else { "dev" }])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| format!("cargo cannot be started ({error}); name a program: --keyrum"))?;
    if !status.success() {
        return Err("keyrum cannot be built".into());
    }
    Ok(folder.join("keyrum"))
}
