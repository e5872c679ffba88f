//! What strangers may do to others, kind by kind: get the rights of the router's own role, another's name, past a rule,
//! or the memory and time that others need.
//!
//! Each proof tries one kind in the ways that its seed chooses, against real servers and a real router, and says whether
//! all of them were held off. SEED comes from the environment, ONLY= runs the proofs with that text in their names; see
//! `make hostile`. A proof of a further kind is a line in [`PROOFS`].

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod burdens;

mod definitions;

mod documents;

mod left;

mod meanings;

mod parts;

mod refusals;

mod rights;

mod spelling;

mod stage;

mod values;

use crate::stage::Stage;
use mothership_tests::proof::{self, Verdict};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::process::ExitCode;

/// What was tried, and what came of it that should not have.
type Proof = fn(&mut Stage) -> Result<String, String>;

const PROOFS: [(&str, Proof); 18] = [
    (
        "documents are read and written by those who may",
        documents::rights,
    ),
    (
        "nothing in the place of a lookup table runs with the router's rights",
        rights::lookup_table,
    ),
    (
        "nobody is before the router in its own schema",
        rights::own_schema,
    ),
    (
        "a certificate is good for the user whom it names",
        rights::certificates,
    ),
    (
        "rules of a database hold by every name of it",
        rights::aliases,
    ),
    (
        "decisions of strangers stay small and go",
        burdens::decisions,
    ),
    (
        "large statements end early and keep nobody waiting",
        burdens::statements,
    ),
    (
        "unfinished messages end, the largest first",
        burdens::messages,
    ),
    ("a message has a deadline", burdens::deadline),
    (
        "what code leaves in a session reaches nobody else",
        left::behind,
    ),
    (
        "what is temporary without saying so reaches nobody else",
        left::paths,
    ),
    ("settings are said again by their values", values::again),
    (
        "a shared statement means what its client means",
        meanings::shared,
    ),
    (
        "a rule that refuses is not passed by spelling",
        refusals::passed,
    ),
    (
        "names of the routers are out of reach in every spelling",
        parts::names,
    ),
    ("bodies of functions have a bound", definitions::bodies),
    (
        "a lock stops those who want what is locked",
        definitions::locks,
    ),
    (
        "what is locked is read when it may be",
        definitions::unlocked,
    ),
];

fn main() -> ExitCode {
    let seed = proof::seed();
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut stage = Stage::new();
    let mut verdict = Verdict::default();
    let (mut proofs, mut held) = (0, 0);
    for (number, (name, proof)) in (0u64..).zip(PROOFS) {
        if !name.contains(&only) {
            continue;
        }
        // Each by itself makes the same choices as among the others.
        stage.rng = StdRng::seed_from_u64(seed ^ number << 32);
        let said = proof(&mut stage);
        proofs += 1;
        held += u64::from(said.is_ok());
        let holds = said.is_ok();
        verdict.claim(holds, name, said.unwrap_or_else(|why| why));
    }
    println!("hostile: proofs={proofs} held={held} seed={seed}");
    verdict.exit()
}
