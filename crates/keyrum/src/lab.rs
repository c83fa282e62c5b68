//! `keyrum lab`: experiments.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use keyrum_lab::sim::{self, SimOptions};

use crate::Failure;
use crate::cli::LabSim;
use crate::run::{self, UntilClosed};

/// Runs one simulation; exits 1 if it found something.
pub(crate) fn sim(args: LabSim) -> Result<ExitCode, Failure> {
    let mut options = SimOptions::new(args.seed);
    options.minutes = args.minutes;
    options.regions = args.regions;
    options.trace = match args.trace.as_deref() {
        None => None,
        Some(file) => Some(open(file)?),
    };
    let verdict = sim::run(options);
    match args.trace {
        // Beside the trace.
        Some(file) if file == Path::new("-") => run::remark(verdict.to_string().trim_end()),
        _ => run::print(&verdict.to_string())?,
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn open(file: &Path) -> io::Result<Box<dyn Write>> {
    if file == Path::new("-") {
        // The run goes on to its verdict when nobody reads the trace any more.
        let out = UntilClosed::new(io::stdout().lock());
        return Ok(Box::new(BufWriter::new(out)));
    }
    let opened = File::create(file).map_err(|error| {
        io::Error::new(error.kind(), format!("--trace {}: {error}", file.display()))
    })?;
    Ok(Box::new(BufWriter::new(opened)))
}
