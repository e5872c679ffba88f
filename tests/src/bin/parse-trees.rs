//! Says of each statement how the planner understands it, for `tests/grammar`.
//!
//! Statements come on standard input, each ended by a NUL. For each one goes out,
//! ended by a NUL too: one letter on what the planner rests its plan on (see
//! `verdict`), a tab, where our lexer's tokens begin and end, a tab, and the
//! statement with every parenthesis written; nothing if it is refused.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, Write};

use mothership_catalog::text;
use mothership_plan::refuse::Reason;
use mothership_plan::{Plan, PlanContext, Planner, Role, Single, Target, parens};
use mothership_shardmap::{
    KeyType, ShardMap, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl,
};
use mothership_sql::lexer::Lexer;

/// The tables of the planner's cases.
const CATALOG: &str = include_str!("../../../router/plan/src/tests/catalog.txt");

fn main() {
    let catalog = text::parse(CATALOG).unwrap();
    let map = map();
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext::default();
    let mut input = std::io::BufReader::new(std::io::stdin());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut statement = Vec::new();
    loop {
        statement.clear();
        if input.read_until(0, &mut statement).unwrap() == 0 {
            return;
        }
        statement.pop();
        let sql = std::str::from_utf8(&statement).unwrap();
        let letter = match parens::is_parsed(sql, &context) {
            true => verdict(&planner.plan(sql, &context)),
            false => 'T',
        };
        write!(output, "{letter}\t").unwrap();
        for token in Lexer::new(sql.as_bytes(), true) {
            write!(output, "{}-{} ", token.start, token.end).unwrap();
        }
        let form = parens::parenthesised(sql, &context).unwrap_or_default();
        write!(output, "\t{form}\0").unwrap();
        // Whoever asked may wait for the answer.
        if input.buffer().is_empty() {
            output.flush().unwrap();
        }
    }
}

/// `S`: refused, for the parser's sake. `R`: refused for another reason. `H`: the home shard's primary answers,
/// which may be without any look at the tree. `T`: not parsed at all. `P`: a plan that rests on the tree.
fn verdict(plan: &Plan) -> char {
    match plan {
        Plan::Refuse(refusal) => match refusal.reason {
            Reason::NotUnderstood | Reason::OperatorsUnclear | Reason::TooComplex => 'S',
            _ => 'R',
        },
        Plan::Single(Single {
            target: Target::Home,
            role: Role::Primary(_),
            ..
        })
        | Plan::Local(_) => 'H',
        Plan::Ddl(_)
        | Plan::Single(_)
        | Plan::Scatter(_)
        | Plan::Split(_)
        | Plan::Gather(_)
        | Plan::Guarded(_)
        | Plan::Fill(_) => 'P',
    }
}

fn map() -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    for shard in ["s0", "s1", "s2", "s3"] {
        builder.shard(shard);
    }
    for table in ["t", "u", "p", "ser", "nokey"] {
        let decl = ShardedDecl {
            columns: vec![("id".to_owned(), KeyType::Int8)],
            strategy: StrategyDecl::Hash,
            group: None,
            allow_unenforced_unique: false,
        };
        builder.table("public", table, TableDecl::Sharded(decl));
    }
    for table in ["r", "r2"] {
        builder.table("public", table, TableDecl::Reference);
    }
    builder.build().unwrap()
}
