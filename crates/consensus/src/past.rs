//! The past of one node's state, for eventual reads: each sees the node as it was a while ago.
//!
//! Just before the state changes, the view that ends there is kept, with the time. A read wants
//! what was current at a moment that lags behind by at most the propagation delay, and drops what
//! ended before it; the lag is drawn anew now and then. So a change is invisible for a while on
//! some nodes and visible on every node once the delay has passed since that node applied it. No
//! node takes back what it has shown: what comes before is gone. Nothing is done on a timer but to
//! forget.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrum_types::Entropy;
use tokio::time::{Instant, sleep};

use crate::chance::up_to;
use crate::group::{Group, Inner};
use crate::machine::{Shared, View};
use crate::peers::lock;
use crate::world::spawn;

/// How many views are kept at most, roughly: those that end closer to each other than this part of
/// the delay count as one, so that a busy node does not keep one for every command.
const VIEWS_MAX: u32 = 1000;

/// The views that ended less than the propagation delay ago.
pub(crate) struct Past {
    /// The longest that a change stays invisible; greater than 0.
    delay: Duration,
    entropy: Arc<dyn Entropy>,
    kept: Mutex<Kept>,
}

struct Kept {
    /// Oldest first: a view, and when it ceased to be current.
    ended: VecDeque<(Instant, Arc<View>)>,
    /// How far behind reads are, and since when.
    lag: Duration,
    drawn: Instant,
}

impl Past {
    /// A past that begins now.
    pub(crate) fn new(delay: Duration, entropy: Arc<dyn Entropy>) -> Self {
        let kept = Kept {
            ended: VecDeque::new(),
            lag: up_to(delay, &*entropy),
            drawn: Instant::now(),
        };
        Self {
            delay,
            entropy,
            kept: Mutex::new(kept),
        }
    }

    /// Keeps the view that ends now, unless the last one that is kept ended just before.
    pub(crate) fn keep(&self, view: impl FnOnce() -> Arc<View>) {
        let now = Instant::now();
        let mut kept = lock(&self.kept);
        kept.drop_ended_before(now, self.delay);
        let spacing = self.delay / VIEWS_MAX;
        let close = |(last, _): &(Instant, Arc<View>)| now < *last + spacing;
        if !kept.ended.back().is_some_and(close) {
            kept.ended.push_back((now, view()));
        }
    }

    /// What a read sees now; `None` if that is the present.
    pub(crate) fn seen(&self) -> Option<Arc<View>> {
        let now = Instant::now();
        let mut kept = lock(&self.kept);
        if now >= kept.drawn + self.delay {
            kept.lag = up_to(self.delay, &*self.entropy);
            kept.drawn = now;
        }
        let lag = kept.lag;
        kept.drop_ended_before(now, lag);
        kept.ended.front().map(|(_, view)| view.clone())
    }

    /// Drops what no read will see; whether nothing is left.
    fn forget(&self) -> bool {
        let mut kept = lock(&self.kept);
        kept.drop_ended_before(Instant::now(), self.delay);
        kept.ended.is_empty()
    }
}

impl Kept {
    /// Drops the views that ended by the moment that lies so far back.
    fn drop_ended_before(&mut self, now: Instant, back: Duration) {
        while self
            .ended
            .front()
            .is_some_and(|(end, _)| *end + back <= now)
        {
            self.ended.pop_front();
        }
    }
}

impl Shared {
    /// What an eventual read sees: without a past, the present.
    pub(crate) fn eventual_view(&self) -> Arc<View> {
        let Some(past) = self.past.get() else {
            return self.view();
        };
        // Held, so that the present does not become past between the two looks.
        let live = self.live();
        past.seen().unwrap_or_else(|| self.view_of(&live))
    }
}

impl Group {
    /// From now on eventual reads here lag behind by up to `delay`. Their past begins once this
    /// node has caught up: what it replays, or missed while it was down, is not news. To be called
    /// once, at the start; 0 does nothing.
    pub fn delay_eventual_reads(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let (group, mut closing) = (self.clone(), self.inner.closing.subscribe());
        spawn(async move {
            let forgetting = async {
                if group.ready().await.is_ok() {
                    forget_forever(&group.inner, delay).await;
                }
            };
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = forgetting => {}
            }
        });
    }
}

/// Begins the past, and clears it up after changes. Sleeps while nothing changes.
async fn forget_forever(inner: &Inner, delay: Duration) {
    let shared = &inner.shared;
    let mut applied = shared.applied.subscribe();
    let begin = || Past::new(delay, inner.world.entropy.clone());
    let past = {
        // Not in the middle of a change.
        let _live = shared.live();
        shared.past.get_or_init(begin)
    };
    while applied.changed().await.is_ok() {
        loop {
            sleep(delay).await;
            if past.forget() {
                break;
            }
        }
    }
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
