//! Real MongoDB replica sets: started, asked, broken and ended.
//!
//! Each set is made of mongod processes of its own on 127.0.0.1, which end with
//! this process. The calls are sync, for tests that are plain threads; none may
//! be made from within a tokio runtime. A call that names no member goes to the
//! primary, and waits for one to be elected.
//!
//! The driver is told to talk to one member each time, never to find the primary
//! or to follow an election: which member is asked is decided here, so that a
//! test knows it.

use crate::{Folder, Proxy, poll_until};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, Result};
use mongodb::options::{
    ClientOptions, Credential, ServerAddress, ServerMonitoringMode, Tls, TlsOptions,
};
use mothership_cluster::{Account, free_port, spawn_tied};
use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long anything may take that is not to fail, on a machine with other work.
const LONG: Duration = Duration::from_secs(60);
/// How long a member may take to say what it is; one that takes longer is asked again.
const HELLO: Duration = Duration::from_secs(2);
/// How many ports are tried for a member. Another process may take one before mongod does.
const PORTS: usize = 5;
/// How long a member that stepped down lets the others be elected.
const STEPPED_DOWN: Duration = Duration::from_secs(5);
/// The mongod to start, or None where none can be had; `tests/mongod` says why not, and gets it where it can.
///
/// # Panics
/// If `MONGOD_BIN` is no program, or what was got is not what was expected.
pub fn mongod() -> Option<PathBuf> {
    static MONGOD: OnceLock<Option<PathBuf>> = OnceLock::new();
    MONGOD.get_or_init(find_mongod).clone()
}

fn find_mongod() -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/mongod");
    let output = Command::new(script).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{script}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let path = String::from_utf8(output.stdout).unwrap();
            Some(std::path::absolute(path.trim_end()).unwrap())
        }
        Some(3) => {
            let skip = said.lines().filter(|line| line.starts_with("SKIP"));
            skip.for_each(|line| eprintln!("{line}"));
            None
        }
        _ => panic!("{script}: {}: {said}", output.status),
    }
}

/// A replica set. Dropped, all of it ends and its folder is removed.
#[derive(Debug)]
pub struct ReplicaSet {
    name: String,
    members: Vec<Member>,
    // A driver's connections to each member, made when they are first used and forgotten when a call fails.
    clients: Mutex<Vec<Option<mongodb::Client>>>,
    runtime: Runtime,
    guard: Option<Guard>,
    // Behind the servers, so that it is removed after them.
    folder: Folder,
}

/// What a set asks of those who come.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Who may do everything; nobody else may do anything.
    pub user: String,
    /// His password.
    pub password: String,
    /// PEM file with the authority of the members' certificate, which is for 127.0.0.1.
    pub authority: PathBuf,
}

#[derive(Debug)]
struct Member {
    program: PathBuf,
    set: String,
    /// More of its command line.
    options: Vec<String>,
    port: u16,
    /// What all others have to pass that speak to it.
    way: Option<Proxy>,
    folder: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Runs(Child),
    Frozen(Child),
    Dead,
}

impl ReplicaSet {
    /// Starts a set with that name, and waits until it has a primary and all others follow it. None without a mongod.
    ///
    /// # Panics
    /// If it does not become one.
    pub fn start(name: &str, members: usize) -> Option<ReplicaSet> {
        ReplicaSet::made(name, members, false)
    }

    /// The same where each member is known, also to the others, by the address of a way to it that can be closed:
    /// [`ReplicaSet::cut_off`]. What a test asks of a member itself goes past that.
    ///
    /// # Panics
    /// If it does not become one.
    pub fn start_apart(name: &str, members: usize) -> Option<ReplicaSet> {
        ReplicaSet::made(name, members, true)
    }

    /// A set of one member that lets in by TLS only, and only a user with a password, by this mechanism.
    ///
    /// # Panics
    /// If it does not become one.
    pub fn start_guarded(name: &str, mechanism: &str) -> Option<ReplicaSet> {
        let mut set = ReplicaSet::start(name, 1)?;
        let file = |name: &str| set.folder.path().join(name);
        let (authority, key) = (file("authority.pem"), file("key.pem"));
        certify(&authority, &key);
        let both = [&authority, &key].map(|path| std::fs::read(path).unwrap());
        let (certificate, shared) = (file("member.pem"), file("shared"));
        give(&certificate, &both.concat());
        give(&shared, b"what members of a set know of each other");
        let guard = Guard {
            user: "router".into(),
            // Also what a SCRAM message and a URI would have to escape.
            password: "p=a,s@s/w\u{f6}rd".into(),
            authority,
        };
        let roles = vec!["root"];
        let user = doc! {
            "createUser": &guard.user, "pwd": &guard.password, "roles": roles, "mechanisms": [mechanism],
        };
        set.command("admin", user);
        set.kill(0);
        let files = [
            ("--keyFile", &shared),
            ("--tlsCertificateKeyFile", &certificate),
            ("--tlsCAFile", &guard.authority),
        ];
        let files = files.map(|(name, path)| format!("{name}={}", path.display()));
        let others = [
            "--tlsMode=requireTLS",
            "--tlsAllowConnectionsWithoutCertificates",
        ];
        let all = files.into_iter().chain(others.map(str::to_owned));
        set.members[0].options = all.collect();
        set.guard = Some(guard);
        set.restart(0);
        set.wait_whole();
        Some(set)
    }

    /// What it asks of those who come, if it does.
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    fn made(name: &str, members: usize, apart: bool) -> Option<ReplicaSet> {
        let program = mongod()?;
        let folder = Folder::new(name);
        let start = |number: usize| {
            let folder = folder.path().join(format!("m{number}"));
            let mut member = Member::start(&program, name, folder);
            member.way = apart.then(|| Proxy::to(member.port));
            member
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let set = ReplicaSet {
            name: name.into(),
            members: (0..members).map(start).collect(),
            clients: Mutex::new(vec![None; members]),
            runtime: runtime.unwrap(),
            guard: None,
            folder,
        };
        set.initiate();
        set.wait_whole();
        Some(set)
    }

    fn initiate(&self) {
        let members = self.addresses().into_iter().enumerate();
        let members = members.map(|(number, host)| doc! {"_id": number as i32, "host": host});
        // The timeout is for frozen members: with its default of ten seconds, one that follows such a member goes on
        // doing so seven seconds longer, and no majority has what is written meanwhile; measured. And a member that is held
        // up must not hold up another one that would copy from it.
        let config = doc! {
            "_id": &self.name,
            "members": members.collect::<Vec<Document>>(),
            "settings": {
                "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200, "heartbeatTimeoutSecs": 2,
                "chainingAllowed": false,
            },
        };
        self.command_on(0, "admin", doc! {"replSetInitiate": config});
    }

    /// Waits until there is a primary, and all other members that run and are not frozen have copied what it wrote.
    ///
    /// # Panics
    /// If that is not so within a minute.
    pub fn wait_whole(&self) {
        let whole = poll_until(LONG, || {
            let living = self.living().into_iter();
            let (primaries, others): (Vec<usize>, Vec<usize>) =
                living.partition(|member| self.is_primary(*member));
            let is_secondary = |member: &usize| self.role(*member) == Some(Role::Secondary);
            primaries.len() == 1
                && others.iter().all(is_secondary)
                && self.reaches(primaries[0], others.len() + 1)
        });
        assert!(whole, "{} is no replica set\n{}", self.name, self.logs());
    }

    fn is_primary(&self, member: usize) -> bool {
        matches!(self.role(member), Some(Role::Primary { .. }))
    }

    /// Whether so many members have a note that the primary now writes into its log of changes.
    ///
    /// A secondary is called one some time before it copies. If the member that it is about to copy from is frozen just
    /// then, it tries for twenty seconds to connect to that; so nobody is to go on before it copies.
    fn reaches(&self, primary: usize, members: usize) -> bool {
        let limit = HELLO.as_millis() as i32;
        let concern = doc! {"w": members as i32, "wtimeout": limit};
        let note = doc! {"appendOplogNote": 1, "data": {}, "writeConcern": concern};
        let done = self.try_command_on(primary, "admin", note);
        done.is_ok_and(|reply| !reply.contains_key("writeConcernError"))
    }

    /// The set's name, as the members know it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ports of all members, as the set itself names them.
    pub fn ports(&self) -> Vec<u16> {
        let port = |member: &Member| member.way.as_ref().map_or(member.port, Proxy::port);
        self.members.iter().map(port).collect()
    }

    /// The addresses of all members, as the set itself names them.
    pub fn addresses(&self) -> Vec<String> {
        let ports = self.ports().into_iter();
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// What a driver connects to.
    pub fn uri(&self) -> String {
        let hosts = self.addresses().join(",");
        format!("mongodb://{hosts}/?replicaSet={}", self.name)
    }

    /// The process of a member, None where it is dead.
    pub fn pid(&self, member: usize) -> Option<u32> {
        self.members[member].child().map(Child::id)
    }

    /// The member that takes writes. Waits for one; of two that believe they are it, the one elected last.
    ///
    /// # Panics
    /// If none is elected within a minute.
    pub fn primary(&self) -> usize {
        let mut primary = None;
        poll_until(LONG, || {
            let living = self.living().into_iter();
            let elected = living.filter_map(|member| match self.role(member)? {
                Role::Primary { election } => Some((election, member)),
                Role::Secondary => None,
            });
            primary = elected.max().map(|(_, member)| member);
            primary.is_some()
        });
        primary.unwrap_or_else(|| panic!("{} has no primary\n{}", self.name, self.logs()))
    }

    /// Ends a member as a power failure would. Returns when it is gone.
    pub fn kill(&mut self, member: usize) {
        self.forget(member);
        self.members[member].kill();
    }

    /// Asks all members that run to end, at the same moment.
    pub fn terminate(&self) {
        let living = self.members.iter().filter(|member| member.runs());
        let children = living.filter_map(Member::child);
        children.for_each(|child| send(child, libc::SIGTERM));
    }

    /// Starts a member that was killed, and waits until it is a primary or a secondary.
    /// [`ReplicaSet::wait_whole`] waits until it follows, which takes a second more.
    ///
    /// # Panics
    /// If it runs, or does not come up.
    pub fn restart(&mut self, member: usize) {
        let dead = matches!(self.members[member].state, State::Dead);
        assert!(dead, "member {member} runs");
        let up = self.members[member].spawn() && poll_until(LONG, || self.role(member).is_some());
        assert!(up, "member {member} does not come up\n{}", self.logs());
    }

    /// Has the primary step down: it is no longer one when this returns, and stands for no election for five seconds.
    ///
    /// # Panics
    /// If it refuses, as one does that has nobody to follow it.
    pub fn step_down(&self) {
        let seconds = STEPPED_DOWN.as_secs() as i32;
        let catch_up = seconds - 1;
        let command = doc! {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": catch_up};
        self.command("admin", command);
    }

    /// Stops a member without ending it: its connections stay open, and nobody answers. Returns when it is stopped.
    /// Where it was the primary, it takes two seconds until there is another, and up to ten more until a majority of
    /// three has what that one writes: the third has to give up the frozen one first. Measured.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&mut self, member: usize) {
        self.forget(member);
        self.members[member].freeze();
    }

    /// Lets a frozen member go on; what it believes then may be out of date.
    ///
    /// # Panics
    /// If it is not frozen.
    pub fn thaw(&mut self, member: usize) {
        self.members[member].thaw();
    }

    /// Nothing that anybody sends to a member arrives any longer, nor what it sends to the others; it goes on running,
    /// all connections stay open, and new ones are accepted. What is on its way arrives after [`ReplicaSet::heal`].
    ///
    /// # Panics
    /// If it does not run, or there are no ways to members.
    pub fn cut_off(&self, member: usize) {
        let pid = self.pid(member).expect("a member that runs");
        for (number, other) in self.members.iter().enumerate() {
            let way = other.way.as_ref().expect("a way to each member");
            match number == member {
                true => way.blackhole(),
                false => way.hold_those_of(pid),
            }
        }
    }

    /// All members reach each other again.
    pub fn heal(&self) {
        let ways = self.members.iter().filter_map(|member| member.way.as_ref());
        ways.for_each(Proxy::heal);
    }

    /// Runs a command on the primary; its reply.
    ///
    /// # Panics
    /// If it fails.
    pub fn command(&self, database: &str, command: Document) -> Document {
        self.command_on(self.primary(), database, command)
    }

    /// Runs a command on a member, whatever that is just now; its reply.
    ///
    /// # Panics
    /// If it fails.
    pub fn command_on(&self, member: usize, database: &str, command: Document) -> Document {
        let done = self.try_command_on(member, database, command.clone());
        done.unwrap_or_else(|error| self.fail(member, &command.to_string(), &error))
    }

    /// Runs a command on a member that may well refuse it.
    pub fn try_command_on(
        &self,
        member: usize,
        database: &str,
        command: Document,
    ) -> Result<Document> {
        self.run(member, LONG, async |client| {
            client.database(database).run_command(command).await
        })
    }

    /// Writes documents, in their order, so that they survive an election.
    ///
    /// # Panics
    /// If one is not written.
    pub fn insert(&self, database: &str, collection: &str, documents: Vec<Document>) {
        if documents.is_empty() {
            return; // The driver refuses that.
        }
        let member = self.primary();
        let done = self.run(member, LONG, async |client| {
            let collection = client.database(database).collection(collection);
            collection.insert_many(documents).await
        });
        done.unwrap_or_else(|error| self.fail(member, &format!("insert {collection}"), &error));
    }

    /// The documents of a collection that match `filter`, in whatever order the primary finds them.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn find(&self, database: &str, collection: &str, filter: Document) -> Vec<Document> {
        let member = self.primary();
        let found = self.run(member, LONG, async |client| {
            let collection = client.database(database).collection::<Document>(collection);
            let mut cursor = collection.find(filter).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        });
        found.unwrap_or_else(|error| self.fail(member, &format!("find {collection}"), &error))
    }

    /// Removes a database with all that is in it; one that is not there is no error.
    ///
    /// # Panics
    /// If it stays.
    pub fn drop_database(&self, database: &str) {
        self.command(
            database,
            doc! {"dropDatabase": 1, "writeConcern": {"w": "majority"}},
        );
    }

    /// What the members have logged last.
    pub fn logs(&self) -> String {
        self.members.iter().map(Member::log).collect()
    }

    /// The members that can answer.
    fn living(&self) -> Vec<usize> {
        let numbers = 0..self.members.len();
        let living = numbers.filter(|number| self.members[*number].runs());
        living.collect()
    }

    /// What a member says it is; None where it does not, or is neither.
    fn role(&self, member: usize) -> Option<Role> {
        // The driver waits for a server to appear; here the caller does.
        if !self.members[member].accepts() {
            return None;
        }
        let hello = self.run(member, HELLO, async |client| {
            client
                .database("admin")
                .run_command(doc! {"hello": 1})
                .await
        });
        Role::of(&hello.ok()?)
    }

    fn run<T>(
        &self,
        member: usize,
        limit: Duration,
        act: impl AsyncFnOnce(mongodb::Client) -> Result<T>,
    ) -> Result<T> {
        let client = self.client(member)?;
        let late = |_| Error::custom(format!("no answer within {limit:?}"));
        let done = self.runtime.block_on(async {
            let answer = tokio::time::timeout(limit, act(client)).await;
            answer.map_err(late).flatten()
        });
        if done.is_err() {
            self.forget(member);
        }
        done
    }

    /// The driver's connections to a member.
    fn client(&self, member: usize) -> Result<mongodb::Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &clients[member] {
            return Ok(client.clone());
        }
        let address = ServerAddress::Tcp {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: Some(self.members[member].port),
        };
        let mut options = ClientOptions::default();
        options.hosts = vec![address];
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(HELLO);
        // Between two calls nothing runs that could read what a server keeps sending.
        options.server_monitoring_mode = Some(ServerMonitoringMode::Poll);
        if let Some(guard) = &self.guard {
            let mut credential = Credential::default();
            credential.username = Some(guard.user.clone());
            credential.password = Some(guard.password.clone());
            options.credential = Some(credential);
            let mut tls = TlsOptions::default();
            tls.ca_file_path = Some(guard.authority.clone());
            options.tls = Some(Tls::Enabled(tls));
        }
        let _inside = self.runtime.enter();
        let client = mongodb::Client::with_options(options)?;
        clients[member] = Some(client.clone());
        Ok(client)
    }

    /// Has the next call to a member make new connections.
    fn forget(&self, member: usize) {
        // Closing them is a task of the runtime.
        let _inside = self.runtime.enter();
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)[member] = None;
    }

    fn fail(&self, member: usize, act: &str, error: &Error) -> ! {
        let log = self.members[member].log();
        panic!(
            "{act} on member {member} of {}: {}\n{log}",
            self.name, error.kind
        )
    }
}

impl Drop for ReplicaSet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.folder.path().display(), self.logs());
        }
        (0..self.members.len()).for_each(|member| self.forget(member));
        self.members.iter_mut().for_each(Member::kill);
    }
}

/// What a member is in the set.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// It takes writes; later elections have greater ids.
    Primary {
        election: Vec<u8>,
    },
    Secondary,
}

impl Role {
    /// From a reply to `hello`.
    fn of(hello: &Document) -> Option<Role> {
        let is = |name| hello.get_bool(name).unwrap_or(false);
        if is("secondary") {
            return Some(Role::Secondary);
        }
        let Some(Bson::ObjectId(election)) = hello.get("electionId") else {
            return None;
        };
        let election = election.bytes().to_vec();
        is("isWritablePrimary").then_some(Role::Primary { election })
    }
}

impl Member {
    /// A new member in a folder of its own, which accepts connections.
    fn start(program: &Path, set: &str, folder: PathBuf) -> Member {
        make_folder(&folder);
        let mut member = Member {
            program: program.into(),
            set: set.into(),
            options: Vec::new(),
            port: 0,
            way: None,
            folder,
            state: State::Dead,
        };
        let up = (0..PORTS).any(|_| {
            member.port = free_port().unwrap();
            member.spawn()
        });
        assert!(up, "{} does not start\n{}", program.display(), member.log());
        member
    }

    /// Starts the server; whether it accepts connections then. If not, it has ended.
    fn spawn(&mut self) -> bool {
        let mut command = command(&self.program);
        let (port, folder) = (self.port, self.folder.display());
        let options = format!(
            "--port {port} --bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --oplogSize 64 \
             --setParameter enableTestCommands=1 --setParameter diagnosticDataCollectionEnabled=false"
        );
        command.args(options.split_whitespace());
        command.args(&self.options);
        command.arg("--replSet").arg(&self.set);
        command.arg("--dbpath").arg(&self.folder);
        let mut log = std::fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.log_file());
        let log = log.unwrap_or_else(|e| panic!("log in {folder}: {e}"));
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn_tied(command, libc::SIGKILL).unwrap();
        self.state = State::Runs(child);
        poll_until(LONG, || self.accepts() || self.ended());
        let up = self.accepts() && !self.ended();
        if !up {
            self.kill();
        }
        up
    }

    fn kill(&mut self) {
        if let State::Runs(mut child) | State::Frozen(mut child) =
            std::mem::replace(&mut self.state, State::Dead)
        {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn freeze(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Dead) {
            State::Runs(child) => {
                send(&child, libc::SIGSTOP);
                let stopped = poll_until(LONG, || is_stopped(&child));
                assert!(stopped, "{} does not stop", child.id());
                State::Frozen(child)
            }
            state => panic!("it does not run: {state:?}"),
        }
    }

    fn thaw(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Dead) {
            State::Frozen(child) => {
                send(&child, libc::SIGCONT);
                State::Runs(child)
            }
            state => panic!("it is not frozen: {state:?}"),
        }
    }

    fn child(&self) -> Option<&Child> {
        match &self.state {
            State::Runs(child) | State::Frozen(child) => Some(child),
            State::Dead => None,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.state, State::Runs(_))
    }

    fn ended(&mut self) -> bool {
        match &mut self.state {
            State::Runs(child) | State::Frozen(child) => child.try_wait().unwrap().is_some(),
            State::Dead => true,
        }
    }

    fn accepts(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// The end of what it has logged.
    fn log(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let from = log.len().saturating_sub(3_000);
        let tail = String::from_utf8_lossy(&log[from..]);
        format!("---- {}\n{tail}\n", self.log_file().display())
    }
}

/// A folder that the account of the servers owns.
fn make_folder(path: &Path) {
    std::fs::create_dir(path).unwrap();
    own(path);
}

/// Makes a file that only the account of the servers may read.
fn give(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    own(path);
}

fn own(path: &Path) {
    if let Account::Other { uid, gid } = Account::choose().unwrap() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Makes a certificate for 127.0.0.1 that is its own authority, and its key: PEM files.
///
/// # Panics
/// If openssl does not.
pub fn certify(certificate: &Path, key: &Path) {
    let mut openssl = Command::new("openssl");
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mongod -addext subjectAltName=IP:127.0.0.1 \
                   -addext basicConstraints=critical,CA:FALSE -out";
    openssl.args(request.split_whitespace()).arg(certificate);
    let made = openssl.arg("-keyout").arg(key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Will run `program` as the account that PostgreSQL's servers have too.
///
/// Our own mongod may lie in the home folder of root, which that account cannot
/// enter. It can run what is in the folder it stands in, however: root goes there,
/// and only then becomes the other. It still ends with us: that request is lost
/// with the change of account, so it is made again.
fn command(program: &Path) -> Command {
    let Account::Other { uid, gid } = Account::choose().unwrap() else {
        return Account::Own.command(program);
    };
    let mut command = Account::Own.command(Path::new("setpriv"));
    command.current_dir(program.parent().unwrap());
    command.args(["--clear-groups", "--pdeathsig", "KILL"]);
    command.arg(format!("--reuid={uid}"));
    command.arg(format!("--regid={gid}"));
    command.arg(Path::new(".").join(program.file_name().unwrap()));
    command
}

fn send(child: &Child, signal: i32) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: kill has no memory preconditions, and the child is held unreaped.
    unsafe { libc::kill(pid, signal) };
}

/// Its state in /proc/PID/stat follows its name in parentheses; see proc(5).
fn is_stopped(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| state.starts_with('T'))
}
