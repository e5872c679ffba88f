//! The traps of batched sends, on real sockets, with both ways of sending and without a batch.

use std::future::Future;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

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
