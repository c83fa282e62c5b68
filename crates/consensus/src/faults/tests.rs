use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::world::World;

fn faults() -> Arc<Faults> {
    Faults::new(&"us-east-1".parse().unwrap(), World::real().entropy)
}

fn order(fault: Fault) -> Order {
    Order {
        number: None,
        fault,
        for_ms: None,
    }
}

fn peer(name: &str) -> PeerName {
    let party: Party = name.parse().unwrap();
    PeerName {
        region: party.region,
        node: party.node.unwrap(),
    }
}

fn these(names: &[&str]) -> With {
    With::These(names.iter().map(|name| name.parse().unwrap()).collect())
}

fn cut(with: With, direction: Direction) -> Order {
    order(Fault::Cut { with, direction })
}

/// A connection with a peer; the first end is the node's that has the faults.
fn connected(faults: &Arc<Faults>, other: &str) -> (BoxStream, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let other = Some(Other::Peer(peer(other)));
    (faults.wrap(Box::new(near), other).0, far)
}

async fn silent(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let read = stream.read_u8();
    timeout(Duration::from_secs(60), read).await.is_err()
}

/// Catches bytes that cross a cut, or get lost by it, a cut of one direction that takes the other,
/// one that another peer meets, and bytes that are held and not counted.
#[tokio::test(start_paused = true)]
async fn a_cut_holds_what_is_sent() {
    for (direction, inward, outward) in [
        (Direction::Both, true, true),
        (Direction::In, true, false),
        (Direction::Out, false, true),
    ] {
        let faults = faults();
        let (mut here, mut there) = connected(&faults, "us-east-1/2");
        let (mut third, mut far) = connected(&faults, "us-east-1/3");
        let number = faults.put(cut(these(&["us-east-1/2"]), direction)).unwrap();
        assert!(!faults.in_force()[0].effects.took_effect());
        there.write_all(&[1]).await.unwrap();
        here.write_all(&[2]).await.unwrap();
        here.flush().await.unwrap();
        assert_eq!(silent(&mut here).await, inward, "{direction:?}");
        assert_eq!(silent(&mut there).await, outward, "{direction:?}");
        far.write_all(&[3]).await.unwrap();
        assert_eq!(third.read_u8().await.unwrap(), 3);
        let held = u64::from(inward) + u64::from(outward);
        assert_eq!(faults.in_force()[0].effects.bytes_held, held);

        assert_eq!(faults.lift(Some(number))[0].effects.bytes_held, held);
        assert_eq!(faults.in_force(), []);
        if inward {
            assert_eq!(here.read_u8().await.unwrap(), 1);
        }
        if outward {
            assert_eq!(there.read_u8().await.unwrap(), 2);
        }
        there.write_all(&[4]).await.unwrap();
        assert_eq!(here.read_u8().await.unwrap(), 4);
    }
}

/// Catches a reader that waits before a cut and hears through it, one that is not woken when it is
/// lifted, a close that is told through a cut, and bytes written before a close that get lost.
#[tokio::test(start_paused = true)]
async fn a_close_waits_like_bytes() {
    let faults = faults();
    let (mut here, mut there) = connected(&faults, "us-east-1/2");
    let reading = spawn(async move {
        let byte = here.read_u8().await.unwrap();
        (byte, here)
    });
    tokio::task::yield_now().await;
    faults.put(cut(With::Nodes, Direction::Both)).unwrap();
    there.write_all(&[1]).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(!reading.is_finished());
    faults.lift(None);
    let (byte, mut here) = reading.await.unwrap();
    assert_eq!(byte, 1);

    faults.put(cut(With::Nodes, Direction::Both)).unwrap();
    here.write_all(&[2]).await.unwrap();
    drop(here);
    assert!(silent(&mut there).await, "neither a byte nor the end");
    faults.lift(None);
    assert_eq!(there.read_u8().await.unwrap(), 2);
    assert!(there.read_u8().await.is_err(), "the end");

    let (here, mut there) = connected(&faults, "us-east-1/2");
    faults.put(cut(With::Nodes, Direction::Both)).unwrap();
    drop(here);
    assert!(silent(&mut there).await, "the end alone");
    faults.lift(None);
    assert!(there.read_u8().await.is_err(), "the end");
}

/// Catches a delay that is none, one that adds up over what is under way, and one that is left
/// once it is lifted.
#[tokio::test(start_paused = true)]
async fn a_delay_is_each_ways() {
    let faults = faults();
    let (mut here, mut there) = connected(&faults, "eu-west-1/1");
    let fault = Fault::Delay {
        with: With::OtherRegions,
        direction: Direction::Both,
        by_ms: 100,
        jitter_ms: 0,
    };
    faults.put(order(fault)).unwrap();
    let begun = Instant::now();
    for byte in 0..5 {
        here.write_all(&[byte]).await.unwrap();
        here.flush().await.unwrap();
    }
    for byte in 0..5 {
        assert_eq!(there.read_u8().await.unwrap(), byte);
    }
    // The clock moves by whole milliseconds.
    let took = begun.elapsed().as_millis();
    assert!((100..=101).contains(&took), "{took}");
    there.write_all(&[9]).await.unwrap();
    assert_eq!(here.read_u8().await.unwrap(), 9);
    assert!(begun.elapsed().as_millis() >= 200);
    assert_eq!(faults.in_force()[0].effects.bytes_delayed, 6);
    here.write_all(&[7]).await.unwrap();
    let lifted = Instant::now();
    faults.lift(None);
    assert_eq!(there.read_u8().await.unwrap(), 7);
    assert!(lifted.elapsed().as_millis() <= 1);
}

/// Catches lost segments that are not sent again, or do not make what follows wait.
#[tokio::test(start_paused = true)]
async fn a_lost_segment_comes_later() {
    let faults = faults();
    let (mut here, mut there) = connected(&faults, "us-east-1/2");
    let fault = Fault::Lose {
        with: With::Nodes,
        direction: Direction::Out,
        share: 1.0,
    };
    faults.put(order(fault)).unwrap();
    let begun = Instant::now();
    here.write_all(&[1, 2]).await.unwrap();
    assert_eq!(there.read_u16().await.unwrap(), 0x0102);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(faults.in_force()[0].effects.segments_lost >= 1);
}

/// Catches a fault that outlives its time, one that lifts another of the same number, a number that
/// two have, and orders that mean nothing.
#[tokio::test(start_paused = true)]
async fn a_fault_lifts_itself() {
    let faults = faults();
    let brief = |number| Order {
        number,
        for_ms: Some(1000),
        ..cut(With::Nodes, Direction::Both)
    };
    assert_eq!(faults.put(brief(Some(4))), Ok(4));
    assert_eq!(faults.put(brief(Some(4))), Err(Unfit::Taken(4)));
    assert_eq!(faults.put(brief(None)), Ok(5));
    let (mut here, mut there) = connected(&faults, "us-east-1/2");
    here.write_all(&[1]).await.unwrap();
    let begun = Instant::now();
    assert_eq!(there.read_u8().await.unwrap(), 1);
    assert!(begun.elapsed() >= Duration::from_millis(1000));
    assert_eq!(faults.in_force(), []);

    faults.put(brief(Some(1))).unwrap();
    faults.lift(Some(1));
    faults.put(cut(With::Nodes, Direction::In)).unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(faults.in_force().len(), 1);

    let no_share = Fault::Lose {
        with: With::Nodes,
        direction: Direction::Both,
        share: 0.0,
    };
    for senseless in [
        order(no_share),
        order(Fault::SlowDisk { by_ms: 0 }),
        cut(these(&[]), Direction::Both),
    ] {
        assert!(matches!(faults.put(senseless), Err(Unfit::Senseless(_))));
    }
}

/// Catches a connection that comes about across a cut, whoever makes it, and one that does not
/// once the cut is lifted.
#[tokio::test(start_paused = true)]
async fn nothing_connects_across_a_cut() {
    let faults = faults();
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let (mut stream, gate) = faults.incoming(Box::new(near));
    faults.put(cut(With::Nodes, Direction::Out)).unwrap();
    far.write_all(&[1]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 1, "who it is");
    let admitted = faults.admit(&gate, &peer("us-east-1/3")).await;
    let refusal = admitted.unwrap_err();
    assert_eq!(refusal.kind(), io::ErrorKind::NetworkUnreachable);
    assert_eq!(faults.in_force()[0].effects.connects_held, 1);
    let dialled = faults.clone();
    let passing = spawn(async move {
        let other = Other::Peer(peer("us-east-1/3"));
        dialled.passes(&other).await;
    });
    sleep(Duration::from_secs(60)).await;
    assert!(!passing.is_finished());
    faults.lift(None);
    passing.await.unwrap();
    faults.admit(&gate, &peer("us-east-1/3")).await.unwrap();
    faults.put(cut(With::Nodes, Direction::In)).unwrap();
    far.write_all(&[2]).await.unwrap();
    assert!(silent(&mut stream).await, "it has a name now");
}

/// Catches clients that meet what is meant for nodes, and nodes that meet what is meant for them.
#[test]
fn faults_tell_clients_from_nodes() {
    let faults = faults();
    let node = Other::Peer(peer("us-east-1/2"));
    let concerned =
        |with: With| [&node, &Other::Clients].map(|other| faults.concerns(&with, other));
    assert_eq!(concerned(With::Nodes), [true, false]);
    assert_eq!(concerned(With::Clients), [false, true]);
    assert_eq!(concerned(With::OtherRegions), [false, false]);
    assert_eq!(concerned(these(&["us-east-1"])), [true, false]);
    assert_eq!(concerned(these(&["us-east-1/3"])), [false, false]);
}

/// Catches a form of orders that is not the one the documentation shows.
#[test]
fn orders_are_json() {
    let text = r#"{"fault":"cut","with":{"these":["us-east-1/2","eu-west-1"]},"direction":"in","for_ms":5}"#;
    let order: Order = serde_json::from_str(text).unwrap();
    let with = these(&["us-east-1/2", "eu-west-1"]);
    assert_eq!(order.for_ms, Some(5));
    let direction = Direction::In;
    assert_eq!(order.fault, Fault::Cut { with, direction });
    for (text, fault) in [
        (r#"{"fault":"sync-fails"}"#, Fault::SyncFails { after: 0 }),
        (
            r#"{"fault":"slow-disk","by_ms":3}"#,
            Fault::SlowDisk { by_ms: 3 },
        ),
    ] {
        assert_eq!(serde_json::from_str::<Order>(text).unwrap().fault, fault);
    }
    assert!(serde_json::from_str::<Order>(r#"{"fault":"cut","with":{"these":["x"]}}"#).is_err());
}
