use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_types::LogIndex;
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use tempfile::TempDir;
use tokio::time::advance;

use super::*;
use crate::machine::Machine;
use crate::types::Entry;
use crate::world::Blocking;

const DELAY: Duration = Duration::from_secs(30);

/// Draws the same parts of the delay over and over.
struct Parts {
    parts: Vec<f64>,
    next: AtomicU64,
}

impl Entropy for Parts {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let part = self.parts[usize::try_from(next).unwrap() % self.parts.len()];
        let drawn = (part * 2_f64.powi(64)) as u64;
        bytes.copy_from_slice(&drawn.to_le_bytes());
    }
}

fn drawing(parts: &[f64]) -> Arc<Parts> {
    let next = AtomicU64::new(0);
    let parts = parts.to_vec();
    Arc::new(Parts { parts, next })
}

/// A node's state machine alone: what is applied shows in the view's index.
struct Node {
    machine: Machine,
    shared: Arc<Shared>,
    index: LogIndex,
    _folder: TempDir,
}

impl Node {
    fn new(past: Option<Arc<Parts>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(RealDisk::shared(), folder.path(), StoreConfig::default()).unwrap();
        let region = "us-east-1".parse().unwrap();
        let (machine, shared) = Machine::open(&region, store, Blocking::Inline, None).unwrap();
        if let Some(entropy) = past {
            let past = Past::new(DELAY, entropy);
            assert!(shared.past.set(past).is_ok());
        }
        Self {
            machine,
            shared,
            index: 0,
            _folder: folder,
        }
    }

    /// Applies one more entry.
    async fn change(&mut self) {
        self.index += 1;
        let id = openraft::testing::log_id::<crate::types::TypeConfig>(1, 1, self.index);
        let entry = (Entry::new_blank(id), None);
        let applied = self.machine.apply(stream::iter([Ok(entry)])).await;
        applied.unwrap();
    }

    /// How far an eventual read sees.
    fn sees(&self) -> LogIndex {
        self.shared.eventual_view().index
    }

    fn kept(&self) -> usize {
        lock(&self.shared.past.get().unwrap().kept).ended.len()
    }
}

/// Catches a delay that hides nothing, hides longer than it says, or hides although it is off; and
/// strong reads that are delayed too.
#[tokio::test(start_paused = true)]
async fn a_change_is_seen_when_the_lag_is_over() {
    for (part, lag) in [(0.999_999_999_999, 30), (0.5, 15), (0.0, 0)] {
        let mut node = Node::new(Some(drawing(&[part])));
        node.change().await;
        advance(Duration::from_secs(lag)).await;
        assert_eq!(node.sees(), 1);
        node.change().await;
        assert_eq!(node.shared.view().index, 2);
        if lag > 0 {
            assert_eq!(node.sees(), 1, "at once");
            advance(Duration::from_secs(lag) - Duration::from_millis(1)).await;
            assert_eq!(node.sees(), 1, "a little before");
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(node.sees(), 2, "after {lag} s");
    }
    let mut off = Node::new(None);
    off.change().await;
    assert_eq!(off.sees(), 1);
}

/// Catches a node that takes back what it has shown, or hides it for longer than the delay,
/// however the lag changes; and one whose lag never does.
#[tokio::test(start_paused = true)]
async fn what_a_node_shows_never_goes_back() {
    let mut node = Node::new(Some(drawing(&[0.9, 0.1, 0.99, 0.0, 0.5, 0.7])));
    let step = Duration::from_millis(700);
    let mut applied = VecDeque::new();
    let (mut last, mut lags) = (0, std::collections::BTreeSet::new());
    for _ in 0..2000 {
        node.change().await;
        applied.push_back((Instant::now(), node.index));
        advance(step).await;
        let sees = node.sees();
        assert!(sees >= last, "{sees} after {last}");
        last = sees;
        while applied.front().is_some_and(|(at, _)| at.elapsed() >= DELAY) {
            let (_, index) = applied.pop_front().unwrap();
            assert!(sees >= index, "{index} is hidden for too long");
        }
        lags.insert(node.index - sees);
    }
    assert!(lags.len() > 10, "{lags:?}");
}

/// Catches a node that keeps a view for every command, or for ever.
#[tokio::test(start_paused = true)]
async fn a_busy_node_keeps_few_views() {
    let mut node = Node::new(Some(drawing(&[0.999_999])));
    for _ in 0..20_000 {
        node.change().await;
        advance(Duration::from_millis(3)).await;
        assert!(node.kept() <= VIEWS_MAX as usize + 1);
    }
    assert!(node.kept() > VIEWS_MAX as usize / 2);
    assert!(!node.shared.past.get().unwrap().forget());
    advance(DELAY).await;
    assert!(node.shared.past.get().unwrap().forget());
    assert_eq!((node.kept(), node.sees()), (0, node.index));
}
