//! The rows of TPC-H as texts for COPY, the same for the same scale and seed.
//!
//! Written anew from the specification's clause 4.2.3, not from its program: rows are not the same as that
//! one's, but ranges, shares and words are, so that every query finds something. Suppliers of a part are spread so
//! that they differ also where there are few.

use crate::words::{
    COLOURS, COMMENT, CONTAINERS, INSTRUCTIONS, MODES, NATIONS, PRIORITIES, REGIONS, SEGMENTS,
    TYPES,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::fmt::{self, Write};

/// A table with its lines.
pub struct Rows {
    pub table: &'static str,
    pub lines: String,
}

/// All eight tables.
pub fn generate(scale: f64, seed: u64) -> Vec<Rows> {
    let sizes = Sizes::new(scale);
    let own = |number: u64| Random::new(seed, number);
    let (orders, lineitem) = orders(&sizes, &mut own(6));
    let tables = [
        ("region", region(&mut own(0))),
        ("nation", nation(&mut own(1))),
        ("supplier", supplier(&sizes, &mut own(2))),
        ("part", part(&sizes, &mut own(3))),
        ("partsupp", partsupp(&sizes, &mut own(4))),
        ("customer", customer(&sizes, &mut own(5))),
        ("orders", orders),
        ("lineitem", lineitem),
    ];
    tables
        .map(|(table, lines)| Rows { table, lines })
        .into_iter()
        .collect()
}

struct Sizes {
    suppliers: i64,
    parts: i64,
    customers: i64,
    orders: i64,
    clerks: i64,
}

impl Sizes {
    fn new(scale: f64) -> Sizes {
        #[expect(clippy::cast_possible_truncation, reason = "numbers of rows")]
        let of = |rows: f64| (rows * scale).round() as i64;
        Sizes {
            suppliers: of(10_000.0).max(4),
            parts: of(200_000.0).max(1),
            customers: of(150_000.0).max(3),
            orders: of(1_500_000.0),
            clerks: of(1_000.0).max(1),
        }
    }

    /// One of the four suppliers of a part.
    fn supplier_of(&self, part: i64, which: i64) -> i64 {
        let apart = self.suppliers / 4;
        (part + which * apart + (part - 1) / self.suppliers) % self.suppliers + 1
    }
}

fn region(random: &mut Random) -> String {
    let mut out = String::new();
    for (key, name) in REGIONS.iter().enumerate() {
        line(
            &mut out,
            format_args!("{key}\t{name}\t{}", random.comment(31, 115)),
        );
    }
    out
}

fn nation(random: &mut Random) -> String {
    let mut out = String::new();
    for (key, (name, region)) in NATIONS.iter().enumerate() {
        let comment = random.comment(31, 114);
        line(&mut out, format_args!("{key}\t{name}\t{region}\t{comment}"));
    }
    out
}

fn supplier(sizes: &Sizes, random: &mut Random) -> String {
    let mut out = String::new();
    for key in 1..=sizes.suppliers {
        let nation = random.among(0, 24);
        let (address, phone) = (random.address(), random.phone(nation));
        let balance = Cents(random.among(-99_999, 999_999));
        let mut comment = random.comment(25, 74);
        // Five of 10,000 complain and five recommend, and of fewer the first ones.
        match key % 2_000 {
            1 => comment.push_str(" Customer slow Complaints"),
            2 => comment.push_str(" Customer even Recommends"),
            _ => {}
        }
        line(
            &mut out,
            format_args!(
                "{key}\tSupplier#{key:09}\t{address}\t{nation}\t{phone}\t{balance}\t{comment}"
            ),
        );
    }
    out
}

fn part(sizes: &Sizes, random: &mut Random) -> String {
    let mut out = String::new();
    for key in 1..=sizes.parts {
        let colours: Vec<&str> = COLOURS.sample(&mut random.0, 5).copied().collect();
        let name = colours.join(" ");
        let maker = random.among(1, 5);
        let brand = maker * 10 + random.among(1, 5);
        let (size, style, metal) = (
            random.word(&TYPES.0),
            random.word(&TYPES.1),
            random.word(&TYPES.2),
        );
        let number = random.among(1, 50);
        let (large, form) = (random.word(&CONTAINERS.0), random.word(&CONTAINERS.1));
        let price = Cents(price(key));
        let comment = random.comment(5, 22);
        line(
            &mut out,
            format_args!(
                "{key}\t{name}\tManufacturer#{maker}\tBrand#{brand}\t{size} {style} {metal}\t{number}\t{large} {form}\t{price}\t{comment}"
            ),
        );
    }
    out
}

/// The retail price of a part in cents.
fn price(part: i64) -> i64 {
    90_000 + (part / 10) % 20_001 + 100 * (part % 1_000)
}

fn partsupp(sizes: &Sizes, random: &mut Random) -> String {
    let mut out = String::new();
    for part in 1..=sizes.parts {
        for which in 0..4 {
            let supplier = sizes.supplier_of(part, which);
            let available = random.among(1, 9_999);
            let cost = Cents(random.among(100, 100_000));
            let comment = random.comment(49, 198);
            line(
                &mut out,
                format_args!("{part}\t{supplier}\t{available}\t{cost}\t{comment}"),
            );
        }
    }
    out
}

fn customer(sizes: &Sizes, random: &mut Random) -> String {
    let mut out = String::new();
    for key in 1..=sizes.customers {
        let nation = random.among(0, 24);
        let (address, phone) = (random.address(), random.phone(nation));
        let balance = Cents(random.among(-99_999, 999_999));
        let segment = random.word(&SEGMENTS);
        let comment = random.comment(29, 116);
        line(
            &mut out,
            format_args!(
                "{key}\tCustomer#{key:09}\t{address}\t{nation}\t{phone}\t{balance}\t{segment}\t{comment}"
            ),
        );
    }
    out
}

/// Orders and, with the same choices, their lines.
fn orders(sizes: &Sizes, random: &mut Random) -> (String, String) {
    let (mut orders, mut lines) = (String::new(), String::new());
    for number in 0..sizes.orders {
        // Eight of 32 keys are used.
        let key = number / 8 * 32 + number % 8 + 1;
        // Every third customer has no orders.
        let customer = loop {
            let customer = random.among(1, sizes.customers);
            if customer % 3 != 0 {
                break customer;
            }
        };
        let day = random.among(0, LAST_DAY - 151);
        let (mut total, mut open, count) = (0, 0, random.among(1, 7));
        for at in 1..=count {
            let item = Item::new(sizes, random, day);
            total += item.price * (100 + item.tax) * (100 - item.discount) / 10_000;
            open += i64::from(item.is_open());
            item.write(&mut lines, key, at, random);
        }
        let status = match open {
            0 => 'F',
            _ if open == count => 'O',
            _ => 'P',
        };
        let (priority, clerk) = (random.word(&PRIORITIES), random.among(1, sizes.clerks));
        let (total, day, comment) = (Cents(total), Day(day), random.comment(19, 78));
        line(
            &mut orders,
            format_args!(
                "{key}\t{customer}\t{status}\t{total}\t{day}\t{priority}\tClerk#{clerk:09}\t0\t{comment}"
            ),
        );
    }
    (orders, lines)
}

/// One line of an order; days are counted from 1992-01-01, prices in cents.
struct Item {
    part: i64,
    supplier: i64,
    quantity: i64,
    price: i64,
    discount: i64,
    tax: i64,
    shipped: i64,
    promised: i64,
    received: i64,
}

impl Item {
    fn new(sizes: &Sizes, random: &mut Random, ordered: i64) -> Item {
        let part = random.among(1, sizes.parts);
        let quantity = random.among(1, 50);
        let shipped = ordered + random.among(1, 121);
        Item {
            part,
            supplier: sizes.supplier_of(part, random.among(0, 3)),
            quantity,
            price: quantity * price(part),
            discount: random.among(0, 10),
            tax: random.among(0, 8),
            shipped,
            promised: ordered + random.among(30, 90),
            received: shipped + random.among(1, 30),
        }
    }

    fn is_open(&self) -> bool {
        self.shipped > TODAY
    }

    fn write(&self, out: &mut String, order: i64, at: i64, random: &mut Random) {
        let returned = match self.received <= TODAY {
            true => random.word(&["R", "A"]),
            false => "N",
        };
        let status = if self.is_open() { 'O' } else { 'F' };
        let (instruction, mode) = (random.word(&INSTRUCTIONS), random.word(&MODES));
        let comment = random.comment(10, 43);
        let Item {
            part,
            supplier,
            quantity,
            ..
        } = self;
        let (price, discount, tax) = (Cents(self.price), Cents(self.discount), Cents(self.tax));
        let (shipped, promised, received) =
            (Day(self.shipped), Day(self.promised), Day(self.received));
        line(
            out,
            format_args!(
                "{order}\t{part}\t{supplier}\t{at}\t{quantity}\t{price}\t{discount}\t{tax}\t{returned}\t{status}\t\
                 {shipped}\t{promised}\t{received}\t{instruction}\t{mode}\t{comment}"
            ),
        );
    }
}

fn line(out: &mut String, line: fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a String takes everything");
}

/// The choices of one table.
struct Random(StdRng);

impl Random {
    fn new(seed: u64, table: u64) -> Random {
        Random(StdRng::seed_from_u64(
            seed ^ (table + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ))
    }

    /// Both ends are among them.
    fn among(&mut self, first: i64, last: i64) -> i64 {
        self.0.random_range(first..=last)
    }

    fn word(&mut self, words: &[&'static str]) -> &'static str {
        words.choose(&mut self.0).expect("there are words")
    }

    /// Words of so many characters; the last one may be cut off.
    fn comment(&mut self, least: i64, most: i64) -> String {
        let length = usize::try_from(self.among(least, most)).expect("it is positive");
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            text.push_str(self.word(&COMMENT));
            text.push(' ');
        }
        text.truncate(length);
        text
    }

    fn address(&mut self) -> String {
        const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ, ";
        let length = self.among(10, 40);
        let letter = |_| char::from(*LETTERS.choose(&mut self.0).expect("there are letters"));
        (0..length).map(letter).collect()
    }

    fn phone(&mut self, nation: i64) -> String {
        let (country, area) = (nation + 10, self.among(100, 999));
        let (first, second) = (self.among(100, 999), self.among(1_000, 9_999));
        format!("{country}-{area}-{first}-{second}")
    }
}

/// An amount with two digits behind the point.
struct Cents(i64);

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

/// 1998-12-31, by days from 1992-01-01.
const LAST_DAY: i64 = 2_556;
/// 1995-06-17, which is today in TPC-H.
const TODAY: i64 = 1_263;

/// A day, counted from 1992-01-01.
struct Day(i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut year, mut left) = (1992, self.0);
        let leap = |year: i64| year % 4 == 0;
        while left >= 365 + i64::from(leap(year)) {
            left -= 365 + i64::from(leap(year));
            year += 1;
        }
        let february = 28 + i64::from(leap(year));
        let mut month = 1;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if left < days {
                break;
            }
            left -= days;
            month += 1;
        }
        write!(f, "{year}-{month:02}-{:02}", left + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, date) in [
            (0, "1992-01-01"),
            (59, "1992-02-29"),
            (60, "1992-03-01"),
            (366, "1993-01-01"),
            (TODAY, "1995-06-17"),
            (LAST_DAY, "1998-12-31"),
        ] {
            assert_eq!(Day(day).to_string(), date);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_rows() {
        let lines = |seed| {
            let tables = generate(0.001, seed).into_iter();
            tables.map(|rows| rows.lines).collect::<Vec<_>>()
        };
        assert_eq!(lines(1), lines(1));
        assert_ne!(lines(1), lines(2));
    }

    #[test]
    fn the_suppliers_of_a_part_differ() {
        for scale in [0.0001, 0.001, 0.1] {
            let sizes = Sizes::new(scale);
            for part in 1..=sizes.parts {
                let mut of: Vec<i64> = (0..4).map(|at| sizes.supplier_of(part, at)).collect();
                of.sort_unstable();
                of.dedup();
                assert_eq!(of.len(), 4, "part {part} at scale {scale}");
                assert!(of[0] >= 1 && of[3] <= sizes.suppliers);
            }
        }
    }
}
