//! Starts a server in the folder that is its argument, prints its process id
//! and waits to be killed: how tests see what becomes of servers then.
//! With `paused` as second argument the server is frozen first.

#![allow(clippy::unwrap_used)]

use mothership_cluster::{Binaries, Cluster, Spec};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap();
    let paused = arguments.next().is_some_and(|word| word == "paused");
    // A thread of its own, which ends at once: the server must not care.
    let start = move || Cluster::create(&Binaries::find().unwrap(), Spec::new(folder)).unwrap();
    let mut cluster = std::thread::spawn(start).join().unwrap();
    if paused {
        cluster.pause().unwrap();
    }
    println!("{}", cluster.pid().unwrap());
    loop {
        std::thread::park();
    }
}
