//! Streams within a process, between a wire and a task, with both ways of sending and without a batch.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{in_all_ways, marks, poll_once};
use super::*;

/// More than a stream holds.
const LARGE: usize = 1024 * 1024;

#[test]
fn bytes_keep_their_order_in_both_directions_though_neither_end_is_quick() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    in_all_ways(move || async move {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        let (there, back) = (marks(1, 0, LARGE), marks(2, 0, LARGE));
        let (sent, answered) = (there.clone(), back.clone());
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut read, mut written) = (Vec::new(), 0);
            while read.len() < sent.len() || written < answered.len() {
                let mut room = vec![0; random.random_range(1..40_000)];
                let end = answered.len().min(written + random.random_range(0..40_000));
                if read.len() < sent.len() {
                    let n = far.read(&mut room).await.expect("bytes");
                    read.extend_from_slice(&room[..n]);
                }
                if written < end {
                    far.write_all(&answered[written..end]).await.expect("read");
                    written = end;
                }
            }
            assert!(read == sent, "what was sent there arrives");
            far
        });
        near.send(&there);
        let mut read = Vec::new();
        while read.len() < back.len() {
            assert!(near.fill().await.expect("bytes") > 0);
            read.extend_from_slice(near.input());
            near.consume(near.input().len());
        }
        assert!(read == back, "what was sent back arrives");
        near.drained(0).await.expect("taken");
        let far = task.await.expect("the task");
        drop(far);
        assert_eq!(near.fill().await.expect("an end"), 0);
    });
}

#[test]
fn a_writer_waits_for_a_reader_who_does_not_read() {
    in_all_ways(|| async {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        near.send(&marks(1, 0, LARGE));
        flush_now();
        assert!(near.unsent() > LARGE / 2, "the rest is held back");
        assert!(poll_once(|cx| near.poll_drained(cx, 0)).await.is_pending());
        let mut read = vec![0; LARGE];
        let (_, drained) = tokio::join!(far.read_exact(&mut read), near.drained(0));
        drained.expect("taken");
        assert!(read == marks(1, 0, LARGE));
    });
}

#[test]
fn what_was_sent_before_the_end_is_read_and_then_the_end() {
    in_all_ways(|| async {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        near.send(b"last words");
        drop(near);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.expect("an end");
        assert_eq!(read, b"last words");
        let refused = far.write_all(b"x").await.expect_err("nobody reads");
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn sending_to_who_has_left_fails_when_his_last_words_are_read() {
    in_all_ways(|| async {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        far.write_all(b"57P01").await.expect("room");
        drop(far);
        near.send(b"x");
        flush_now();
        assert_eq!(near.fill().await.expect("bytes"), 5);
        assert_eq!(near.input(), b"57P01");
        assert!(near.send_error().is_some());
    });
}

#[test]
fn the_end_is_seen_though_nobody_reads() {
    in_all_ways(|| async {
        let (near, far) = pipe();
        let (mut near, watch) = (Wire::pipe(near), far.watch());
        let ended = watch.ended();
        tokio::pin!(ended);
        near.send(b"something");
        flush_now();
        assert!(poll_once(|cx| ended.as_mut().poll(cx)).await.is_pending());
        assert!(!near.has_news());
        let start = Instant::now();
        tokio::join!(async { drop(near) }, ended);
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(far);
    });
}

#[test]
fn breaking_it_off_is_an_end_for_both() {
    in_all_ways(|| async {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        let breaker = near.breaker();
        let broken = async { breaker.break_off() };
        let (read, ()) = tokio::join!(near.fill(), broken);
        assert_eq!(read.expect("an end"), 0);
        assert_eq!(far.read(&mut [0; 8]).await.expect("an end"), 0);
    });
}

#[test]
fn news_are_noticed() {
    in_all_ways(|| async {
        let (near, mut far) = pipe();
        let mut near = Wire::pipe(near);
        assert!(poll_once(|cx| near.poll_fill(cx)).await.is_pending());
        assert!(!near.has_news());
        far.write_all(b"x").await.expect("room");
        assert!(near.has_news());
        assert_eq!(near.fill().await.expect("bytes"), 1);
        near.consume(1);
        assert!(!near.has_news());
        drop(far);
        assert!(near.has_news(), "the end is news");
    });
}
