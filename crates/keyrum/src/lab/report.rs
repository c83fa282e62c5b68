//! `keyrum lab report`: the page that shows an experiment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keyrum_lab::experiment::Experiment;
use keyrum_lab::report;

use crate::Failure;
use crate::cli::LabReport;
use crate::run;

/// Reads an experiment and writes its page.
pub(crate) fn write(args: &LabReport) -> Result<ExitCode, Failure> {
    let file = &args.file;
    let text = fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let experiment: Experiment = serde_json::from_str(&text).map_err(|error| {
        format!(
            "{} is not an experiment's history in JSON: {error}; `keyrum lab sim --history FILE.json` writes one",
            file.display()
        )
    })?;
    let page = report::html(&experiment);
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| file.with_extension("html"));
    if out == Path::new("-") {
        run::print(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    if out == *file {
        return Err(format!(
            "the report would replace the history {}; name another file with --out",
            file.display()
        )
        .into());
    }
    replace(&out, &page).map_err(|error| {
        format!(
            "{} cannot be written: {error}; name another file with --out",
            out.display()
        )
    })?;
    run::print(&format!("{}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file whole or not at all: a browser that shows it may load it again at any time. Whoever
/// may read this user's files may read it, and nothing is lost with it.
fn replace(out: &Path, page: &str) -> io::Result<()> {
    if fs::metadata(out).is_ok_and(|there| !there.is_file()) {
        // A pipe or a terminal.
        return fs::write(out, page);
    }
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary: PathBuf = out.with_file_name(name);
    let written = fs::write(&temporary, page).and_then(|()| fs::rename(&temporary, out));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
