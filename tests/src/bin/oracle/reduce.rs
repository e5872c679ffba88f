//! Makes a statement shorter while its answer stays wrong in the same way.
//!
//! By text: tokens with balanced parentheses are left out, or what is in parentheses
//! replaced by something plain. What is no SQL then fails on both sides alike, and so
//! is not wrong.

use crate::judge::{Truth, Verdict};
use crate::run::{self, Protocol};
use crate::schema::Layout;
use crate::statement::{Order, Statement};
use crate::world::World;
use std::time::{Duration, Instant};

/// How long is spent on one statement.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest that was found.
pub fn reduce(
    world: &mut World,
    statement: &Statement,
    protocol: Protocol,
    kind: &'static str,
) -> Statement {
    let begun = Instant::now();
    let mut best = statement.clone();
    // A shorter statement has other columns, so what is known of its order is not known any more.
    if matches!(best.order, Order::Columns(_)) && kind != "order" {
        best.order = Order::None;
    }
    let mut tokens = split(&best.text);
    let mut width = tokens.len() / 2;
    while width > 0 && begun.elapsed() < PATIENCE {
        let mut at = 0;
        let mut shrunk = false;
        while at + width <= tokens.len() && begun.elapsed() < PATIENCE {
            let mut candidate = tokens.clone();
            let cut: Vec<String> = candidate.splice(at..at + width, []).collect();
            if balanced(&cut) && still_wrong(world, &mut best, &candidate, protocol, kind) {
                tokens = candidate;
                shrunk = true;
            } else {
                at += 1;
            }
        }
        if !shrunk || width > tokens.len() {
            width = (width * 2 / 3).min(tokens.len());
        }
    }
    best
}

fn still_wrong(
    world: &mut World,
    best: &mut Statement,
    tokens: &[String],
    protocol: Protocol,
    kind: &'static str,
) -> bool {
    let candidate = Statement {
        text: tokens.join(" "),
        ranked: None,
        ..best.clone()
    };
    let Ok(o) = run::run(&mut world.o, protocol, &candidate) else {
        return false;
    };
    if o.status != 'I' {
        let _ = run::simple(&mut world.o, "ROLLBACK");
        return false;
    }
    let r = run::run(&mut world.r, protocol, &candidate);
    if r.is_err() {
        world.reconnect();
    }
    let mut truth = Truth {
        o: &mut world.o,
        schema: &world.schema,
        documents: world.layout == Layout::Mongodb,
        o_types: &world.o_types,
        r_types: &world.r_types,
    };
    let wrong = matches!(truth.judge(&candidate, protocol, &o, &r), Verdict::Wrong { kind: found, .. } if found == kind);
    if wrong {
        *best = candidate;
    }
    wrong
}

fn balanced(tokens: &[String]) -> bool {
    let mut depth = 0;
    for token in tokens {
        match token.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Words, strings, and everything else by the character; `a.b` and `x::y` stay together.
fn split(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    for c in text.chars() {
        if let Some(end) = quote {
            word.push(c);
            if c == end {
                quote = None;
            }
            continue;
        }
        match c {
            '\'' | '"' => {
                word.push(c);
                quote = Some(c);
            }
            '(' | ')' | '[' | ']' | ',' => {
                tokens.push(std::mem::take(&mut word));
                tokens.push(c.to_string());
            }
            c if c.is_whitespace() => tokens.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    tokens.push(word);
    tokens.retain(|token| !token.is_empty());
    tokens
}
