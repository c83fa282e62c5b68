//! Tests of the data folder.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU16, Ordering};

use super::*;

pub(super) struct Counting;

/// Another source, so that what is drawn anew differs.
struct Later;

/// Chooses a block of ports that no other test of this process has.
fn fill_block(bytes: &mut [u8; 2]) {
    static BLOCK: AtomicU16 = AtomicU16::new(0);
    *bytes = BLOCK.fetch_add(1, Ordering::Relaxed).to_le_bytes();
}

impl Entropy for Later {
    fn fill(&self, bytes: &mut [u8]) {
        match bytes.try_into() {
            Ok(block) => fill_block(block),
            Err(_) => bytes.fill(0xa5),
        }
    }
}

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        if let Ok(block) = bytes.try_into() {
            return fill_block(block);
        }
        bytes
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = at as u8);
    }
}

pub(super) fn topology(regions: &[&str], nodes: u64) -> Topology {
    let regions: Vec<Region> = regions.iter().map(|name| name.parse().unwrap()).collect();
    let bind = Ipv4Addr::LOCALHOST.into();
    Topology::uniform(&regions, nodes, 0, bind, "000000000000".parse().unwrap()).unwrap()
}

pub(super) fn claim(root: &Path, topology: &Topology) -> Result<DataFolder, DataError> {
    DataFolder::claim(root, topology, Unnamed::Run, &Counting)
}

/// Catches a restart that gives nodes other ports, so that nobody finds them again.
#[test]
fn ports_are_remembered() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 3);
    let first = claim(root.path(), &asked).unwrap();
    let record = first.record().clone();
    drop(first);
    let second = claim(root.path(), &asked).unwrap();
    assert_eq!(*second.record(), record);
    let mut ports: Vec<_> = record
        .regions
        .iter()
        .flat_map(|r| &r.nodes)
        .flat_map(|n| [n.api, n.peer, n.admin])
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((ports.len(), ports[0] > 0), (18, true));
}

/// Catches an address that is passed over, that changes what records of other clusters look like, or that
/// a node is given although another has it.
#[cfg(target_os = "linux")]
#[test]
fn added_nodes_have_addresses_beside_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut asked = topology(&["us-east-1", "eu-west-1", "us-west-2"], 1);
    for (number, region) in (1..).zip(&mut asked.regions[..2]) {
        region.nodes[0].get_mut().address = Ipv4Addr::new(127, 0, 1, number);
    }
    let mut folder = claim(root.path(), &asked).unwrap();
    for (node, expected) in [
        ("us-east-1/1", "127.0.1.1"),
        ("us-east-1/2", "127.0.1.3"),
        ("eu-west-1/2", "127.0.1.4"),
        ("us-west-2/2", "127.0.0.1"),
    ] {
        let node: NodeName = node.parse().unwrap();
        if node.id > 1 {
            folder.add_node(&node, &Counting).unwrap();
        }
        let found = folder.node(&node).unwrap();
        assert_eq!(found.peer_at().ip().to_string(), expected, "{node}");
    }
    let text = std::fs::read_to_string(root.path().join("cluster.json")).unwrap();
    assert_eq!(text.matches("\"address\"").count(), 4, "{text}");
}

/// Catches a cluster started on another cluster's data, and a message that does not name both.
#[test]
fn other_regions_or_nodes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(used_folder(root.path(), &topology(&["us-east-1"], 3)));
    for (asked, named) in [
        (topology(&["us-east-1"], 1), "us-east-1 (node 1)"),
        (topology(&["eu-west-1"], 3), "eu-west-1 (nodes 1, 2, 3)"),
    ] {
        let text = claim(root.path(), &asked).unwrap_err().to_string();
        assert!(
            text.contains("holds us-east-1 (nodes 1, 2, 3), but "),
            "{text}"
        );
        assert!(text.contains(named) && text.contains("--data"), "{text}");
        assert!(!text.contains("in this order"), "{text}");
    }
    let root = tempfile::tempdir().unwrap();
    drop(used_folder(
        root.path(),
        &topology(&["us-east-1", "eu-west-1"], 1),
    ));
    let other = topology(&["eu-west-1", "us-east-1"], 1);
    let text = claim(root.path(), &other).unwrap_err().to_string();
    assert!(text.contains("us-east-1 (node 1) in this order"), "{text}");
}

/// Catches a start that failed before it had a node and decides for good what the folder is for, or
/// leaves something in a folder that was not there.
#[test]
fn a_failed_start_leaves_nothing_that_counts() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("data");
    let asked = topology(&["us-east-1"], 3);
    let claimed = claim(&root, &asked).unwrap();
    claimed.discard();
    drop(claimed);
    assert!(!root.exists());

    #[expect(clippy::disallowed_methods, reason = "a port in use")]
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut wants_it = asked.clone();
    let plan = wants_it.regions[0].nodes[0].get_mut();
    plan.peer = port;
    assert!(claim(&root, &wants_it).is_err());
    assert!(!root.exists());

    // Killed on the way.
    drop(claim(&root, &asked).unwrap());
    let other = topology(&["eu-west-1", "us-east-1"], 1);
    let folder = claim(&root, &other).unwrap();
    assert_eq!(
        folder.record().describe(),
        "eu-west-1 (node 1) and us-east-1 (node 1)"
    );
    drop(folder);
    // What is somebody else's stays.
    std::fs::write(root.join("note"), "").unwrap();
    let folder = claim(&root, &other).unwrap();
    folder.discard();
    assert!(root.join("note").exists() && root.join("cluster.json").exists());
}

/// Catches what the system says about a folder that cannot be used, without what helps.
#[test]
fn a_folder_that_cannot_be_used_is_told_with_what_helps() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let name = file.display().to_string();
    for path in [file.clone(), file.join("below"), file.join("far/below")] {
        let words = claim(&path, &topology(&["us-east-1"], 1)).unwrap_err();
        let expected =
            format!("{name} is a file, not a folder: name another data folder with --data");
        assert_eq!(words.to_string(), expected);
    }
    for (kind, part) in [
        (io::ErrorKind::PermissionDenied, "let this user write there"),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            "let this user write there",
        ),
        (io::ErrorKind::StorageFull, "disk is full"),
        (io::ErrorKind::Other, "cannot be used"),
    ] {
        let words = io_at(&file)(kind.into()).to_string();
        for part in [part, &name, "--data"] {
            assert!(words.contains(part), "{words}");
        }
    }
}

/// Catches two processes that write to one folder.
#[test]
fn a_folder_has_one_user() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1"], 1);
    let first = claim(root.path(), &asked).unwrap();
    let text = claim(root.path(), &asked).unwrap_err().to_string();
    assert!(text.contains("in use by another keyrum process"), "{text}");
    drop(first);
    assert!(claim(root.path(), &asked).is_ok());
}

/// Catches a node id that is used twice, also after its node is gone.
#[test]
fn a_node_id_is_never_used_twice() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = claim(root.path(), &topology(&["us-east-1"], 3)).unwrap();
    let four: NodeName = "us-east-1/4".parse().unwrap();
    folder.add_node(&four, &Counting).unwrap();
    assert!(folder.add_node(&four, &Counting).is_err());
    folder.remove_node(&four).unwrap();
    let text = folder.add_node(&four, &Counting).unwrap_err().to_string();
    assert!(text.contains("add us-east-1/5 instead"), "{text}");
    let five: NodeName = "us-east-1/5".parse().unwrap();
    folder.add_node(&five, &Counting).unwrap();
    let now = folder.record().describe_now();
    assert_eq!(now, "us-east-1 (nodes 1, 2, 3, 5)");
    drop(folder);
    // Neither the added nor the removed node makes the folder another cluster's.
    assert!(claim(root.path(), &topology(&["us-east-1"], 3)).is_ok());
}

/// Catches an addition that came to nothing and leaves something behind.
#[test]
fn a_node_that_never_joined_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = claim(root.path(), &topology(&["us-east-1"], 3)).unwrap();
    let before = folder.record().clone();
    let four: NodeName = "us-east-1/4".parse().unwrap();
    folder.add_node(&four, &Counting).unwrap();
    folder.prepare_node(&four, &Counting).unwrap();
    folder.unmake_node(&four).unwrap();
    assert_eq!(*folder.record(), before);
    assert!(!folder.node_folder(&four).exists());
    folder.check_unused(&four).unwrap();
}

/// Catches a secret that other users of the machine could read.
#[test]
fn secrets_are_private() {
    let root = tempfile::tempdir().unwrap();
    let folder = claim(root.path(), &topology(&["us-east-1"], 1)).unwrap();
    let node = &folder.nodes()[0];
    folder.prepare_node(node, &Counting).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.admin_token(node)), 0o600);
    assert_eq!(mode(&folder.node_folder(node)), 0o700);
    let token = std::fs::read_to_string(folder.admin_token(node)).unwrap();
    folder.prepare_node(node, &Counting).unwrap();
    assert_eq!(
        std::fs::read_to_string(folder.admin_token(node)).unwrap(),
        token
    );
}

/// Catches a node that comes back empty after its store, or what is in it, was removed; one that
/// is refused though it never had data, or after a reset.
#[test]
fn a_store_that_was_there_must_be_there() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = claim(root.path(), &topology(&["us-east-1"], 1)).unwrap();
    let node = folder.nodes()[0].clone();
    let store = folder.store(&node);
    let make_store = || {
        files::private_folder(&store).unwrap();
        std::fs::write(store.join("mark"), "").unwrap();
    };
    assert!(!folder.is_gone(&node), "it never had one");
    make_store();
    assert!(!folder.is_gone(&node), "it was made before nodes noted it");
    files::touch(&folder.started_file(&node)).unwrap();
    files::touch(&folder.started_file(&node)).unwrap();
    assert!(!folder.is_gone(&node), "it is there");
    std::fs::remove_file(store.join("mark")).unwrap();
    assert!(folder.is_gone(&node), "the folder is empty");
    std::fs::remove_dir(&store).unwrap();
    assert!(folder.is_gone(&node), "the folder is gone");

    make_store();
    folder.note_founded().unwrap();
    folder.reset(&Counting).unwrap();
    assert!(!store.exists() && !folder.started_file(&node).exists());
    assert!(!folder.is_gone(&node), "it was reset");

    make_store();
    folder.note_founded().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    assert!(folder.is_gone(&node), "the cluster noted it");
}

/// A folder of two Regions whose nodes have run, and what a reset has to remove from it.
pub(super) fn used_folder(root: &Path, asked: &Topology) -> (DataFolder, Vec<PathBuf>) {
    let mut folder = claim(root, asked).unwrap();
    for node in folder.nodes() {
        let store = folder.store(&node);
        files::private_folder(&store.join("rows")).unwrap();
        std::fs::write(store.join("rows").join("db"), "entries").unwrap();
        std::fs::write(store.join("mark"), "").unwrap();
        files::touch(&folder.started_file(&node)).unwrap();
    }
    folder.note_founded().unwrap();
    let paths = folder.keys_and_history();
    assert!(
        paths.iter().all(|path| path.exists())
            && paths.len() == 2 * folder.nodes().len() + asked.regions.len()
    );
    (folder, paths)
}

/// Catches a new cluster that is made over the data of another, whose record was lost.
#[test]
fn data_without_a_record_is_left_alone() {
    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                paths.extend(files_below(&path));
            }
            paths.push(path);
        }
        paths.sort();
        paths
    }
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 3);
    drop(used_folder(root.path(), &asked));
    std::fs::remove_file(root.path().join("lock")).unwrap();
    let record = std::fs::read(root.path().join("cluster.json")).unwrap();
    std::fs::remove_file(root.path().join("cluster.json")).unwrap();
    let before = files_below(root.path());
    let claimed = claim(root.path(), &asked).unwrap_err();
    let node = "us-east-1/1".parse().unwrap();
    let looked = DataFolder::of_node(root.path(), &node).unwrap_err();
    for words in [claimed.to_string(), looked.to_string()] {
        assert!(words.contains("cluster.json is missing"), "{words}");
        assert!(
            words.contains("restore") && words.contains("node-1"),
            "{words}"
        );
    }
    assert_eq!(files_below(root.path()), before);
    std::fs::write(root.path().join("cluster.json"), record).unwrap();
    assert!(claim(root.path(), &asked).is_ok());
}

/// Catches a reset that is cut short, wherever it is, and leaves a lost domain key, nodes of which
/// only some have data, or anything of what was there before; and a node that starts meanwhile.
#[test]
fn a_reset_that_is_cut_short_is_finished_by_the_next_start() {
    let asked = topology(&["us-east-1", "eu-west-1"], 3);
    // How many things were removed, whether the next one was in part, how many domain keys were
    // made anew.
    let removing = (0..=14).flat_map(|gone| [(gone, false, 0), (gone, true, 0)]);
    for (gone, in_part, made) in removing.chain([(14, false, 1), (14, false, 2)]) {
        let at = format!("{gone} removed, one more in part: {in_part}, {made} keys made");
        let root = tempfile::tempdir().unwrap();
        let (mut folder, paths) = used_folder(root.path(), &asked);
        let before = folder.record().clone();
        let old_key = std::fs::read(folder.domain_key(&before.regions[0].name)).unwrap();
        folder.begin_reset().unwrap();
        for path in &paths[..gone] {
            files::remove_all(path).unwrap();
        }
        if let Some(next) = paths.get(gone).filter(|_| in_part) {
            let _ = std::fs::remove_file(next.join("mark"));
        }
        for region in &before.regions[..made] {
            keyrum_crypto::create(&folder.domain_key(&region.name), &Counting).unwrap();
        }
        drop(folder);

        let node: NodeName = "us-east-1/1".parse().unwrap();
        let words = DataFolder::of_node(root.path(), &node).unwrap_err();
        assert!(words.to_string().contains("reset"), "{at}: {words}");
        let folder = DataFolder::claim(root.path(), &asked, Unnamed::Run, &Later)
            .unwrap_or_else(|error| panic!("{at}: {error}"));
        let mut expected = before;
        for region in &mut expected.regions {
            region.founded = false;
            region
                .nodes
                .iter_mut()
                .for_each(|node| node.started = false);
        }
        assert_eq!(*folder.record(), expected, "{at}");
        for node in folder.nodes() {
            assert!(!folder.store(&node).exists(), "{at}: {node} has old data");
            assert!(!folder.is_gone(&node), "{at}: {node} would not start");
        }
        for region in &expected.regions {
            let key = folder.domain_key(&region.name);
            keyrum_crypto::DomainKeyFile::opened_by(&key)
                .unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_ne!(
                std::fs::read(key).unwrap(),
                old_key,
                "{at}: the old domain key"
            );
        }
        drop(folder);
        assert!(DataFolder::of_node(root.path(), &node).is_ok(), "{at}");
    }
}

/// Catches a Region whose key is drawn again, so that what was wrapped to it cannot be opened; one
/// whose public key is not the pinned one; and an old cluster that never gets one.
#[test]
fn region_keys_are_pinned() {
    let root = tempfile::tempdir().unwrap();
    let asked = topology(&["us-east-1", "eu-west-1"], 1);
    let here: Region = "us-east-1".parse().unwrap();
    let mut folder = claim(root.path(), &asked).unwrap();
    let path = folder.region_key(&here);
    let made = keyrum_crypto::load_region_key(&path).ok().unwrap().public();
    let pinned = folder.pinned_keys(&here).unwrap();
    assert_eq!(pinned.len(), 2);
    assert_eq!(pinned[&here], made);
    folder.reset(&Counting).unwrap();
    assert_eq!(folder.pinned_keys(&here).unwrap(), pinned);
    drop(folder);

    std::fs::remove_file(&path).unwrap();
    let folder = claim(root.path(), &asked).unwrap();
    assert!(!path.exists(), "a lost key is not drawn again");
    drop(folder);

    let record = root.path().join("cluster.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let old = text.lines().filter(|line| !line.contains("public_key"));
    std::fs::write(&record, old.collect::<Vec<_>>().join("\n")).unwrap();
    let folder = claim(root.path(), &asked).unwrap();
    assert!(path.exists());
    assert_eq!(folder.pinned_keys(&here).unwrap().len(), 2);
}
