//! One PostgreSQL server with a database that holds all rows and, for each layout, databases that are shards with
//! the router before them: all have the same settings and share the same cores.

use crate::generate::Rows;
use crate::layout::{INDEXES, Layout, TABLES};
use mothership_tests::cluster::{Auth, Cluster};
use mothership_tests::shared::{PASSWORD, USER, password_file};
use mothership_tests::{Endpoint, Folder, Router, Wire, binaries, message, spec};
use std::time::{Duration, Instant};

/// How many shards.
const SHARDS: usize = 3;
/// How long a COPY may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bytes of one CopyData; rows lie across their ends.
const CHUNK: usize = 64 << 10;

/// The server.
pub struct Server {
    cluster: Cluster,
    // Behind the server, so that it is removed after it.
    _folder: Folder,
}

impl Server {
    pub fn start() -> Server {
        let folder = Folder::new("tpch");
        let mut spec = spec(&folder, "one");
        spec.superuser = USER.into();
        spec.auth = Auth::Scram {
            password_file: password_file(&folder),
        };
        // All rows of scale 0.1 fit, on both sides. The compiler would make short queries slower, and mostly those
        // of the one database, whose estimates are higher.
        let spec = spec.set("shared_buffers", "512MB").set("jit", "off");
        let cluster = Cluster::create(&binaries(), spec).unwrap_or_else(|e| panic!("{e}"));
        Server {
            cluster,
            _folder: folder,
        }
    }

    fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.cluster.port(),
            user: USER.into(),
            password: PASSWORD.into(),
            database: database.into(),
        }
    }

    fn database(&self, name: &str) -> Wire {
        let made = format!("CREATE DATABASE {name} TEMPLATE template0");
        self.cluster.sql("postgres", &made).unwrap();
        let mut wire = Wire::login(&self.endpoint(name));
        wire.set_limit(PATIENCE);
        wire.rows(TABLES);
        wire
    }

    /// A database with all rows.
    pub fn plain(&self, tables: &[Rows]) -> Wire {
        let mut wire = self.database("plain");
        load(&mut wire, tables, "plain");
        finish(&mut wire);
        wire
    }
}

/// Shards with their router.
pub struct Sharded {
    /// Through the router.
    pub client: Wire,
    /// The shards themselves, `s1` first.
    pub shards: Vec<Wire>,
    _router: Router,
}

impl Sharded {
    /// With all rows, loaded through the router.
    pub fn new(server: &Server, layout: Layout, tables: &[Rows]) -> Sharded {
        let number = layout as usize + 1;
        let name = |shard: usize| format!("l{number}s{shard}");
        let shards = (1..=SHARDS).map(|shard| server.database(&name(shard)));
        let mut shards: Vec<Wire> = shards.collect();
        let router = Router::start(&config(server, layout, name));
        let endpoint = server.endpoint("app").at_port(router.port());
        let mut client = Wire::login(&endpoint);
        client.set_limit(PATIENCE);
        load(&mut client, tables, "router");
        shards.iter_mut().for_each(finish);
        let mut sharded = Sharded {
            client,
            shards,
            _router: router,
        };
        sharded.check_loaded(tables);
        sharded
    }

    /// That each row is on one shard, or, of a reference table, on all.
    fn check_loaded(&mut self, tables: &[Rows]) {
        for Rows { table, lines } in tables {
            let count = format!("SELECT count(*) FROM {table}");
            let all = lines.lines().count();
            let of = |wire: &mut Wire| wire.rows(&count)[0][0].parse::<usize>().unwrap();
            let counts: Vec<usize> = self.shards.iter_mut().map(of).collect();
            let fine = match *table {
                "nation" | "region" => counts.iter().all(|count| *count == all),
                _ => counts.iter().sum::<usize>() == all,
            };
            assert!(fine, "{table}: {counts:?} of {all} rows on the shards");
        }
    }
}

fn config(server: &Server, layout: Layout, database: impl Fn(usize) -> String) -> String {
    let mut text = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [limits]\ngathered_size = \"900MiB\"\n"
    );
    for shard in 1..=SHARDS {
        let port = server.cluster.port();
        text += &format!(
            "[[shard]]\nname = \"s{shard}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\n"
        );
    }
    let on = (1..=SHARDS).map(|shard| format!("s{shard} = \"{}\"", database(shard)));
    let on = on.collect::<Vec<_>>().join(", ");
    text + &layout.tables() + &format!("[[database]]\nname = \"app\"\non = {{ {on} }}\n")
}

fn load(wire: &mut Wire, tables: &[Rows], whom: &str) {
    let (begun, mut bytes) = (Instant::now(), 0);
    for Rows { table, lines } in tables {
        wire.send(&message::query(&format!("COPY {table} FROM STDIN")));
        let frame = wire.frame();
        assert_eq!(frame.kind, b'G', "COPY {table}: {frame}");
        for chunk in lines.as_bytes().chunks(CHUNK) {
            wire.send(&message::copy_data(chunk));
        }
        wire.send(&message::copy_done());
        let frames = wire.until_ready();
        assert_eq!(frames[0].kind, b'C', "COPY {table}: {}", frames[0]);
        bytes += lines.len();
    }
    let took = begun.elapsed().as_secs_f64();
    println!("     {whom}: {} MB by COPY in {took:.1} s", bytes >> 20);
}

/// Indexes and statistics; the map of visible rows, too, so that no vacuum comes in between.
fn finish(wire: &mut Wire) {
    wire.rows(INDEXES);
    wire.rows("VACUUM (ANALYZE)");
}
