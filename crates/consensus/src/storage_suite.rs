//! openraft's own storage tests, on the real store.

use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_types::Region;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::log_storage::LogStorage;
use crate::machine::Machine;
use crate::types::{Runtime, TypeConfig};
use crate::world::Blocking;

struct RealStore;

impl StoreBuilder<TypeConfig, LogStorage, Machine, tempfile::TempDir> for RealStore {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStorage, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(RealDisk::shared(), folder.path(), StoreConfig::default()).unwrap();
        let region: Region = "us-east-1".parse().unwrap();
        let (machine, _) = Machine::open(&region, store.clone(), Blocking::Threads, None).unwrap();
        Ok((folder, LogStorage::new(store, Blocking::Threads), machine))
    }
}

/// Catches a log, vote or state machine that breaks a rule openraft relies on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_keeps_openrafts_rules() {
    Runtime::scope(1, Suite::test_all(RealStore)).await.unwrap();
}
