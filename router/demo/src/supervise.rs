//! Runs one demo from its first step to its last.
//!
//! Guards hold what the demo starts. They are dropped in this order: the router,
//! then its servers, then the folder, then the lock of the folder. The demo fills the
//! shop first. If there is no MongoDB, the shop has no events; the next start with
//! MongoDB adds them.

use super::child::{self, Router};
use super::error::{DemoError, Doing};
use super::fill;
use super::fleet::{CLIENT, Fleet, join};
use super::folder::{self, Contents};
use super::leftovers;
use super::lock::{Lock, Phase};
use super::mongod::{self, Missing};
use super::options::{Options, Recipe};
use super::progress::say;
use super::replica_set::{Past, ReplicaSet};
use super::report;
use super::rows::Shop;
use super::settings::{self, Ports};
use super::stop::Stop;
use mothership_cluster::Binaries;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How often the demo checks that the router and the servers still run.
const WATCH: Duration = Duration::from_millis(200);

/// A demo that is ready for clients. Its fields are dropped in the order of their declaration.
struct Demo {
    router: Router,
    set: Option<ReplicaSet>,
    fleet: Fleet,
    runtime: Runtime,
    state: PathBuf,
    lock: Lock,
}

/// A state folder that is being filled. If this is dropped before the folder is complete, the folder is removed.
struct Making<'a> {
    state: &'a Path,
    is_whole: bool,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if !self.is_whole
            && let Err(error) = folder::remove(self.state)
        {
            // The folder is not marked as complete, so the next start removes its contents.
            // Unlike `eprintln!`, `writeln!` does not panic when nobody reads standard error.
            let _ = writeln!(std::io::stderr(), "mothership: {error}");
        }
    }
}

/// Runs a demo until Ctrl-C.
pub(super) fn foreground(options: &Options) -> Result<(), DemoError> {
    let stop = Stop::on_signals()?;
    let mut demo = start(options, &stop)?;
    say(format_args!(
        "\nCtrl-C stops all of it; the next start is quick. `{}` removes it.",
        options.line("--clean")
    ));
    demo.lock.say(Phase::Ready)?;
    demo.run(&stop)
}

/// Runs a demo in the background until SIGTERM. Once the demo is ready, its output goes to a file.
pub(super) fn detached(options: &Options) -> Result<(), DemoError> {
    let stop = Stop::on_signals()?;
    let mut demo = start(options, &stop)?;
    say(format_args!(
        "\nIt runs in the background: `{}` ends it, `{}` removes it.",
        options.line("--stop"),
        options.line("--clean")
    ));
    leave_terminal(&demo.state.join("demo.log"))?;
    // The process that started this one waits for this phase and then exits.
    demo.lock.say(Phase::Ready)?;
    demo.run(&stop)
}

fn start(options: &Options, stop: &Stop) -> Result<Demo, DemoError> {
    let began = Instant::now();
    let state = folder::locate(options)?;
    let lock = Lock::take(&state)?;
    let contents = folder::contents(&state)?;
    let mut making = Making {
        state: &state,
        is_whole: matches!(contents, Contents::Shop(_)),
    };
    leftovers::end(&state, &lock)?;
    if contents == Contents::Half {
        say("An earlier first start did not come to its end: everything is made anew.");
        folder::empty(&state)?;
    }
    if !child::is_free(options.port) {
        return Err(DemoError::Port { port: options.port });
    }
    let binaries = Binaries::find()?;
    let past = match folder::events(&state)? {
        Some(_) => Past::Set,
        None => Past::None,
    };
    let (mongod, missing) = match mongod(&state)? {
        Ok(program) => (Some(program), None),
        Err(missing) => (None, Some(missing)),
    };
    let recipe = match contents {
        Contents::Shop(recipe) => accept(options, recipe, &state)?,
        Contents::Empty | Contents::Half => options.recipe(),
    };
    let new_shop = Some(recipe).filter(|_| !making.is_whole);
    let new_events = past == Past::None && mongod.is_some();
    folder::check_space(&state, folder::space(new_shop, new_events))?;
    // The shards and the replica set start side by side. The set takes longest, because its members elect a primary.
    let (fleet, set) = thread::scope(|scope| {
        let set = scope.spawn(|| {
            let start = |program: &PathBuf| ReplicaSet::start(program, &state, past, stop);
            mongod.as_ref().map(start).transpose()
        });
        let fleet = match making.is_whole {
            true => open(&state, &binaries, stop),
            false => create(&state, &binaries, stop),
        };
        (fleet, join(set))
    });
    let (fleet, set) = (fleet?, set?);
    let (set, missing) = match set {
        Some(_) if fleet.has_other_events()? => (None, Some(Missing::Taken)),
        set => (set, missing),
    };
    let ports = Ports::choose(options.port)?;
    settings::write(&state, &fleet, set.as_ref(), ports)?;
    let mut router = Router::start(&state, options.port)?;
    let runtime = runtime()?;
    until_stopped(&runtime, stop, router.ready(stop))?;
    if !making.is_whole {
        let shop = Shop::new(recipe);
        say(format_args!(
            "Filling the shop through the router; the rows are made from seed {}.",
            recipe.seed
        ));
        until_stopped(&runtime, stop, stock(&router, &shop))?;
        settle(&fleet, stop)?;
        report::check(&report::count(&fleet)?, &shop)?;
        folder::complete(&state, recipe)?;
        making.is_whole = true;
    }
    if let (Some(set), Some(mongod), Past::None) = (&set, &mongod, past) {
        let shop = Shop::new(recipe);
        until_stopped(&runtime, stop, record(&router, &shop))?;
        report::check_events(set.count()?, &shop)?;
        folder::complete_events(&state, mongod)?;
    }
    report::print(&fleet, &report::count(&fleet)?);
    if let Some(set) = &set {
        report::print_events(set.count()?);
    }
    report::hints(&state, &fleet, &binaries, ports, set.is_some());
    if let Some(missing) = missing {
        say(format_args!(
            "\nThere is no table of events, whose rows would be in MongoDB: {missing}."
        ));
    }
    say(format_args!(
        "\nReady after {:.1} s.",
        began.elapsed().as_secs_f64()
    ));
    drop(making);
    Ok(Demo {
        router,
        set,
        fleet,
        runtime,
        state,
        lock,
    })
}

/// The mongod to run, or why there is none. It is an error if the shop has events and there is no mongod: the table of
/// events would look empty.
fn mongod(state: &Path) -> Result<Result<PathBuf, Missing>, DemoError> {
    let earlier = folder::events(state)?;
    let has_events = earlier.is_some();
    match mongod::find(earlier) {
        Err(cause) if has_events => Err(DemoError::NoMongod {
            folder: state.to_path_buf(),
            cause,
        }),
        found => Ok(found),
    }
}

fn create(state: &Path, binaries: &Binaries, stop: &Stop) -> Result<Fleet, DemoError> {
    say(format_args!(
        "Making three shards, each a primary and a replica, in {}.",
        state.display()
    ));
    Fleet::create(state, binaries, stop)
}

/// Returns the recipe of the existing shop if the options accept it, otherwise an error.
fn accept(options: &Options, recipe: Recipe, state: &Path) -> Result<Recipe, DemoError> {
    if options.accepts(recipe) {
        return Ok(recipe);
    }
    let Recipe { rows, seed } = recipe;
    let folder = state.to_path_buf();
    Err(DemoError::OtherShop { folder, rows, seed })
}

fn open(state: &Path, binaries: &Binaries, stop: &Stop) -> Result<Fleet, DemoError> {
    say(format_args!("Starting the shards in {}.", state.display()));
    Fleet::open(state, binaries, stop)
}

/// Creates and fills the tables of the shop.
async fn stock(router: &Router, shop: &Shop) -> Result<(), DemoError> {
    let client = connect(router).await?;
    fill::make_tables(&client).await?;
    fill::fill(&client, shop).await
}

/// Fills the table of events.
async fn record(router: &Router, shop: &Shop) -> Result<(), DemoError> {
    fill::fill_events(&connect(router).await?, shop).await
}

async fn connect(router: &Router) -> Result<tokio_postgres::Client, DemoError> {
    router.connect().await.map_err(|cause| {
        let doing = "connect".to_owned();
        DemoError::Statement { doing, cause }
    })
}

/// Collects statistics for the servers' planners and waits for the replicas, after the tables are filled.
fn settle(fleet: &Fleet, stop: &Stop) -> Result<(), DemoError> {
    for shard in &fleet.shards {
        let done = shard.primary.sql(CLIENT, "VACUUM (ANALYZE)");
        done.map_err(|cause| DemoError::Server {
            shard: shard.name,
            role: "primary",
            cause,
        })?;
        stop.check()?;
    }
    if !fleet.replicas_catch_up(stop)? {
        say("The replicas are still behind; reads go to the primaries until they have caught up.");
    }
    Ok(())
}

impl Demo {
    /// Waits until the demo is asked to stop, its folder is removed or the router ends. Then stops everything in order.
    fn run(mut self, stop: &Stop) -> Result<(), DemoError> {
        let (router, fleet, lock) = (&mut self.router, &mut self.fleet, &self.lock);
        let set = &mut self.set;
        let watched = self.runtime.block_on(async {
            loop {
                tokio::select! {
                    () = stop.asked() => return Ok(()),
                    () = tokio::time::sleep(WATCH) => router.check()?,
                }
                // If the folder was removed, nobody could find this demo any more to stop it.
                if !lock.is_in_place() {
                    return Ok(());
                }
                // The user tries out what happens when a server ends. The next start brings the server back.
                for (shard, role) in fleet.newly_ended() {
                    say(format_args!("The {role} of shard {shard} has ended."));
                }
                for name in set.iter_mut().flat_map(ReplicaSet::newly_ended) {
                    say(format_args!(
                        "The member {name} of the replica set has ended."
                    ));
                }
            }
        });
        let Demo {
            router,
            set,
            fleet,
            mut lock,
            ..
        } = self;
        lock.say(Phase::Busy)?;
        if watched.is_ok() {
            say("\nStopping.");
        }
        router.stop();
        let stopped = thread::scope(|scope| {
            scope.spawn(|| set.map(ReplicaSet::stop));
            fleet.stop()
        });
        watched.and(stopped)
    }
}

fn runtime() -> Result<Runtime, DemoError> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|cause| DemoError::System {
        doing: "start a runtime",
        cause,
    })
}

/// Does some work on the runtime. Returns an error if the demo is asked to stop first.
fn until_stopped<T>(
    runtime: &Runtime,
    stop: &Stop,
    work: impl Future<Output = Result<T, DemoError>>,
) -> Result<T, DemoError> {
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            () = stop.asked() => Err(DemoError::Stopped),
        }
    })
}

/// Redirects standard output and standard error to a file. This releases the pipe or terminal that another process may
/// wait on.
fn leave_terminal(log: &Path) -> Result<(), DemoError> {
    let file = std::fs::File::create(log).doing("create", log)?;
    for standard in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both are open descriptors, and nothing else owns the standard ones.
        if unsafe { libc::dup2(file.as_raw_fd(), standard) } < 0 {
            return Err(std::io::Error::last_os_error()).doing("write to", log);
        }
    }
    Ok(())
}
