//! The traps of batched sends, on real sockets, with both ways of sending and without a batch.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;

/// How a test's runtime sends; `None` installs no batch.
const WAYS: [Option<SendMode>; 3] = [None, Some(SendMode::Plain), Some(SendMode::Auto)];

/// Runs a test on a runtime of its own for each way, on a thread of its own, for at most a minute.
pub(super) fn in_all_ways<F: Future<Output = ()>>(test: impl Fn() -> F + Send + Sync + 'static) {
    let test = Arc::new(test);
    for mode in WAYS {
        let test = test.clone();
        let run = move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all();
            mode.into_iter()
                .for_each(|mode| install(&mut builder, mode));
            builder.build().expect("a runtime").block_on(async {
                // The batch begins when the runtime parks for the first time.
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(send_way() == SendWay::Immediate, mode.is_none());
                tokio::time::timeout(Duration::from_secs(60), test())
                    .await
                    .expect("the test ends in time");
            });
            assert_eq!(
                send_way(),
                SendWay::Immediate,
                "the batch ends with its runtime"
            );
        };
        std::thread::spawn(run).join().unwrap_or_else(|panic| {
            eprintln!("while sending by {mode:?}");
            std::panic::resume_unwind(panic)
        });
    }
}

/// A wire and the other end of its TCP connection.
pub(super) async fn tcp_pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (
        Wire::tcp(near.expect("connected")).expect("a wire"),
        far.expect("accepted").0,
    )
}

fn unix_pair() -> (Wire, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    (Wire::unix(near), far)
}

pub(super) async fn poll_once<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

/// A part of the endless stream of a connection, in which streams and positions can be told apart.
pub(super) fn marks(stream: u64, from: u64, len: usize) -> Vec<u8> {
    static PATTERN: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut random = StdRng::seed_from_u64(1);
        // A prime length, so that it does not fit any size of a buffer.
        (0..65_521).map(|_| random.random()).collect()
    });
    let start = (stream * 7_919 + from) as usize % PATTERN.len();
    let mut part = Vec::with_capacity(len);
    part.extend_from_slice(&PATTERN[start..PATTERN.len().min(start + len)]);
    while part.len() < len {
        part.extend_from_slice(&PATTERN[..PATTERN.len().min(len - part.len())]);
    }
    part
}

/// Takes everything out of the input, and checks that it goes on at `position`.
pub(super) fn check_input(wire: &mut Wire, stream: u64, position: &mut u64) {
    let input = wire.input();
    assert!(
        input == marks(stream, *position, input.len()),
        "stream {stream} differs after byte {position}"
    );
    *position += input.len() as u64;
    wire.consume(wire.input().len());
}

#[test]
fn what_is_sent_arrives_and_an_answer_comes_back() {
    in_all_ways(|| async {
        let (mut near, far) = tcp_pair().await;
        let mut far = Wire::tcp(far).expect("a wire");
        near.send(b"ping");
        while far.input().len() < 4 {
            far.fill().await.expect("bytes");
        }
        assert_eq!(far.input(), b"ping");
        far.consume(4);
        far.with_output(|buf| buf.extend_from_slice(b"pong"));
        assert_eq!(near.fill().await.expect("bytes"), 4);
        assert_eq!((near.input(), near.unsent()), (&b"pong"[..], 0));
    });
}

#[test]
fn a_peer_that_does_not_read_holds_up_the_sender_and_loses_nothing() {
    const TOTAL: u64 = 50_000_000;
    in_all_ways(|| async {
        let (mut near, far) = tcp_pair().await;
        let refused_before = send_stats().refused;
        let full = Arc::new(Notify::new());
        let reader = {
            let full = full.clone();
            let mut far = Wire::tcp(far).expect("a wire");
            tokio::spawn(async move {
                full.notified().await;
                let mut position = 0;
                while far.fill().await.expect("bytes") > 0 {
                    check_input(&mut far, 7, &mut position);
                }
                position
            })
        };
        let mut sent = 0;
        while sent < TOTAL {
            near.send(&marks(7, sent, 100_000));
            sent += 100_000;
            if poll_once(|cx| near.poll_drained(cx, 300_000))
                .await
                .is_pending()
            {
                full.notify_one();
                near.drained(300_000).await.expect("drained");
                assert!(near.unsent() <= 300_000);
            }
        }
        near.drained(0).await.expect("drained");
        assert_eq!(near.unsent(), 0);
        drop(near);
        assert_eq!(reader.await.expect("the reader"), TOTAL);
        assert!(
            send_stats().refused > refused_before,
            "the kernel never refused a batched send"
        );
    });
}

#[test]
fn refused_output_goes_on_while_the_owner_only_reads() {
    in_all_ways(|| async {
        const TOTAL: usize = 20_000_000;
        let (mut near, mut far) = tcp_pair().await;
        near.send(&marks(1, 0, TOTAL));
        let reader = tokio::spawn(async move {
            let mut received = vec![0; TOTAL];
            far.read_exact(&mut received).await.expect("bytes");
            far.write_all(b"done").await.expect("written");
            assert!(received == marks(1, 0, TOTAL));
        });
        assert_eq!(near.fill().await.expect("bytes"), 4);
        assert_eq!(near.unsent(), 0);
        reader.await.expect("the reader");
    });
}

#[test]
fn closing_sends_what_is_queued_first() {
    in_all_ways(|| async {
        let (mut near, mut far) = tcp_pair().await;
        near.send(b"ERROR");
        near.send(b" 57P01");
        drop(near);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("bytes");
        assert_eq!(received, b"ERROR 57P01");
    });
}

#[test]
fn finishing_waits_for_the_peer_and_so_loses_nothing() {
    in_all_ways(|| async {
        let (mut near, mut far) = tcp_pair().await;
        // Bytes that nobody reads would turn a close into a reset.
        far.write_all(b"a request that is never read")
            .await
            .expect("written");
        near.send(&marks(3, 0, 3_000_000));
        let finished = tokio::spawn(near.finish());
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("bytes");
        assert!(received == marks(3, 0, 3_000_000));
        drop(far);
        finished.await.expect("a task").expect("finished");
    });
}

#[test]
fn a_reused_descriptor_never_gets_bytes_of_another() {
    in_all_ways(|| async {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (mut open, mut ends, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..4_000u64 {
            let (mut wire, far) = unix_pair();
            descriptors.push(wire.fd());
            wire.send(&number.to_be_bytes());
            ends.push((number, far));
            open.push(wire);
            while open.len() > 100 || (random.random_bool(0.4) && !open.is_empty()) {
                drop(open.swap_remove(random.random_range(0..open.len())));
            }
            // Ends are read late, when their wire's descriptor has been used again.
            while ends.len() > 300 {
                let (number, mut far) = ends.swap_remove(random.random_range(0..ends.len()));
                flush_now();
                let mut received = [0; 8];
                far.read_exact(&mut received).await.expect("bytes");
                assert_eq!(u64::from_be_bytes(received), number);
                drop(open.pop());
            }
        }
        drop(open);
        for (number, mut far) in ends {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.expect("bytes");
            assert_eq!(received, number.to_be_bytes());
        }
        descriptors.sort_unstable();
        descriptors.dedup();
        assert!(descriptors.len() < 2_000, "descriptors were not reused");
    });
}

#[test]
fn a_runtime_too_busy_to_park_still_sends() {
    in_all_ways(|| async {
        let (mut near, far) = tcp_pair().await;
        let received = Arc::new(AtomicBool::new(false));
        let reader = {
            let received = received.clone();
            let far = far.into_std().expect("a socket");
            far.set_nonblocking(false).expect("set");
            far.set_read_timeout(Some(Duration::from_secs(20)))
                .expect("set");
            std::thread::spawn(move || {
                let result = std::io::Read::read_exact(&mut &far, &mut [0; 4]);
                received.store(true, Ordering::Release);
                result
            })
        };
        near.send(b"ping");
        let start = Instant::now();
        while !received.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        reader.join().expect("the reader").expect("bytes");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "only the timeout ended the wait"
        );
    });
}

#[test]
fn a_large_batch_is_sent_before_the_task_ends_its_turn() {
    in_all_ways(|| async {
        let (mut wires, ends): (Vec<_>, Vec<_>) =
            (0..batch::MAX_QUEUED).map(|_| unix_pair()).unzip();
        wires.iter_mut().for_each(|wire| wire.send(b"x"));
        assert!(wires.iter().all(|wire| wire.unsent() == 0), "by count");
        let (mut near, _far) = unix_pair();
        near.send(&[0; 64 * 1024]);
        assert_eq!(near.unsent(), 0, "by bytes");
        drop(ends);
    });
}

#[test]
fn many_connections_keep_order_and_ownership_under_random_use() {
    struct Pair {
        stream: u64,
        near: Wire,
        far: Wire,
        sent: u64,
        seen: u64,
    }
    async fn pair(stream: u64) -> Pair {
        let (near, far) = if stream.is_multiple_of(4) {
            let (near, far) = tcp_pair().await;
            (near, Wire::tcp(far).expect("a wire"))
        } else {
            let (near, far) = unix_pair();
            (near, Wire::unix(far))
        };
        Pair {
            stream,
            near,
            far,
            sent: 0,
            seen: 0,
        }
    }
    async fn read_some(pair: &mut Pair) {
        if let Poll::Ready(result) = poll_once(|cx| pair.far.poll_fill(cx)).await {
            result.expect("bytes");
        }
        check_input(&mut pair.far, pair.stream, &mut pair.seen);
    }
    /// Reads the rest to the end; the sender is dropped when the kernel has everything but what one send may hold.
    async fn end(pair: Pair) {
        let Pair {
            stream,
            mut near,
            mut far,
            sent,
            mut seen,
        } = pair;
        let sender = async move { near.drained(0).await.expect("drained") };
        let receiver = async move {
            while far.fill().await.expect("bytes") > 0 {
                check_input(&mut far, stream, &mut seen);
            }
            assert_eq!(seen, sent, "stream {stream}");
        };
        tokio::join!(sender, receiver);
    }
    in_all_ways(|| async {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut pairs = Vec::new();
        for stream in 0..300 {
            pairs.push(pair(stream).await);
        }
        let mut streams = 300;
        for _ in 0..30_000 {
            let at = random.random_range(0..pairs.len());
            let one = &mut pairs[at];
            match random.random_range(0..100) {
                0..45 => {
                    let len = if random.random_bool(0.02) {
                        400_000
                    } else {
                        random.random_range(1..2_000)
                    };
                    let bytes = marks(one.stream, one.sent, len);
                    one.sent += len as u64;
                    match random.random_bool(0.5) {
                        true => one.near.send(&bytes),
                        false => one.near.with_output(|buf| buf.extend_from_slice(&bytes)),
                    }
                }
                45..85 => read_some(one).await,
                85..92 => drop(poll_once(|cx| one.near.poll_drained(cx, 0)).await),
                92..96 => tokio::task::yield_now().await,
                96..98 => flush_now(),
                _ => {
                    let ended = std::mem::replace(one, pair(streams).await);
                    streams += 1;
                    end(ended).await;
                }
            }
        }
        for one in pairs {
            end(one).await;
        }
    });
}

#[test]
fn the_end_and_a_reset_are_told_apart() {
    in_all_ways(|| async {
        let (mut near, mut far) = tcp_pair().await;
        far.write_all(b"bye").await.expect("written");
        drop(far);
        assert_eq!(near.fill().await.expect("bytes"), 3);
        assert_eq!(near.fill().await.expect("the end"), 0);
        assert_eq!(near.fill().await.expect("the end, again"), 0);

        let (mut near, far) = tcp_pair().await;
        far.set_zero_linger().expect("set");
        drop(far);
        assert_eq!(
            near.fill().await.expect_err("reset").kind(),
            io::ErrorKind::ConnectionReset
        );
        near.send(b"x");
        assert!(near.drained(0).await.is_err());
        near.send(b"y");
        assert_eq!(near.unsent(), 0, "nothing is kept for a broken connection");
    });
}

#[test]
fn the_last_words_of_a_peer_come_before_the_failed_send() {
    in_all_ways(|| async {
        let (mut near, mut far) = unix_pair();
        far.write_all(b"57P01").await.expect("written");
        drop(far);
        near.send(b"select 1");
        flush_now();
        assert_eq!(
            near.send_error().expect("failed").kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(near.fill().await.expect("bytes"), 5);
        assert_eq!(near.input(), b"57P01");
    });
}

#[test]
fn a_failed_batched_send_wakes_the_reader() {
    in_all_ways(|| async {
        let (mut near, far) = unix_pair();
        // The peer stays open and silent, but takes nothing.
        socket2::SockRef::from(&far)
            .shutdown(Shutdown::Read)
            .expect("shut down");
        near.send(b"x");
        assert_eq!(
            near.fill().await.expect_err("failed").kind(),
            io::ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn half_messages_gather_in_the_input() {
    in_all_ways(|| async {
        let (mut near, mut far) = tcp_pair().await;
        let message = marks(9, 0, 200);
        for (at, byte) in message.iter().enumerate() {
            far.write_all(&[*byte]).await.expect("written");
            while near.input().len() <= at {
                near.fill().await.expect("bytes");
            }
        }
        assert_eq!(near.input(), message);
    });
}

#[test]
fn news_are_noticed_without_losing_a_waiting_reader() {
    in_all_ways(|| async {
        let (mut near, mut far) = tcp_pair().await;
        assert!(poll_once(|cx| near.poll_fill(cx)).await.is_pending());
        assert!(!near.has_news());
        let (read, _) = tokio::join!(
            async {
                assert!(poll_once(|cx| near.poll_fill(cx)).await.is_pending());
                assert!(!near.has_news());
                near.fill().await
            },
            far.write_all(b"x")
        );
        assert_eq!(read.expect("bytes"), 1);
        assert!(near.has_news(), "unconsumed input is news");
        near.consume(1);
        assert!(!near.has_news());
        drop(far);
        let start = Instant::now();
        while !near.has_news() {
            assert!(start.elapsed() < Duration::from_secs(5), "the end is news");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_read_that_exactly_fills_its_room_leaves_no_false_news() {
    in_all_ways(|| async {
        let (mut near, mut far) = unix_pair();
        far.write_all(&vec![0; buffer::BUFFER])
            .await
            .expect("written");
        while near.input().len() < buffer::BUFFER {
            near.fill().await.expect("bytes");
        }
        near.consume(buffer::BUFFER);
        assert!(!near.has_news());
    });
}

#[test]
fn other_wires_may_be_used_while_a_message_is_encoded() {
    in_all_ways(|| async {
        let (mut near, mut far) = unix_pair();
        let (mut other, mut other_far) = unix_pair();
        near.with_output(|buf| {
            buf.extend_from_slice(b"one");
            other.send(b"two");
            flush_now();
            buf.extend_from_slice(b"three");
        });
        let (mut received, mut other_received) = ([0; 8], [0; 3]);
        far.read_exact(&mut received).await.expect("bytes");
        other_far
            .read_exact(&mut other_received)
            .await
            .expect("bytes");
        assert_eq!((&received, &other_received), (b"onethree", b"two"));
    });
}

#[test]
fn a_panic_while_encoding_sends_no_half_message() {
    in_all_ways(|| async {
        let (mut near, mut far) = unix_pair();
        let encode = std::panic::AssertUnwindSafe(|| {
            near.with_output(|buf| {
                buf.extend_from_slice(b"half");
                panic!("expected by this test");
            })
        });
        std::panic::catch_unwind(encode).expect_err("panicked");
        assert!(near.send_error().is_some());
        drop(near);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("bytes");
        assert_eq!(received, b"");
    });
}

#[test]
fn on_another_thread_a_wire_panics_and_closes_without_giving_its_descriptor_away() {
    in_all_ways(|| async {
        let (mut near, mut far) = unix_pair();
        let fd = near.fd();
        let elsewhere = std::thread::spawn(move || {
            let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| near.send(b"x")));
            assert!(used.is_err());
        });
        elsewhere.join().expect("the other thread");
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("bytes");
        assert_eq!(received, b"");
        for _ in 0..10 {
            let (wire, far) = unix_pair();
            assert!(wire.fd() != fd && std::os::fd::AsRawFd::as_raw_fd(&far) != fd);
            std::mem::forget((wire, far));
        }
    });
}

#[test]
fn a_local_runtime_batches_too() {
    let run = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        install(builder.enable_all(), SendMode::Plain);
        let runtime = builder.build_local(Default::default()).expect("a runtime");
        runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(send_way(), SendWay::Plain);
            let (mut near, mut far) = unix_pair();
            near.send(b"ping");
            assert_eq!(near.unsent(), 4, "it waits for the end of the turn");
            let mut received = [0; 4];
            far.read_exact(&mut received).await.expect("bytes");
            assert_eq!(&received, b"ping");
        });
        drop(runtime);
        assert_eq!(send_way(), SendWay::Immediate);
    };
    std::thread::spawn(run).join().expect("the thread");
}

#[test]
fn an_idle_wire_is_a_few_words() {
    println!("{} and {} bytes", size_of::<Wire>(), size_of::<Outbox>());
    assert!(size_of::<Wire>() <= 112, "{}", size_of::<Wire>());
    assert!(size_of::<Outbox>() <= 88, "{}", size_of::<Outbox>());
}
