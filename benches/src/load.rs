//! Load with a fixed number of callers, each of which waits for its answer before it asks again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;
use crate::client::Connection;
use crate::etcd::Putter;

/// How many callers stand for load.
pub(crate) const CALLERS: usize = 64;

/// Latencies in nanoseconds, up to a minute, with three digits.
pub(crate) type Latency = Histogram<u64>;

/// Latencies of nothing yet.
pub(crate) fn no_latency() -> Latency {
    Latency::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Notes a latency; one beyond a minute counts as a minute.
pub(crate) fn note(latency: &mut Latency, took: Duration) {
    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// Somebody who makes calls, one at a time.
pub(crate) enum Caller {
    /// Sends the same request again and again.
    Http {
        connection: Connection,
        request: Vec<u8>,
    },
    /// Puts to etcd.
    Etcd(Putter),
}

impl Caller {
    /// A caller of a node, or of the bare server.
    pub(crate) async fn http(addr: &str, request: Vec<u8>) -> Result<Self, Failure> {
        Ok(Self::Http {
            connection: Connection::open(addr).await?,
            request,
        })
    }

    async fn call(&mut self) -> Result<(), Failure> {
        match self {
            Self::Http {
                connection,
                request,
            } => connection.exchange(request).await?.good(),
            Self::Etcd(putter) => putter.put().await,
        }
    }
}

/// Sends `count` requests, each once, to these addresses through as many callers as stand for load,
/// and reads the good answers' bodies; what was read, in the requests' order.
pub(crate) async fn every<T: Send + 'static>(
    addrs: &[String],
    count: usize,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    read: impl Fn(&[u8]) -> Result<T, Failure> + Send + Sync + 'static,
) -> Result<Vec<T>, Failure> {
    let shared = Arc::new((AtomicUsize::new(0), request, read));
    let mut callers = JoinSet::new();
    for at in 0..CALLERS {
        let mut connection = Connection::open(&addrs[at % addrs.len()]).await?;
        let shared = shared.clone();
        callers.spawn(async move {
            let (next, request, read) = &*shared;
            let mut found = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, Failure>(found);
                }
                let answer = connection.exchange(&request(number)).await?;
                answer.good()?;
                found.push((number, read(answer.body)?));
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(found) = callers.join_next().await {
        all.extend(found??);
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, read)| read).collect())
}

/// What came of it.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Latency,
    /// Calls that failed, and what the last of them said.
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
}

impl Load {
    /// Requests answered a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Keeps the one thread of the load from sleeping meanwhile: to wake it, which happens the more often the
/// slower the server is, would count as the server's work.
pub(crate) async fn awake<T>(load: impl Future<Output = T>) -> T {
    let spinning = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let done = load.await;
    spinning.abort();
    done
}

/// Lets callers call for a while.
pub(crate) async fn run(callers: Vec<Caller>, lasting: Duration) -> Result<Load, Failure> {
    let start = Instant::now();
    let end = start + lasting;
    all(callers.into_iter().map(|caller| one(caller, end)), start).await
}

async fn one(mut caller: Caller, end: Instant) -> Result<Load, Failure> {
    let mut load = Load {
        requests: 0,
        elapsed: Duration::ZERO,
        latency: no_latency(),
        failures: 0,
        failure: None,
    };
    let mut asked = Instant::now();
    while asked < end {
        let outcome = caller.call().await;
        let answered = Instant::now();
        match outcome {
            Ok(()) => {
                load.requests += 1;
                note(&mut load.latency, answered - asked);
            }
            Err(failure) => {
                load.failures += 1;
                load.failure = Some(failure.to_string());
                // A broken connection fails at once for ever; a few failures show as failures.
                if load.failures > 100 {
                    return Err(failure);
                }
            }
        }
        asked = answered;
    }
    Ok(load)
}

async fn all(
    callers: impl Iterator<Item = impl Future<Output = Result<Load, Failure>> + Send + 'static>,
    start: Instant,
) -> Result<Load, Failure> {
    let mut running: JoinSet<_> = callers.collect();
    let mut sum: Option<Load> = None;
    while let Some(load) = running.join_next().await {
        let load = load??;
        match &mut sum {
            None => sum = Some(load),
            Some(sum) => {
                sum.requests += load.requests;
                sum.latency += load.latency;
                sum.failures += load.failures;
                sum.failure = sum.failure.take().or(load.failure);
            }
        }
    }
    let mut sum = sum.ok_or("nobody called")?;
    sum.elapsed = start.elapsed();
    Ok(sum)
}
