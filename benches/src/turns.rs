//! Contestants that take turns, so that whatever else the machine does meets all of them.

use std::time::Duration;

use crate::Failure;
use crate::load::{self, Caller, Latency};
use crate::process::cpu;

/// How many turns each contestant has.
pub(crate) const TURNS: usize = 5;

/// The processes whose processor time is asked for.
pub(crate) struct Watched {
    /// The one process that answers.
    pub(crate) answering: Vec<u32>,
    /// All processes of the service.
    pub(crate) all: Vec<u32>,
}

/// What came of one contestant's turns.
pub(crate) struct Series {
    name: &'static str,
    /// Requests a second, turn by turn.
    rates: Vec<f64>,
    /// Processor time a request in the process that answers, turn by turn, in microseconds.
    cpu_us: Vec<f64>,
    requests: u64,
    answering_cpu: Duration,
    all_cpu: Duration,
    load_cpu: Duration,
    elapsed: Duration,
    pub(crate) latency: Latency,
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
}

impl Series {
    /// Nothing measured yet.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            rates: Vec::new(),
            cpu_us: Vec::new(),
            requests: 0,
            answering_cpu: Duration::ZERO,
            all_cpu: Duration::ZERO,
            load_cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
            latency: load::no_latency(),
            failures: 0,
            failure: None,
        }
    }

    /// Takes a turn.
    pub(crate) async fn turn(
        &mut self,
        callers: Vec<Caller>,
        watched: &Watched,
        seconds: f64,
    ) -> Result<(), Failure> {
        let this = [std::process::id()];
        let before = (cpu(&watched.answering)?, cpu(&watched.all)?, cpu(&this)?);
        let load = load::run(callers, Duration::from_secs_f64(seconds)).await?;
        let answering_cpu = cpu(&watched.answering)? - before.0;
        self.answering_cpu += answering_cpu;
        self.cpu_us
            .push(per_request_us(answering_cpu, load.requests));
        self.all_cpu += cpu(&watched.all)? - before.1;
        self.load_cpu += cpu(&this)? - before.2;
        self.rates.push(load.rate());
        self.requests += load.requests;
        self.elapsed += load.elapsed;
        self.failures += load.failures;
        self.failure = self.failure.take().or(load.failure);
        self.latency += load.latency;
        Ok(())
    }

    /// The median turn's requests a second.
    pub(crate) fn rate(&self) -> f64 {
        median(self.rates.clone())
    }

    /// The median over turns of this contestant's rate against the other's in the same turn.
    pub(crate) fn rate_against(&self, other: &Self) -> f64 {
        median(
            self.rates
                .iter()
                .zip(&other.rates)
                .map(|(this, other)| this / other)
                .collect(),
        )
    }

    /// Processor time a request, in the process that answers.
    pub(crate) fn cpu_us(&self) -> f64 {
        per_request_us(self.answering_cpu, self.requests)
    }

    /// The median over turns of that time above what else was measured beside the same turn, in
    /// microseconds.
    pub(crate) fn cpu_us_above(&self, beside: &[f64]) -> f64 {
        let turns = self.cpu_us.iter().zip(beside);
        median(turns.map(|(this, beside)| this - beside).collect())
    }

    /// A quantile of the latency, in milliseconds.
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency, quantile)
    }

    /// Everything about it in one line.
    pub(crate) fn line(&self) -> String {
        let cores = |time: Duration| time.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9);
        let turns: Vec<_> = self
            .rates
            .iter()
            .map(|rate| format!("{:.1}", rate / 1e3))
            .collect();
        let mut line = format!(
            "{}: {:.0}/s (turns {} k/s); p50 {:.2}, p99 {:.2}, max {:.1} ms; CPU a request {:.1} us \
             where answered, {:.1} us in all its processes, {:.1} us in the load; cores busy {:.2} + {:.2}",
            self.name,
            self.rate(),
            turns.join(" "),
            self.ms(0.5),
            self.ms(0.99),
            self.latency.max() as f64 / 1e6,
            per_request_us(self.answering_cpu, self.requests),
            per_request_us(self.all_cpu, self.requests),
            per_request_us(self.load_cpu, self.requests),
            cores(self.all_cpu),
            cores(self.load_cpu),
        );
        if let Some(failure) = &self.failure {
            line.push_str(&format!(
                "; {} FAILED CALLS, such as {failure}",
                self.failures
            ));
        }
        line
    }
}

fn per_request_us(time: Duration, requests: u64) -> f64 {
    time.as_secs_f64() * 1e6 / requests.max(1) as f64
}

/// A quantile in milliseconds.
pub(crate) fn quantile_ms(latency: &Latency, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

/// The median; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a figure that one odd turn decides.
    #[test]
    fn the_median_ignores_one_odd_turn() {
        assert_eq!(median(vec![100.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        let mut this = Series::new("this");
        let mut other = Series::new("other");
        (this.rates, other.rates) = (vec![5.0, 50.0, 1.0], vec![10.0, 100.0, 1.0]);
        assert_eq!(this.rate_against(&other), 0.5);
        this.cpu_us = vec![12.0, 30.0, 21.0];
        assert_eq!(this.cpu_us_above(&[2.0, 10.0, 20.0]), 10.0);
    }
}
