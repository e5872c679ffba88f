//! Tests of TLS on a `Wire`, with certificates that the tests generate.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{check_input, in_all_ways, marks, tcp_pair};
use super::*;

fn tls_configs() -> (
    Arc<ServerConfig>,
    Arc<ClientConfig>,
    CertificateDer<'static>,
) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    server.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"postgresql".to_vec()];
    (Arc::new(server), Arc::new(client), cert.der().clone())
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// A server's and a client's end after the handshake.
async fn tls_pair() -> (Wire, Wire) {
    let (server_config, client_config, _) = tls_configs();
    let (mut client, server) = tcp_pair().await;
    let mut server = Wire::tcp(server).expect("a wire");
    let (accepted, connected) = tokio::join!(
        server.accept_tls(server_config),
        client.connect_tls(client_config, server_name())
    );
    accepted.expect("accepted");
    connected.expect("connected");
    (server, client)
}

/// Sends `total` marked bytes in pieces while reading as many of the other stream.
async fn exchange(
    wire: &mut Wire,
    own: u64,
    other: u64,
    total: u64,
    mut each: impl FnMut(&mut Wire),
) {
    let (mut sent, mut seen) = (0, 0);
    poll_fn(|cx| {
        loop {
            let mut moved = false;
            if sent < total && wire.poll_drained(cx, 200_000)?.is_ready() {
                wire.send(&marks(own, sent, 50_000));
                sent += 50_000;
                each(wire);
                moved = true;
            }
            if seen < total && wire.poll_fill(cx)?.is_ready() {
                check_input(wire, other, &mut seen);
                moved = true;
            }
            if !moved {
                break;
            }
        }
        if sent < total || seen < total {
            return Poll::Pending;
        }
        wire.poll_drained(cx, 0)
    })
    .await
    .expect("exchanged");
}

#[test]
fn bytes_pass_both_ways_and_the_handshake_is_reported() {
    in_all_ways(|| async {
        let (server_config, client_config, certificate) = tls_configs();
        let (mut client, server) = tcp_pair().await;
        let mut server = Wire::tcp(server).expect("a wire");
        // Plain text that was queued before the handshake is sent before the first TLS record.
        server.send(b"S");
        let (accepted, connected) = tokio::join!(server.accept_tls(server_config), async {
            assert_eq!(client.fill().await.expect("bytes"), 1);
            assert_eq!(client.input(), b"S");
            client.consume(1);
            client.connect_tls(client_config, server_name()).await
        });
        accepted.expect("accepted");
        connected.expect("connected");
        let info = client.tls().expect("encrypted");
        assert_eq!(
            (info.version, info.alpn.as_deref()),
            ("TLSv1.3", Some(&b"postgresql"[..]))
        );
        assert_eq!(info.peer_certificate.as_ref(), Some(&certificate));
        assert_eq!(info.server_end_point.as_ref().map(Vec::len), Some(32));
        assert_eq!(info.server_end_point, server_end_point(&certificate));
        assert_eq!(
            server.tls().expect("encrypted").server_name.as_deref(),
            Some("localhost")
        );
        assert!(
            client.accept_tls(tls_configs().0).await.is_err(),
            "encrypted twice"
        );
        tokio::join!(
            exchange(&mut client, 1, 2, 3_000_000, |_| {}),
            exchange(&mut server, 2, 1, 3_000_000, |_| {})
        );
    });
}

#[test]
fn key_updates_in_the_middle_of_large_transfers_do_not_block_them() {
    in_all_ways(|| async {
        let (mut server, mut client) = tls_pair().await;
        let update = |wire: &mut Wire| {
            let conn = wire.conn;
            batch_of(wire.thread, |batch| {
                batch
                    .outbox(conn)
                    .tls
                    .as_mut()
                    .expect("encrypted")
                    .update_keys();
                batch.queue(conn, 0)
            })
            .wake();
        };
        let mut pieces = 0;
        let sometimes = move |wire: &mut Wire| {
            pieces += 1;
            if pieces % 10 == 0 {
                update(wire);
            }
        };
        tokio::join!(
            exchange(&mut client, 1, 2, 5_000_000, sometimes),
            exchange(&mut server, 2, 1, 5_000_000, sometimes)
        );
    });
}

#[test]
fn a_slow_reader_under_tls_holds_up_the_sender_and_loses_nothing() {
    in_all_ways(|| async {
        const TOTAL: usize = 20_000_000;
        let (mut server, mut client) = tls_pair().await;
        server.send(&marks(5, 0, TOTAL));
        flush_now();
        assert!(server.unsent() > 0, "the kernel took 20 MB at once");
        let reader = tokio::spawn(async move {
            let mut seen = 0;
            while seen < TOTAL as u64 {
                assert!(client.fill().await.expect("bytes") > 0);
                check_input(&mut client, 5, &mut seen);
            }
            client
        });
        server.drained(0).await.expect("drained");
        reader.await.expect("the reader");
    });
}

#[test]
fn plain_text_before_the_handshake_is_refused() {
    // See: CVE-2021-23214, CVE-2021-23222
    in_all_ways(|| async {
        let (server_config, client_config, _) = tls_configs();
        let (mut near, mut far) = tcp_pair().await;
        far.write_all(b"injected").await.expect("written");
        near.fill().await.expect("bytes");
        let refused = near.accept_tls(server_config).await.expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "received plain text before the TLS handshake"
        );
        assert!(
            near.connect_tls(client_config, server_name())
                .await
                .is_err()
        );
        assert!(near.tls().is_none());
    });
}

#[test]
fn direct_tls_takes_the_input_as_the_start_of_the_handshake() {
    in_all_ways(|| async {
        let (server_config, client_config, _) = tls_configs();
        let (mut client, server) = tcp_pair().await;
        let mut server = Wire::tcp(server).expect("a wire");
        let accept = async {
            server.fill().await.expect("bytes");
            assert_eq!(server.input()[0], 0x16);
            server
                .accept_direct_tls(server_config)
                .await
                .expect("accepted");
        };
        let (_, connected) = tokio::join!(accept, client.connect_tls(client_config, server_name()));
        connected.expect("connected");
        client.send(b"hello");
        assert_eq!(server.fill().await.expect("bytes"), 5);
    });
}

#[test]
fn a_client_that_does_not_trust_the_server_tells_it() {
    in_all_ways(|| async {
        let (server_config, _, _) = tls_configs();
        let (_, wrong_client, _) = tls_configs();
        let (mut client, server) = tcp_pair().await;
        let mut server = Wire::tcp(server).expect("a wire");
        let (accepted, connected) = tokio::join!(server.accept_tls(server_config), async {
            let connected = client.connect_tls(wrong_client, server_name()).await;
            drop(client);
            connected
        });
        assert_eq!(
            connected.expect_err("not trusted").kind(),
            io::ErrorKind::InvalidData
        );
        assert!(
            accepted
                .expect_err("an alert")
                .to_string()
                .contains("alert")
        );
    });
}

#[test]
fn a_closed_connection_reads_as_end_of_file_with_and_without_close_notify() {
    in_all_ways(|| async {
        let (mut server, mut client) = tls_pair().await;
        server.send(b"last words");
        drop(server);
        assert_eq!(client.fill().await.expect("bytes"), 10);
        assert_eq!(client.fill().await.expect("the end"), 0);

        let (server, mut client) = tls_pair().await;
        server.socket.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(client.fill().await.expect("the end"), 0);

        let (mut server, client) = tls_pair().await;
        server.send(b"all of it");
        let (finished, ended) = tokio::join!(server.finish(), async {
            let mut client = client;
            while client.fill().await.expect("bytes") > 0 {}
            client.input().to_vec()
        });
        finished.expect("finished");
        assert_eq!(ended, b"all of it");
    });
}

#[test]
fn tls_records_without_application_data_are_not_reported_as_input() {
    in_all_ways(|| async {
        // The server has sent session tickets, which the client has not read yet.
        let (mut server, mut client) = tls_pair().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!client.has_news());
        server.send(b"x");
        flush_now();
        let start = std::time::Instant::now();
        while !client.has_news() {
            assert!(start.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.input(), b"x");
    });
}

#[test]
fn garbage_instead_of_a_handshake_is_an_error() {
    in_all_ways(|| async {
        let (server_config, _, _) = tls_configs();
        let (mut near, mut far) = tcp_pair().await;
        let (accepted, _) =
            tokio::join!(near.accept_tls(server_config), far.write_all(&[b'Q'; 5000]));
        assert_eq!(
            accepted.expect_err("garbage").kind(),
            io::ErrorKind::InvalidData
        );
        drop(near);
        let mut alert = Vec::new();
        let _ = far.read_to_end(&mut alert).await;
    });
}

#[test]
fn tls_records_are_at_most_8_kib_and_can_be_received_byte_by_byte() {
    let (server_config, client_config, _) = tls_configs();
    let mut server = Tls::server(server_config).expect("a server");
    let mut client = Tls::client(client_config, server_name()).expect("a client");
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let (mut at_client, mut at_server) = (Input::default(), Input::default());
    let text = marks(4, 0, 100_000);
    while server.is_handshaking() || client.is_handshaking() {
        client.seal(&mut to_server).expect("sealed");
        for byte in to_server.drain(..) {
            server.receive(&[byte], &mut at_server).expect("received");
        }
        server.seal(&mut to_client).expect("sealed");
        for byte in to_client.drain(..) {
            client.receive(&[byte], &mut at_client).expect("received");
        }
    }
    server.plain.extend_from_slice(&text);
    server.seal(&mut to_client).expect("sealed");
    let (mut rest, mut records) = (&to_client[..], 0);
    while let Some((header, body)) = rest.split_first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert!(len <= 8 * 1024 + 17, "a record of {len} bytes");
        rest = &body[len..];
        records += 1;
    }
    assert!((13..20).contains(&records), "{records} records");
    for byte in to_client {
        client.receive(&[byte], &mut at_client).expect("received");
    }
    assert!(at_client.bytes() == text);
}

#[test]
fn server_end_point_hashes_by_the_signature_algorithm_and_returns_none_if_it_is_unknown() {
    let (_, _, certificate) = tls_configs();
    assert_eq!(
        server_end_point(&certificate).map(|hash| hash.len()),
        Some(32)
    );
    for cut in 0..certificate.len().min(400) {
        let broken = CertificateDer::from(certificate[..cut].to_vec());
        assert_eq!(server_end_point(&broken), None, "cut after {cut} bytes");
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let ed25519 = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .expect("parameters")
        .self_signed(&key);
    assert_eq!(
        server_end_point(ed25519.expect("a certificate").der()),
        None
    );
}

#[test]
fn common_name_returns_the_first_common_name_or_an_error() {
    use rcgen::{DnType, DnValue};
    let key = rcgen::KeyPair::generate().expect("a key");
    let named = |names: &[(DnType, DnValue)]| {
        let mut made = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        made.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            made.distinguished_name.push(kind.clone(), value.clone());
        }
        made.self_signed(&key).expect("a certificate").der().clone()
    };
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let of = |names: &[(DnType, DnValue)]| common_name(&named(names)).map(<[u8]>::to_vec);
    let (name, unit) = (DnType::CommonName, DnType::OrganizationalUnitName);
    assert_eq!(of(&[(name.clone(), utf8("Ann"))]), Ok(b"Ann".to_vec()));
    let behind = [(unit.clone(), utf8("eve")), (name.clone(), utf8("ann"))];
    assert_eq!(of(&behind), Ok(b"ann".to_vec()));
    assert_eq!(of(&[(unit, utf8("ann"))]), Err(Nameless::Absent));
    assert_eq!(of(&[(name.clone(), utf8(""))]), Err(Nameless::Absent));
    assert_eq!(of(&[]), Err(Nameless::Absent));
    let hidden = of(&[(name.clone(), utf8("ann\0.eve"))]);
    assert_eq!(hidden, Err(Nameless::ZeroByte));
    let certificate = named(&[(name, utf8("ann"))]);
    for cut in 0..certificate.len().min(150) {
        let broken = CertificateDer::from(certificate[..cut].to_vec());
        let found = common_name(&broken);
        assert!(
            matches!(found, Err(Nameless::Absent) | Ok(b"ann")),
            "cut after {cut} bytes"
        );
    }
}
