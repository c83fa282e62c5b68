//! `keyrum cluster certs status`.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use keyrum_consensus::certs::{self, Certificate};
use keyrum_consensus::{NodeStatus, TlsStatus};
use keyrum_types::UnixMillis;
use serde::Serialize;

use super::{DAY, Site};
use crate::Failure;
use crate::cli::{self, NodeName};
use crate::process::Condition;
use crate::run;

/// From so many days before its end on, a certificate is warned about.
const WARN_DAYS: i64 = 30;

/// What is shown of an authority.
#[derive(Debug, Serialize)]
struct Authority {
    #[serde(flatten)]
    certificate: Certificate,
    /// Negative once it has ended.
    days_left: i64,
    /// Running nodes.
    trusted_by: Vec<String>,
}

/// What is shown of a node.
#[derive(Debug, Serialize)]
struct Line {
    node: String,
    /// What lies there for it.
    file: Option<Certificate>,
    /// Negative once that has ended.
    days_left: Option<i64>,
    /// What it uses now; `None` if it does not tell.
    tls: Option<TlsStatus>,
    /// In words.
    state: String,
}

#[derive(Debug, Serialize)]
struct Report {
    authorities: Vec<Authority>,
    /// Whether a replacement of the authority was begun and is not finished.
    replacing_authority: bool,
    nodes: Vec<Line>,
    warnings: Vec<String>,
}

/// Shows what lies there, and what is in use.
pub(super) async fn show(args: &cli::Status) -> Result<ExitCode, Failure> {
    let site = Site::open(&args.place)?;
    let now = site.world.clock.now();
    let mut report = Report {
        authorities: Vec::new(),
        replacing_authority: certs::is_replacing_authority(&site.folder.certs()),
        nodes: Vec::new(),
        warnings: Vec::new(),
    };
    let conditions = site.conditions().await;
    for node in site.folder.nodes() {
        let condition = conditions.get(&node.to_string()).map(String::as_str);
        let line = site.line(&node, condition, now, &mut report.warnings).await;
        report.nodes.push(line);
    }
    match certs::authorities(&site.folder.certs()) {
        Ok(found) => {
            for certificate in found {
                let days_left = days_left(&certificate, now);
                report
                    .warnings
                    .extend(ending("the authority", days_left, " --authority"));
                let trusts = |line: &&Line| {
                    let credentials = line.tls.as_ref();
                    credentials.is_some_and(|credentials| {
                        credentials.trusted.contains(&certificate.fingerprint)
                    })
                };
                let trusting = report.nodes.iter().filter(trusts);
                report.authorities.push(Authority {
                    trusted_by: trusting.map(|line| line.node.clone()).collect(),
                    certificate,
                    days_left,
                });
            }
        }
        Err(error) => report.warnings.push(error.to_string()),
    }
    if report.replacing_authority {
        report.warnings.push(
            "the replacement of the authority was begun and is not finished: `keyrum cluster certs \
             rotate --authority` finishes it"
                .to_owned(),
        );
    }
    if args.json {
        run::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        run::print(&table(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Site {
    async fn line(
        &self,
        node: &NodeName,
        condition: Option<&str>,
        now: UnixMillis,
        notes: &mut Vec<String>,
    ) -> Line {
        let lies_there = certs::node_certificate(&self.folder.certs(), &node.region, node.id);
        let status: Option<NodeStatus> = match condition {
            Some(other) if other != Condition::Running.to_string() => None,
            _ => self.admin(node).status().await.ok(),
        };
        let credentials = status.and_then(|status| status.tls);
        if let Some(credentials) = &credentials {
            notes.extend(warnings(credentials, now).map(|text| format!("{node}: {text}")));
        }
        let file = match lies_there {
            Ok(file) => Some(file),
            // A node that runs says so itself.
            Err(error) if credentials.is_none() => {
                notes.push(format!("{node}: {error}"));
                None
            }
            Err(_) => None,
        };
        let days_left = file.as_ref().map(|file| days_left(file, now));
        let of_file = |credentials: &TlsStatus| {
            let file = file.as_ref();
            file.is_some_and(|file| file.fingerprint == credentials.shown.fingerprint)
        };
        let state = match &credentials {
            Some(credentials) if of_file(credentials) && credentials.former_links > 0 => {
                format!(
                    "in use; {} links have a former one",
                    credentials.former_links
                )
            }
            Some(credentials) if of_file(credentials) => "in use".to_owned(),
            Some(credentials) => format!("in use is {}", short(&credentials.shown.fingerprint)),
            None => condition.unwrap_or("does not answer").to_owned(),
        };
        if credentials.is_none() {
            let text = days_left.and_then(|days| ending(&node.to_string(), days, ""));
            notes.extend(text);
        }
        Line {
            node: node.to_string(),
            file,
            days_left,
            tls: credentials,
            state,
        }
    }
}

/// What an operator must know of a running node's certificate.
pub(crate) fn warnings(credentials: &TlsStatus, now: UnixMillis) -> impl Iterator<Item = String> {
    let problem = credentials.problem.as_ref();
    let problem = problem.map(|problem| {
        let used = short(&credentials.shown.fingerprint);
        format!(
            "the certificate that lies there cannot be used, in use is {used}: {problem}; `keyrum \
             cluster certs rotate` makes a new one"
        )
    });
    let days = days_left(&credentials.shown, now);
    problem
        .into_iter()
        .chain(ending("its certificate", days, ""))
}

/// A warning when something ends soon, or has ended; `flag` makes another of it.
fn ending(what: &str, days_left: i64, flag: &str) -> Option<String> {
    let help = format!("`keyrum cluster certs rotate{flag}` makes a new one");
    match days_left {
        ..0 => Some(format!("{what} has ended; {help}")),
        0..WARN_DAYS => Some(format!("{what} ends in {days_left} days; {help}")),
        _ => None,
    }
}

fn days_left(certificate: &Certificate, now: UnixMillis) -> i64 {
    let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    (seconds(certificate.not_after) - seconds(now.0 / 1000)).div_euclid(DAY as i64)
}

/// Enough of a fingerprint to tell certificates apart.
pub(super) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}

fn date(seconds: u64) -> String {
    let end_of_9999 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(end_of_9999));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}

fn table(report: &Report) -> String {
    let cells = |certificate: &Certificate| {
        [
            short(&certificate.fingerprint).to_owned(),
            certificate
                .serial
                .get(..12)
                .unwrap_or(&certificate.serial)
                .to_owned(),
            date(certificate.not_before),
            date(certificate.not_after),
        ]
    };
    let mut rows = vec![
        [
            "",
            "FINGERPRINT",
            "SERIAL",
            "FROM",
            "UNTIL",
            "DAYS LEFT",
            "NOW",
        ]
        .map(str::to_owned),
    ];
    for authority in &report.authorities {
        let [fingerprint, serial, from, until] = cells(&authority.certificate);
        let trusting = match authority.trusted_by.len() {
            0 => "no node says that it trusts it".to_owned(),
            all if all == report.nodes.len() => "every node trusts it".to_owned(),
            _ => format!("{} trust it", authority.trusted_by.join(", ")),
        };
        let days = authority.days_left.to_string();
        rows.push([
            "authority".to_owned(),
            fingerprint,
            serial,
            from,
            until,
            days,
            trusting,
        ]);
    }
    for line in &report.nodes {
        let none = || ["-"; 4].map(str::to_owned);
        let [fingerprint, serial, from, until] = line.file.as_ref().map_or_else(none, cells);
        let days = line
            .days_left
            .map_or_else(|| "-".to_owned(), |days| days.to_string());
        let (node, state) = (line.node.clone(), line.state.clone());
        rows.push([node, fingerprint, serial, from, until, days, state]);
    }
    let mut text = run::columns(&rows);
    for warning in &report.warnings {
        text.push_str(&format!("{warning}\n"));
    }
    text
}
