//! TLS between router and server: certificates that do not do, somebody who talks both out of it, and ends that are none.

use crate::ask::{ask, both, say};
use crate::world::{SOON, World};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mothership_tests::cluster::Cluster;
use mothership_tests::message::{self, SSL_REQUEST, V3_0};
use mothership_tests::proof::Verdict;
use mothership_tests::proxy::{Effect, End, Side, Trap};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Folder, Proxy, Router, Wire, poll_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the certificate is for.
const NAME: &str = "shard.test";

/// A certificate that is its own authority, and its key, in PEM.
struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    /// Good until the end of this year.
    fn until(year: i32) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let made = params.self_signed(&key).unwrap();
        Certificate {
            certificate: pem("CERTIFICATE", made.der()),
            key: pem("PRIVATE KEY", &key.serialize_der()),
        }
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {what}-----\n{}\n-----END {what}-----\n",
        lines.join("\n")
    )
}

/// The server shows this certificate from now on.
fn show(server: &mut Cluster, shown: &Certificate) {
    let owner = std::fs::metadata(server.data()).unwrap();
    for (file, text) in [
        ("server.crt", &shown.certificate),
        ("server.key", &shown.key),
    ] {
        let path = server.data().join(file);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    server.configure(&[("ssl", "on")]).unwrap();
    let on = || server.sql("postgres", "SHOW ssl").unwrap() == "on";
    assert!(poll_until(SOON, on));
}

/// A router before one server of the fleet.
fn router(port: u16, tls: &str) -> Router {
    let config = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ntimeout = \"5s\"\n\
         [failover]\nwindow = \"1s\"\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[shard]]\nname = \"s1\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n{tls}\n"
    );
    let router = Router::launch(&config);
    let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, router.port())).is_ok();
    assert!(poll_until(SOON, listens), "{}", router.log());
    router
}

/// Whether a client of it is served, and what it is told.
fn served(router: &Router, database: &str) -> Result<(), String> {
    let endpoint = router.endpoint(USER, PASSWORD, database);
    let mut wire = Wire::connect(endpoint.port);
    wire.set_limit(SOON);
    wire.try_login(&endpoint, V3_0, &[])
        .map_err(|error| error.to_string())?;
    let answer = say(
        &mut wire,
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    match answer.rows() == ["t"] {
        true => Ok(()),
        false => Err(answer.to_string()),
    }
}

/// 54: refused as it is configured, and never in clear text.
pub fn tls(world: &mut World<'_>, verdict: &mut Verdict) {
    let folder = Folder::new("tls");
    let (good, expired, other) = (
        Certificate::until(2090),
        Certificate::until(2021),
        Certificate::until(2090),
    );
    let file = |name: &str, certificate: &Certificate| {
        let path = folder.path().join(name);
        std::fs::write(&path, &certificate.certificate).unwrap();
        path
    };
    let (known, old, foreign) = (
        file("good", &good),
        file("expired", &expired),
        file("other", &other),
    );
    let full = |authority: &Path| {
        let authority = authority.display();
        format!("tls = \"verify-full\"\ntls_ca = \"{authority}\"\ntls_name = \"{NAME}\"")
    };
    let database = world.database.clone();
    let server = &mut world.ground.fleet.shards[0].primary;
    let port = server.port();
    show(server, &good);
    let right = served(&router(port, &full(&known)), &database);
    verdict.claim(
        right.is_ok(),
        "a good certificate serves",
        format!("{right:?}"),
    );
    for (what, shown, tls) in [
        ("of an authority that is not known", &good, full(&foreign)),
        (
            "for another name",
            &good,
            full(&known).replace(NAME, "other.test"),
        ),
        ("that has expired", &expired, full(&old)),
    ] {
        show(server, shown);
        let router = router(port, &tls);
        let refused = served(&router, &database);
        let claim = format!("a certificate {what} is refused");
        verdict.claim(refused.is_err(), &claim, format!("{refused:?}"));
        let plain = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
            WHERE application_name LIKE 'mothership%' AND ssl";
        let connected = server.sql("postgres", plain).unwrap();
        verdict.claim(connected == "0", "and nobody is logged in", connected);
    }
    show(server, &good);
    for tls in ["tls = \"require\"".to_owned(), full(&known)] {
        let between = Stripping::new();
        let router = router(between.port, &tls);
        let refused = served(&router, &database);
        verdict.claim(
            refused.is_err(),
            "who is told that there is no TLS gives up",
            format!("{refused:?}"),
        );
        let said = between.said.lock().unwrap();
        let clear = said
            .iter()
            .find(|said| **said != message::request(SSL_REQUEST));
        let silent = clear.is_none() && !said.is_empty();
        verdict.claim(silent, "and says nothing in clear text", said.len());
    }
    ends(port, &full(&known), &database, verdict);
    let server = &mut world.ground.fleet.shards[0].primary;
    server.configure(&[("ssl", "off")]).unwrap();
    let off = || server.sql("postgres", "SHOW ssl").unwrap() == "off";
    assert!(poll_until(SOON, off));
    world.claim_served(verdict);
}

/// Streams that end or change on their way.
fn ends(port: u16, tls: &str, database: &str, verdict: &mut Verdict) {
    let way = Proxy::to(port);
    let router = router(way.port(), tls);
    let endpoint = router.endpoint(USER, PASSWORD, database);
    let sql = "SELECT repeat('t', 1000) FROM generate_series(1, 2000)";
    for (what, effect) in [
        ("without a word of TLS", Effect::End(End::Finish)),
        ("by a reset", Effect::End(End::Reset)),
        ("as a bit is changed", Effect::Flip { at: 0, mask: 1 }),
    ] {
        for request in both(sql) {
            let mut wire = Wire::login(&endpoint);
            wire.set_limit(SOON);
            // Its server is there before the trap is.
            say(&mut wire, "SELECT 1");
            way.set(Trap::after_bytes(Side::Server, 300_000, effect));
            let answer = ask(&mut wire, &request);
            let sprung = way.springs_within(SOON);
            let told = answer.errors() == ["08006"] && !answer.is_done();
            let claim = format!("what ends {what} is an error, and nothing but right rows");
            let right = answer.rows().iter().all(|row| *row == "t".repeat(1000));
            verdict.claim(sprung && told && right, &claim, answer);
            let served = poll_until(SOON, || say(&mut wire, "SELECT 1").rows() == ["1"]);
            verdict.claim(served, "and the session goes on", served);
        }
    }
}

/// Somebody who answers for a server that it knows no TLS, and hears what is said to that.
struct Stripping {
    port: u16,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Stripping {
    fn new() -> Stripping {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        // It ends with the process: few connect.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut chunk = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut chunk) {
                        heard.lock().unwrap().push(chunk[..n].to_vec());
                        let _ = stream.write_all(b"N");
                    }
                });
            }
        });
        Stripping { port, said }
    }
}
