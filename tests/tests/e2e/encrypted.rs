//! Servers that speak TLS only: all connections of the router, those of clients and
//! its own, go by what a server's `tls` says.

use mothership_tests::cluster::Cluster;
use mothership_tests::fleet::Shard;
use mothership_tests::message::{self, SSL_REQUEST, V3_0};
use mothership_tests::router::binary;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Folder, Router, Wire, connect, poll_until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Two clusters with a certificate for `shard.test`, which refuse what is not encrypted.
struct Encrypted {
    fleet: Fleet,
    authority: PathBuf,
    folder: Folder,
}

impl Encrypted {
    fn new() -> Encrypted {
        let folder = Folder::new("encrypted");
        let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
        let mut openssl = Command::new("openssl");
        let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shard.test \
                       -addext subjectAltName=DNS:shard.test -addext basicConstraints=critical,CA:FALSE";
        openssl.args(request.split_whitespace());
        openssl
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key);
        let made = openssl.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut fleet = Fleet::new(2, 0);
        for shard in &mut fleet.shards {
            let cluster = &mut shard.primary;
            for (from, to) in [(&certificate, "server.crt"), (&key, "server.key")] {
                let to = cluster.data().join(to);
                std::fs::copy(from, &to).unwrap();
                give(cluster, &to);
            }
            let rules = "local all all trust\nhostssl all all all scram-sha-256\n";
            let hba = cluster.data().join("pg_hba.conf");
            std::fs::write(&hba, rules).unwrap();
            cluster.configure(&[("ssl", "on")]).unwrap();
            let on = || cluster.sql("postgres", "SHOW ssl").unwrap() == "on";
            assert!(poll_until(SOON, on));
        }
        Encrypted {
            fleet,
            authority: certificate,
            folder,
        }
    }

    /// A configuration for these servers with lines for each of them.
    fn config(&self, tls: &str) -> String {
        let mut config = format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n[control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[table]]\nname = \"items\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n"
        );
        let authority = self.authority.display().to_string();
        for (number, shard) in self.fleet.shards.iter().enumerate() {
            config += &format!(
                "[[shard]]\nname = \"s{number}\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n{}\n",
                shard.primary.port(),
                tls.replace("@ca@", &authority)
            );
        }
        config
    }

    fn endpoint(&self, router: &Router) -> Endpoint {
        let direct = Shard::endpoint(&self.fleet.shards[0].primary);
        direct.at_port(router.port())
    }

    /// The same for a user whose verifier is the same on both.
    fn user(&self, router: &Router) -> Endpoint {
        let shards = &self.fleet.shards;
        let sql = |shard: &Shard, sql: &str| shard.primary.sql("postgres", sql).unwrap();
        let made = "CREATE ROLE asked LOGIN SUPERUSER PASSWORD 'open sesame'";
        sql(&shards[0], made);
        let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'asked'";
        let verifier = sql(&shards[0], verifier);
        let same = format!("CREATE ROLE asked LOGIN SUPERUSER PASSWORD '{verifier}'");
        sql(&shards[1], &same);
        Endpoint {
            user: "asked".into(),
            password: "open sesame".into(),
            ..self.endpoint(router)
        }
    }

    /// `check-config --connect`: whether it found no fault, and what it said.
    fn checked(&self, tls: &str) -> (bool, String) {
        let path = self.folder.path().join("mothership.toml");
        let port = self.fleet.shards[0].primary.port();
        // Nothing listens here; any port will do.
        std::fs::write(&path, self.config(tls).replace("@port@", &port.to_string())).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["check-config", "--connect", "--config"])
            .arg(&path);
        let out = command.output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (
            out.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

/// A file as the account of the server's data must have it.
fn give(cluster: &Cluster, file: &std::path::Path) {
    let owner = std::fs::metadata(cluster.data()).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
}

const WITH_NAME: &str = "tls = \"verify-full\"\ntls_ca = \"@ca@\"\ntls_name = \"shard.test\"";

#[tokio::test]
async fn every_connection_of_the_router_is_encrypted_where_the_server_asks_for_it() {
    let servers = Encrypted::new();
    let router = Router::start(&servers.config(WITH_NAME));
    // A login asks for the verifier, the first statement for the catalog, the commit for what recovery needs.
    let endpoint = servers.user(&router);
    let client = connect(&endpoint).await;
    client
        .batch_execute("CREATE TABLE items (id int8 PRIMARY KEY)")
        .await
        .unwrap();
    client
        .batch_execute("INSERT INTO items VALUES (1), (2), (3), (4), (5), (6), (7), (8)")
        .await
        .unwrap();
    let counts = servers.fleet.shards.iter().map(|shard| {
        let rows = shard.primary.sql("postgres", "SELECT count(*) FROM items");
        rows.unwrap().parse::<u32>().unwrap()
    });
    let counts: Vec<u32> = counts.collect();
    assert_eq!(counts.iter().sum::<u32>(), 8);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    for shard in &servers.fleet.shards {
        let by_name = "SELECT DISTINCT application_name, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE client_addr IS NOT NULL ORDER BY 1";
        let seen = shard.primary.sql("postgres", by_name).unwrap();
        assert!(seen.contains("mothership|t"), "{seen}");
        assert!(seen.contains("mothership health|t"), "{seen}");
        assert!(!seen.contains("|f"), "{seen}");
    }
    let (good, said) = servers.checked(WITH_NAME);
    assert!(good, "{said}");
}

#[tokio::test]
async fn control_connections_refuse_a_server_that_is_not_what_tls_asks_for() {
    let servers = Encrypted::new();
    for (tls, wanted) in [
        ("tls = \"prefer\"", true),
        ("tls = \"require\"", true),
        ("tls = \"verify-ca\"\ntls_ca = \"@ca@\"", true),
        (WITH_NAME, true),
        // Nobody has signed it; it is not for this address; it is not for this name; plain is refused by the server.
        ("tls = \"verify-ca\"", false),
        ("tls = \"verify-full\"\ntls_ca = \"@ca@\"", false),
        (
            "tls = \"verify-full\"\ntls_ca = \"@ca@\"\ntls_name = \"other.test\"",
            false,
        ),
        ("tls = \"disable\"", false),
    ] {
        let (good, said) = servers.checked(tls);
        assert_eq!(good, wanted, "{tls}: {said}");
        assert_eq!(
            said.contains("no control connection"),
            !wanted,
            "{tls}: {said}"
        );
    }
    // Nor does a client get through to such a server.
    let wrong = WITH_NAME.replace("shard.test", "other.test");
    let router = Router::launch(&servers.config(&wrong));
    let listening = poll_until(SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", router.port())).is_ok()
    });
    assert!(listening, "{}", router.log());
    let conninfo = servers.endpoint(&router).conninfo();
    let refused = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await;
    assert!(refused.is_err());
}

/// What stands between router and server, and writes down how each connection begins.
struct Between {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Answers requests for encryption with `N`, as somebody who wants to read along would.
    strips: bool,
    /// The first bytes of each connection, in chunks as they came.
    begins: Vec<Vec<Vec<u8>>>,
    open: Vec<TcpStream>,
}

/// Chunks of a connection that are kept.
const BEGIN: usize = 2;

impl Between {
    fn new(server: u16) -> Between {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let kept = Arc::clone(&seen);
        // It ends with the process: a test has few connections.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                pass(client, server, &kept);
            }
        });
        Between { port, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Closes all connections, as a restart of the server does.
    fn cut(&self) {
        for stream in std::mem::take(&mut self.seen().open) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes bytes both ways until one side closes.
fn pass(client: TcpStream, server: TcpStream, seen: &Arc<Mutex<Seen>>) {
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.begins.push(Vec::new());
        seen.open
            .extend([&client, &server].map(|s| s.try_clone().unwrap()));
        seen.begins.len() - 1
    };
    let both = [&client, &server].map(|s| s.try_clone().unwrap());
    let (kept, [to_client, from_server]) = (Arc::clone(seen), both);
    let ways = [(client, server, Some(kept)), (from_server, to_client, None)];
    for (mut from, mut to, kept) in ways {
        std::thread::spawn(move || {
            let mut chunk = [0; 1 << 14];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                if let Some(kept) = &kept {
                    let mut seen = kept.lock().unwrap();
                    let first = seen.begins[number].is_empty();
                    if seen.begins[number].len() < BEGIN {
                        seen.begins[number].push(chunk[..n].to_vec());
                    }
                    if seen.strips && first && chunk[..n] == message::request(SSL_REQUEST) {
                        let _ = from.write_all(b"N");
                        continue;
                    }
                }
                if to.write_all(&chunk[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}

// See: CVE-2020-25694
#[test]
fn what_tls_asks_for_holds_for_cancels_and_after_a_lost_connection() {
    let servers = Encrypted::new();
    let between: Vec<Between> = (servers.fleet.shards.iter())
        .map(|shard| Between::new(shard.primary.port()))
        .collect();
    let mut config = servers.config("tls = \"require\"");
    // Who finds no server that will do waits no longer.
    config += "\n[failover]\nwindow = \"1s\"\n";
    for (shard, between) in servers.fleet.shards.iter().zip(&between) {
        let (from, to) = (shard.primary.port(), between.port);
        config = config.replace(
            &format!("\"127.0.0.1:{from}\""),
            &format!("\"127.0.0.1:{to}\""),
        );
    }
    let router = Router::start(&config);
    let endpoint = servers.user(&router);
    let mut client = Wire::login(&endpoint);
    client.rows("CREATE TABLE items (id int8 PRIMARY KEY)");
    let connections = || -> usize { between.iter().map(|b| b.seen().begins.len()).sum() };
    let before = connections();
    client.send(&message::query("SELECT pg_sleep(60)"));
    let primaries = || servers.fleet.shards.iter().map(|shard| &shard.primary);
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    assert!(poll_until(SOON, || primaries()
        .any(|primary| primary.sql("postgres", sleeps).unwrap() != "0")));
    client.cancel();
    let said = client.until_ready();
    let error = said.iter().find(|frame| frame.kind == b'E');
    assert_eq!(error.unwrap().sqlstate(), "57014");
    assert!(
        connections() > before,
        "the cancel had a connection of its own"
    );
    // Somebody answers for the servers that they know no TLS, and cuts what there is.
    for between in &between {
        between.seen().strips = true;
        between.cut();
    }
    let refused = || {
        let mut other = Wire::connect(router.port());
        other
            .try_login(&endpoint, V3_0, &[])
            .map(|_| other.query("INSERT INTO items VALUES (1), (2), (3), (4)"))
            .map_or(true, |said| said.iter().any(|frame| frame.kind == b'E'))
    };
    assert!(refused() && refused());
    let tried = connections();
    assert!(poll_until(SOON, || {
        assert!(refused());
        connections() > tried
    }));
    // He has gone; the router finds the way back, and has said nothing in clear text meanwhile.
    for between in &between {
        between.seen().strips = false;
        between.cut();
    }
    assert!(poll_until(SOON, || !refused()));
    let mut counts = (0, 0);
    for between in &between {
        for begin in &between.seen().begins {
            let Some((first, rest)) = begin.split_first() else {
                continue;
            };
            assert_eq!(*first, message::request(SSL_REQUEST), "asks for TLS first");
            match rest.first() {
                Some(hello) => {
                    assert_eq!(hello[..2], [0x16, 3], "a handshake follows");
                    counts.0 += 1;
                }
                None => counts.1 += 1,
            }
        }
    }
    println!("{} encrypted connections, {} given up", counts.0, counts.1);
    assert!(counts.0 > 4 && counts.1 > 0);
}
