//! Logins to a real PostgreSQL, and of its own client to us.
//!
//! One server for all claims: starting it is most of the time.

#![allow(clippy::unwrap_used)]

mod postgres;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    num::NonZeroU32,
    thread,
    time::Duration,
};

use mothership_proto::{
    auth::{
        AuthError, ClientLogin, Credentials, Derivation, KeyCache, LoginRules, LoginStep, LookedUp,
        Md5Hash, Method, Nonces, Password, Proof, ScramKeys, Secret, SecretKind, ServerLogin,
        ServerLoginError, ServerReport, ServerSession, ServerStep, StandIn, Target, Verifier,
        secret::DEFAULT_ITERATIONS,
    },
    frame::{self, Next},
    startup::{FirstPacket, Protocol, options, outgoing::put_cancel},
};
use postgres::Postgres;

#[test]
fn real_servers_and_real_clients() {
    let server = Postgres::start();
    create_roles(&server);
    every_method_logs_in(&server);
    wrong_credentials_are_refused(&server);
    parameters_arrive_as_they_were_meant(&server);
    the_cancel_key_cancels(&server);
    one_derivation_serves_many_logins(&server);
    keys_recovered_from_a_client_log_in_to_the_server(&server);
    require_scram_holds(&server);
    our_answers_to_first_packets_are_the_servers(&server);
    options_are_read_like_the_server_reads_them(&server);
    libpq_logs_in_to_us(&server);
}

/// A connection that is logged in.
struct Connection {
    stream: TcpStream,
    session: ServerSession,
    derived: usize,
}

fn connect(server: &Postgres) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

fn target(user: &str) -> Target {
    Target {
        protocol: Protocol::V3_2,
        user: user.into(),
        database: "postgres".into(),
        parameters: Vec::new(),
    }
}

fn login(
    server: &Postgres,
    target: Target,
    credentials: Credentials,
    rules: LoginRules,
    cache: &mut KeyCache,
) -> Result<Connection, ServerLoginError> {
    let mut stream = connect(server);
    let mut login = ServerLogin::new(target, credentials, rules, Nonces::fresh().scram);
    let mut out = Vec::new();
    let mut derived = 0;
    login.start(&mut out)?;
    loop {
        stream.write_all(&out).unwrap();
        out.clear();
        let (tag, body) = message(&mut stream);
        match login.on_message(tag, &body, &mut out)? {
            ServerStep::Continue => {}
            ServerStep::Derive(derivation) => {
                let keys = cache.get(&derivation).unwrap_or_else(|| {
                    derived += 1;
                    derivation.run()
                });
                login.on_derived(&keys, &mut out)?;
                cache.insert(derivation, keys);
            }
            ServerStep::Ready(session) => {
                return Ok(Connection {
                    stream,
                    session: *session,
                    derived,
                });
            }
        }
    }
}

fn log_in(
    server: &Postgres,
    user: &str,
    credentials: Credentials,
) -> Result<Connection, ServerLoginError> {
    login(
        server,
        target(user),
        credentials,
        LoginRules::default(),
        &mut KeyCache::new(1),
    )
}

fn password(text: &str) -> Credentials {
    Credentials::Password(Password::new(text))
}

/// The first value of each row, or the error.
fn query(connection: &mut Connection, sql: &str) -> Result<Vec<String>, ServerReport> {
    let mut out = Vec::new();
    frame::put(&mut out, b'Q', |out| frame::put_str(out, sql.as_bytes()));
    connection.stream.write_all(&out).unwrap();
    let mut answer = Ok(Vec::new());
    loop {
        match (message(&mut connection.stream), &mut answer) {
            ((b'D', body), Ok(rows)) => rows.push(String::from_utf8_lossy(&body[6..]).into_owned()),
            ((b'E', body), _) => answer = Err(ServerReport::parse(&body)),
            ((b'Z', _), _) => return answer,
            _ => {}
        }
    }
}

const SECRET: &str = "pässwörd \u{2168}";

/// Creates a role for each line of pg_hba.conf; one of them with a verifier that we made.
fn create_roles(server: &Postgres) {
    let mut root = log_in(server, "postgres", Credentials::None).unwrap();
    let verifier = Verifier::from_password(
        &Password::new(SECRET),
        b"salt of our own!",
        DEFAULT_ITERATIONS,
    )
    .unwrap();
    let statements = [
        "CREATE ROLE trusted LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE refused LOGIN".to_owned(),
        format!(
            "SET password_encryption = md5; CREATE ROLE hashed LOGIN PASSWORD '{SECRET}'; CREATE ROLE plain LOGIN PASSWORD '{SECRET}'"
        ),
        format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE scrammed LOGIN PASSWORD '{SECRET}'; CREATE ROLE either LOGIN PASSWORD '{SECRET}'"
        ),
        format!("CREATE ROLE ready LOGIN PASSWORD '{}'", *verifier.to_text()),
    ];
    for statement in statements {
        query(&mut root, &statement).unwrap();
    }
    assert_eq!(
        stored(server, "ready"),
        *verifier.to_text(),
        "taken as it is"
    );
}

fn stored(server: &Postgres, user: &str) -> String {
    let mut root = log_in(server, "postgres", Credentials::None).unwrap();
    query(
        &mut root,
        &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"),
    )
    .unwrap()
    .remove(0)
}

fn every_method_logs_in(server: &Postgres) {
    let hash = Md5Hash::parse(&stored(server, "hashed")).unwrap();
    let cases = [
        ("trusted", Credentials::None),
        ("trusted", password("whatever")),
        ("plain", password(SECRET)),
        ("hashed", password(SECRET)),
        ("hashed", Credentials::Md5(hash)),
        ("scrammed", password(SECRET)),
        // SASLprep makes IX of the Roman numeral nine.
        ("scrammed", password("pässwörd IX")),
        ("either", password(SECRET)),
        ("ready", password(SECRET)),
    ];
    for (user, credentials) in cases {
        let mut connection = log_in(server, user, credentials.clone())
            .unwrap_or_else(|error| panic!("{user} {credentials:?}: {error}"));
        let session = &connection.session;
        assert!(session.pid > 0 && session.key.len() >= 4);
        assert!(
            session
                .parameters
                .iter()
                .any(|(name, _)| name == "server_version")
        );
        let version = session
            .parameters
            .iter()
            .find(|(name, _)| name == "server_version")
            .unwrap()
            .1
            .clone();
        let major: u32 = version.split('.').next().unwrap().parse().unwrap();
        assert_eq!(
            session.protocol,
            if major < 18 {
                Protocol::V3_0
            } else {
                Protocol::V3_2
            }
        );
        assert_eq!(
            query(&mut connection, "SELECT session_user").unwrap(),
            [user]
        );
    }
}

fn wrong_credentials_are_refused(server: &Postgres) {
    let cases = [
        ("plain", password("wrong"), "28P01"),
        ("hashed", password("wrong"), "28P01"),
        ("scrammed", password("wrong"), "28P01"),
        ("nobody", password("wrong"), "28P01"),
        ("absent", password("wrong"), "28P01"),
        ("refused", password("wrong"), "28000"),
    ];
    for (user, credentials, sqlstate) in cases {
        let error = log_in(server, user, credentials).err().expect(user);
        assert_eq!(error.server_sqlstate(), Some(sqlstate), "{user}: {error}");
    }
    let elsewhere = Target {
        database: "absent".into(),
        ..target("trusted")
    };
    let error = login(
        server,
        elsewhere,
        Credentials::None,
        LoginRules::default(),
        &mut KeyCache::new(0),
    )
    .err()
    .unwrap();
    assert_eq!(error.server_sqlstate(), Some("3D000"));
}

fn parameters_arrive_as_they_were_meant(server: &Postgres) {
    let pairs = [
        ("application_name", "-c x=y \\ '\""),
        ("search_path", "\"a b\", \"c\\d\""),
        ("DateStyle", "ISO, DMY"),
        ("my.own", ""),
    ];
    let parameters = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let target = Target {
        parameters,
        ..target("trusted")
    };
    let mut connection = login(
        server,
        target,
        Credentials::None,
        LoginRules::default(),
        &mut KeyCache::new(0),
    )
    .unwrap();
    for (name, value) in pairs {
        assert_eq!(
            query(
                &mut connection,
                &format!("SELECT current_setting('{name}')")
            )
            .unwrap(),
            [value],
            "{name}"
        );
    }
}

fn the_cancel_key_cancels(server: &Postgres) {
    let mut connection = log_in(server, "trusted", Credentials::None).unwrap();
    let (pid, key, port) = (
        connection.session.pid,
        connection.session.key.clone(),
        server.port,
    );
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let mut out = Vec::new();
        put_cancel(&mut out, pid, &key).unwrap();
        TcpStream::connect(("127.0.0.1", port))
            .unwrap()
            .write_all(&out)
            .unwrap();
    });
    let error = query(&mut connection, "SELECT pg_sleep(15)").expect_err("cancelled");
    assert_eq!(error.sqlstate.as_deref(), Some("57014"));
    canceller.join().unwrap();
}

fn one_derivation_serves_many_logins(server: &Postgres) {
    let mut cache = KeyCache::new(4);
    let derived: Vec<_> = (0..3)
        .map(|_| {
            login(
                server,
                target("scrammed"),
                password(SECRET),
                LoginRules::default(),
                &mut cache,
            )
            .unwrap()
            .derived
        })
        .collect();
    assert_eq!(derived, [1, 0, 0]);
}

/// Logs a client in to us with the verifier of pg_authid, and takes the keys that it leaves.
fn client_keys(verifier: &str, sent: &str) -> Result<ScramKeys, AuthError> {
    let stand_in = StandIn::new([3; 32], DEFAULT_ITERATIONS, SecretKind::Scram);
    let looked_up = LookedUp::Known(Secret::parse(verifier).unwrap());
    let mut gate = ClientLogin::new(
        "scrammed",
        Method::Scram,
        looked_up,
        &stand_in,
        &Nonces::fresh(),
    );
    let mut guest = ServerLogin::new(
        target("scrammed"),
        password(sent),
        LoginRules::default(),
        Nonces::fresh().scram,
    );
    let (mut sent, mut answers) = (Vec::new(), Vec::new());
    guest.start(&mut sent).unwrap();
    gate.start(&mut answers)?;
    loop {
        sent.clear();
        let (tag, body) = first(&answers);
        if let ServerStep::Derive(derivation) = guest.on_message(tag, &body, &mut sent).unwrap() {
            guest.on_derived(&derivation.run(), &mut sent).unwrap();
        }
        answers.clear();
        let (tag, body) = first(&sent);
        if let LoginStep::Done(authenticated) = gate.on_message(tag, &body, &mut answers)? {
            let Proof::Scram(keys) = authenticated.proof else {
                panic!("not SCRAM")
            };
            return Ok(keys);
        }
    }
}

fn first(bytes: &[u8]) -> (u8, Vec<u8>) {
    let Ok(Next::Whole(frame)) = frame::next(bytes, 1 << 16) else {
        panic!("no message")
    };
    (frame.tag(), frame.body().to_vec())
}

fn keys_recovered_from_a_client_log_in_to_the_server(server: &Postgres) {
    let keys = client_keys(&stored(server, "scrammed"), SECRET).unwrap();
    let mut connection = log_in(server, "scrammed", Credentials::Scram(keys.clone())).unwrap();
    assert_eq!(
        query(&mut connection, "SELECT session_user").unwrap(),
        ["scrammed"]
    );
    assert!(client_keys(&stored(server, "scrammed"), "wrong").is_err());

    // The same password with another salt is another verifier.
    let error = log_in(server, "ready", Credentials::Scram(keys.clone()))
        .err()
        .unwrap();
    assert_eq!(error, ServerLoginError::OtherVerifier);
    query(
        &mut connection,
        &format!("ALTER ROLE scrammed PASSWORD '{SECRET}'"),
    )
    .unwrap();
    let error = log_in(server, "scrammed", Credentials::Scram(keys))
        .err()
        .unwrap();
    assert_eq!(error, ServerLoginError::OtherVerifier);
}

fn require_scram_holds(server: &Postgres) {
    let rules = LoginRules {
        require_scram: true,
        ..LoginRules::default()
    };
    for (user, good) in [
        ("trusted", false),
        ("plain", false),
        ("hashed", false),
        ("scrammed", true),
        ("either", true),
    ] {
        let connection = login(
            server,
            target(user),
            password(SECRET),
            rules.clone(),
            &mut KeyCache::new(0),
        );
        assert_eq!(connection.is_ok(), good, "{user}");
    }
}

/// Whatever the server says before it closes.
fn raw(server: &Postgres, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A server that closes with bytes unread resets the connection; what came before counts.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn packet(version: u32, body: &[u8]) -> Vec<u8> {
    [
        &(body.len() as u32 + 8).to_be_bytes(),
        &version.to_be_bytes(),
        body,
    ]
    .concat()
}

/// The first message of a type in an answer.
fn find(mut answer: &[u8], tag: u8) -> Option<&[u8]> {
    while let Ok(Next::Whole(frame)) = frame::next(answer, 1 << 16) {
        if frame.tag() == tag {
            return Some(frame.body());
        }
        answer = &answer[5 + frame.body().len()..];
    }
    None
}

/// SQLSTATE and message of the error that comes first in an answer, in either protocol's form.
fn complaint(answer: &[u8]) -> Option<(String, String)> {
    if answer.starts_with(b"EFATAL") {
        return Some((
            "".into(),
            String::from_utf8_lossy(&answer[1..]).into_owned(),
        ));
    }
    let report = ServerReport::parse(find(answer, b'E')?);
    Some((report.sqlstate.unwrap(), report.message.unwrap()))
}

/// The first value of the first row.
fn row(answer: &[u8]) -> Option<String> {
    let body = find(answer, b'D')?;
    Some(String::from_utf8_lossy(&body[6..]).into_owned())
}

fn our_answers_to_first_packets_are_the_servers(server: &Postgres) {
    const V3: u32 = 0x3_0000;
    let cases: [(&str, Vec<u8>); 13] = [
        ("no terminator", packet(V3, b"user\0trusted\0")),
        ("bytes after the terminator", packet(V3, b"user\0trusted\0\0x")),
        ("a name without value", packet(V3, b"user\0trusted\0x\0")),
        ("nothing", packet(V3, b"")),
        ("no user", packet(V3, b"\0")),
        ("an empty user", packet(V3, b"user\0\0\0")),
        ("database only", packet(V3, b"database\0postgres\0\0")),
        ("replication is a number", packet(V3, b"user\0trusted\0replication\x005\0\0")),
        ("replication is ambiguous", packet(V3, b"user\0trusted\0replication\0o\0\0")),
        ("protocol 2", packet(0x2_0000, b"\0")),
        ("protocol 4", packet(0x4_0000, b"user\0trusted\0\0")),
        ("a good one", packet(V3, b"user\0trusted\0database\0postgres\0\0")),
        ("the last of a name wins", packet(V3, b"user\0absent\0user\0trusted\0database\0absent\0database\0postgres\0replication\0of\0\0")),
    ];
    for (what, bytes) in cases {
        let theirs = complaint(&raw(server, &bytes));
        let ours = match FirstPacket::parse(&bytes) {
            Ok(_) => None,
            Err(error) => {
                let mut out = Vec::new();
                error.put(&mut out);
                complaint(&out)
            }
        };
        // Servers before 18 speak 3.0 only.
        let theirs =
            theirs.map(|(sqlstate, message)| (sqlstate, message.replace("to 3.0", "to 3.2")));
        assert_eq!(ours, theirs, "{what}");
    }
}

fn options_are_read_like_the_server_reads_them(server: &Postgres) {
    let cases = [
        "-c geqo_threshold=5",
        "-cgeqo_threshold=5",
        "--geqo-threshold=5",
        "--geqo_threshold=5 -c geqo_threshold=6",
        " \t-c  geqo_threshold=5\n",
        r"-c my.x=a\ b\\c\d",
        r"-c my.x=a\",
        "-c my.x==b=c",
        "-c my.x=",
        "-c my-y.x=1",
        "-c",
        "x",
        "-",
        "-c x",
        "--x",
        "-c =b",
        "-c geqo_threshold=5 x",
        "-c my.x=ä\u{a0}b",
        "-c my.x=a\u{b}-cmy.y=2",
    ];
    for text in cases {
        let body = [
            b"user\0trusted\0database\0postgres\0options\0",
            text.as_bytes(),
            b"\0\0",
        ]
        .concat();
        let mut bytes = packet(0x3_0000, &body);
        let parsed = options::parse(text);
        // The server shows what it understood; the last of a name wins.
        let settings = parsed.clone().unwrap_or_default();
        frame::put(&mut bytes, b'Q', |out| {
            let shown: Vec<_> = settings
                .iter()
                .map(|(name, _)| format!("current_setting('{name}')"))
                .collect();
            frame::put_str(
                out,
                format!(
                    "SELECT concat_ws('|', {})",
                    if shown.is_empty() {
                        "''".into()
                    } else {
                        shown.join(", ")
                    }
                )
                .as_bytes(),
            );
        });
        let answer = raw(server, &bytes);
        let theirs = complaint(&answer).map(|(sqlstate, _)| sqlstate);
        assert_eq!(
            parsed
                .as_ref()
                .err()
                .map(|error| error.sqlstate().to_owned()),
            theirs,
            "{text:?}"
        );
        if parsed.is_ok() {
            let last = |name: &str| {
                settings
                    .iter()
                    .rev()
                    .find(|(known, _)| known == name)
                    .unwrap()
                    .1
                    .clone()
            };
            let expected: Vec<_> = settings.iter().map(|(name, _)| last(name)).collect();
            assert_eq!(row(&answer), Some(expected.join("|")), "{text:?}");
        }
    }
}

/// Lets psql log in to us; what it says to the error with which we end every login.
fn psql(server: &Postgres, method: Method, looked_up: LookedUp, sent: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let gate = thread::spawn(move || serve_one(&listener, method, looked_up));
    let mut psql = server.client("psql");
    psql.args([
        "-w",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "alice",
        "-d",
        "postgres",
        "-c",
        "SELECT 1",
    ]);
    let output = psql
        .env("PGPASSWORD", sent)
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable")
        .output()
        .unwrap();
    gate.join().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn serve_one(listener: &TcpListener, method: Method, looked_up: LookedUp) {
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).unwrap();
    bytes.resize(
        u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize,
        0,
    );
    stream.read_exact(&mut bytes[4..]).unwrap();
    let Ok(Some((FirstPacket::Startup(startup), _))) = FirstPacket::parse(&bytes) else {
        panic!("no startup")
    };
    let stand_in = StandIn::new([3; 32], NonZeroU32::new(4096).unwrap(), SecretKind::Scram);
    let mut login = ClientLogin::new(
        &startup.user,
        method,
        looked_up,
        &stand_in,
        &Nonces::fresh(),
    );
    let mut out = Vec::new();
    let mut step = login.start(&mut out);
    let error = loop {
        step = match step {
            Err(error) => break error.report(),
            Ok(LoginStep::Done(_)) => {
                break mothership_proto::report::Report::fatal("57P01", "come in and go");
            }
            Ok(LoginStep::Derive(derivation)) => {
                login.on_derived(Derivation::run(&derivation), &mut out)
            }
            Ok(LoginStep::Continue) => {
                stream.write_all(&out).unwrap();
                out.clear();
                let (tag, body) = message(&mut stream);
                login.on_message(tag, &body, &mut out)
            }
        };
    };
    error.put(&mut out);
    stream.write_all(&out).unwrap();
}

fn libpq_logs_in_to_us(server: &Postgres) {
    let plain = Secret::Plain {
        password: Password::new(SECRET),
        verifier: None,
    };
    let hash = Secret::Md5(Md5Hash::from_password(&Password::new(SECRET), "alice"));
    let scram = Secret::parse(&stored(server, "scrammed")).unwrap();
    let methods = [Method::Password, Method::Md5, Method::Scram];
    for method in methods {
        for secret in [&plain, &hash, &scram] {
            let hopeless = method == Method::Scram && secret.kind() == SecretKind::Md5;
            let said = psql(server, method, LookedUp::Known(secret.clone()), SECRET);
            let expected = if hopeless {
                "password authentication failed for user \"alice\""
            } else {
                "come in and go"
            };
            assert!(said.contains(expected), "{method:?} {secret:?}: {said}");
        }
        let said = psql(server, method, LookedUp::Known(scram.clone()), "wrong");
        assert!(
            said.contains("FATAL:  password authentication failed for user \"alice\""),
            "{said}"
        );
        let said = psql(server, method, LookedUp::Unknown, SECRET);
        assert!(
            said.contains("FATAL:  password authentication failed for user \"alice\""),
            "{said}"
        );
    }
    assert!(psql(server, Method::Trust, LookedUp::NoPassword, "").contains("come in and go"));
    assert!(psql(server, Method::Reject, LookedUp::NoPassword, "").contains("host rejected"));
}
