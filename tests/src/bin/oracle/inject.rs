//! Faults that are put into the router's answers on purpose, to see that they are found.

use crate::run::{Answer, Row};
use crate::statement::{Order, Statement};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A row is missing.
    Drop,
    /// A row is there twice.
    Double,
    /// Two rows of an ordered answer have changed places.
    Swap,
    /// A column has another type.
    Type,
    /// A number is one more.
    Merge,
}

/// Puts one kind of fault into some answers.
pub struct Injector {
    fault: Option<Fault>,
    /// How many answers of several rows there are for one with a fault.
    rarity: u32,
    /// The next one that can have a fault gets it.
    due: bool,
    rng: StdRng,
}

impl Fault {
    /// As the environment says it; nothing is none.
    pub fn named(name: &str) -> Option<Fault> {
        match name {
            "" => None,
            "drop" => Some(Fault::Drop),
            "double" => Some(Fault::Double),
            "swap" => Some(Fault::Swap),
            "type" => Some(Fault::Type),
            "merge" => Some(Fault::Merge),
            other => panic!("INJECT={other} is none of drop, double, swap, type, merge"),
        }
    }
}

impl Injector {
    /// One that falsifies one in `rarity` answers of several rows.
    pub fn new(fault: Option<Fault>, rarity: u32, seed: u64) -> Injector {
        Injector {
            fault,
            rarity: rarity.max(1),
            due: false,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Falsifies the answer, rarely; whether it did.
    pub fn falsify(&mut self, answer: &mut Answer, statement: &Statement) -> bool {
        let Some(fault) = self.fault else {
            return false;
        };
        if answer.rows.len() < 2 {
            return false;
        }
        self.due |= self.rng.random_range(0..self.rarity) == 0;
        let at = self.rng.random_range(0..answer.rows.len());
        let done = self.due
            && match fault {
                Fault::Drop => {
                    answer.rows.remove(at);
                    true
                }
                Fault::Double => {
                    let row = answer.rows[at].clone();
                    answer.rows.insert(at, row);
                    true
                }
                Fault::Swap => swap(answer, statement),
                Fault::Type => answer.columns.first_mut().map(|c| c.ty ^= 1).is_some(),
                Fault::Merge => answer.rows.iter_mut().any(one_more),
            };
        self.due &= !done;
        done
    }
}

fn swap(answer: &mut Answer, statement: &Statement) -> bool {
    let Order::Columns(keys) = &statement.order else {
        return false;
    };
    let key = |row: &Row| keys.first().and_then(|at| row.get(*at).cloned());
    let found =
        (1..answer.rows.len()).find(|at| key(&answer.rows[at - 1]) != key(&answer.rows[*at]));
    found.map(|at| answer.rows.swap(at - 1, at)).is_some()
}

/// The first value of the row that is a number in text.
fn one_more(row: &mut Row) -> bool {
    row.iter_mut().flatten().any(|value| {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let more = number.and_then(|number| number.checked_add(1));
        more.map(|more| *value = more.to_string().into_bytes())
            .is_some()
    })
}
