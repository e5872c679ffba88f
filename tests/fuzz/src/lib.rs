//! What must hold for any input, as functions over bytes.
//!
//! Each module has one function that takes arbitrary bytes and panics if a promise of the code is broken, and its
//! seeds: inputs from which to begin. `make fuzz` runs them under libFuzzer (`targets/`), `make test` for some
//! seconds with random changes of the seeds (`tests/short.rs`). A promise is more than not to panic: each module
//! says which ones it holds its part to.

pub mod input;

pub mod memory;

pub mod mutate;

pub mod frontend;

pub mod backend;

pub mod startup;

pub mod login_client;

pub mod login_server;

pub mod literals;

pub mod key;

pub mod copy;

pub mod planner;

/// One thing to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name; the binary of libFuzzer has the same.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]),
    /// Where to begin.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that the part knows, to be put into inputs.
    pub words: &'static [&'static str],
}

/// All of them, in the order in which `make fuzz` runs them.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "frontend",
        check: frontend::check,
        seeds: frontend::seeds,
        words: &[],
    },
    Target {
        name: "backend",
        check: backend::check,
        seeds: backend::seeds,
        words: &[],
    },
    Target {
        name: "startup",
        check: startup::check,
        seeds: startup::seeds,
        words: startup::WORDS,
    },
    Target {
        name: "login_client",
        check: login_client::check,
        seeds: login_client::seeds,
        words: login_client::WORDS,
    },
    Target {
        name: "login_server",
        check: login_server::check,
        seeds: login_server::seeds,
        words: login_client::WORDS,
    },
    Target {
        name: "literals",
        check: literals::check,
        seeds: literals::seeds,
        words: literals::WORDS,
    },
    Target {
        name: "key",
        check: key::check,
        seeds: key::seeds,
        words: key::WORDS,
    },
    Target {
        name: "copy",
        check: copy::check,
        seeds: copy::seeds,
        words: copy::WORDS,
    },
    Target {
        name: "planner",
        check: planner::check,
        seeds: planner::seeds,
        words: literals::WORDS,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
