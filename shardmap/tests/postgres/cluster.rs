//! A throw-away cluster on a unix socket, and psql to talk to it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

/// Ends when its last user drops it, and when this process dies in whatever way: its shell waits for the end of a pipe.
pub struct Cluster {
    shell: Child,
    socket: String,
    bin: PathBuf,
}

const SCRIPT: &str = r#"
dir=$(mktemp -d /tmp/mothership-shardmap-XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$0/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
"$0/postgres" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir" -c fsync=off \
    -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off -c shared_buffers=64MB \
    -c max_wal_size=2GB -c max_locks_per_transaction=1024 >"$dir/server.log" 2>&1 &
server=$!
until "$0/pg_isready" -q -h "$dir"; do
    kill -0 "$server" || { cat "$dir/server.log" >&2; exit 1; }
    sleep 0.05
done
echo "$dir"
read -r end
kill -INT "$server"
wait "$server"
"#;

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// The cluster that tests running at the same time share. Panics if there is no PostgreSQL to start.
    pub fn shared() -> Arc<Cluster> {
        let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    fn start() -> Cluster {
        let bin = server_binaries();
        // PostgreSQL refuses to run as root.
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let mut command = match is_root {
            true => Command::new("runuser"),
            false => Command::new("sh"),
        };
        if is_root {
            command.args(["-u", "postgres", "--", "sh"]);
        }
        command.arg("-c").arg(SCRIPT).arg(&bin).current_dir("/");
        let mut shell = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut socket = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut socket)
            .unwrap();
        assert!(socket.ends_with('\n'), "PostgreSQL did not start");
        Cluster {
            shell,
            socket: socket.trim_end().to_owned(),
            bin,
        }
    }

    /// A new database.
    pub fn database(self: &Arc<Cluster>, name: &str) -> Database {
        let database = Database {
            cluster: Arc::clone(self),
            name: "postgres".to_owned(),
        };
        database.run(&format!("create database {name} template template0;"));
        Database {
            cluster: Arc::clone(self),
            name: name.to_owned(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn server_binaries() -> PathBuf {
    let mut folders: Vec<PathBuf> = match std::fs::read_dir("/usr/lib/postgresql") {
        Ok(versions) => versions
            .map(|version| version.unwrap().path().join("bin"))
            .collect(),
        Err(_) => Vec::new(),
    };
    folders.sort();
    let config = Command::new("pg_config").arg("--bindir").output();
    folders.extend(config.map(|output| String::from_utf8(output.stdout).unwrap().trim().into()));
    let is_server =
        |folder: &&PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    folders
        .iter()
        .rfind(is_server)
        .expect("PostgreSQL's server binaries are not installed")
        .clone()
}

/// A database of the shared cluster.
pub struct Database {
    cluster: Arc<Cluster>,
    name: String,
}

impl Database {
    /// Runs a psql script and returns what it prints. Panics on the first error.
    pub fn run(&self, script: &str) -> String {
        let psql: &Path = &self.cluster.bin.join("psql");
        let mut child = Command::new(psql)
            .args([
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-h",
            ])
            .args([&self.cluster.socket, "-d", &self.name, "-f", "-"])
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGOPTIONS", "-c client_min_messages=warning")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A script that fails half-way closes the pipe; psql has said why.
            scope.spawn(move || stdin.write_all(script.as_bytes()));
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "psql failed");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Makes a table of ids and texts.
    pub fn load(&self, table: &str, texts: &[String]) {
        let mut script =
            format!("create table {table} (id int, t text);\ncopy {table} from stdin;\n");
        for (id, text) in texts.iter().enumerate() {
            script.push_str(&format!("{id}\t"));
            for c in text.chars() {
                match c {
                    '\\' => script.push_str("\\\\"),
                    '\t' => script.push_str("\\t"),
                    '\n' => script.push_str("\\n"),
                    '\r' => script.push_str("\\r"),
                    c => script.push(c),
                }
            }
            script.push('\n');
        }
        script.push_str("\\.\n");
        self.run(&script);
    }

    /// The rows of a query; a NULL is None.
    pub fn query(&self, settings: &str, query: &str) -> Vec<Vec<Option<String>>> {
        let output = self.run(&format!("{settings}\ncopy ({query}) to stdout;\n"));
        output
            .lines()
            .map(|line| line.split('\t').map(field).collect())
            .collect()
    }
}

/// Undoes COPY's escapes.
fn field(text: &str) -> Option<String> {
    if text == "\\N" {
        return None;
    }
    let mut field = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        field.push(match c {
            '\\' => match chars.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                c => c,
            },
            c => c,
        });
    }
    Some(field)
}

/// Bytes from hexadecimal digits.
pub fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The binary output function of a type.
pub fn send_function(key_type: mothership_shardmap::KeyType) -> String {
    match key_type.name() {
        name @ ("bool" | "int2" | "int4" | "int8" | "text" | "varchar" | "bytea") => {
            format!("{name}send")
        }
        name => format!("{name}_send"),
    }
}

/// A function that reads a text as this type, or says why it is refused.
pub fn reader(type_name: &str, function: &str) -> String {
    format!(
        "create or replace function {function}(t text, out v {type_name}, out state text) language plpgsql as $$
         begin v := t::{type_name}; exception when others then state := sqlstate; end $$;"
    )
}
