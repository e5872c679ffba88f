//! The shop's rows, as lines of COPY's text format.
//!
//! Pure. Each customer has random numbers of its own, from which its orders and
//! their items follow, so tables can be written one after the other without
//! keeping anything: the same customer is made again for each. The events, which
//! cannot be copied, are in `events.rs`.

use super::options::Recipe;
use super::random::Random;
use super::shop::Table;
use super::words::{CITIES, FIRST_NAMES, GOODS, LAST_NAMES, QUALITIES};
use std::io::Write;

/// Rows of all tables for one customer, on average: itself, four orders, ten items.
const ROWS_OF_CUSTOMER: u32 = 15;
const MAX_ORDERS: u32 = 8;
const MAX_ITEMS: u32 = 4;
/// Order ids are the customer's id times this, plus the order's number.
const ORDERS_STEP: u64 = 100;
/// Few enough to know them, many enough to choose from.
const MAX_PRODUCTS: u32 = 400;

/// Days are counted from 1970-01-01: 2021-01-01 and 2025-12-31.
const FIRST_DAY: u32 = 18_628;
pub(super) const LAST_DAY: u32 = 20_453;

const KIND_PRODUCT: u64 = 1;
const KIND_CUSTOMER: u64 = 2;

/// The shop that a recipe makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shop {
    recipe: Recipe,
    customers: u32,
    products: u32,
}

impl Shop {
    pub(super) fn new(recipe: Recipe) -> Shop {
        let customers = (recipe.rows / ROWS_OF_CUSTOMER).max(1);
        Shop {
            recipe,
            customers,
            products: customers.div_ceil(10).clamp(1, MAX_PRODUCTS),
        }
    }

    /// What it is made from.
    pub(super) fn seed(&self) -> u64 {
        self.recipe.seed
    }

    /// How often [`Shop::write`] is to be called for a table, with 1, 2, … this.
    pub(super) fn steps(&self, table: Table) -> u32 {
        match table {
            Table::Settings => 1,
            Table::Products => self.products,
            Table::Customers | Table::Orders | Table::OrderItems => self.customers,
        }
    }

    /// All rows of a table, counted by making them.
    pub(super) fn count(&self, table: Table) -> u64 {
        let mut scratch = Vec::new();
        (1..=self.steps(table))
            .map(|step| {
                scratch.clear();
                self.write(table, step, &mut scratch)
            })
            .sum()
    }

    /// Appends the rows of one step, and says how many they are.
    pub(super) fn write(&self, table: Table, step: u32, out: &mut Vec<u8>) -> u64 {
        match table {
            Table::Settings => self.settings(out),
            Table::Products => {
                let (name, category, cents) = self.product(step);
                row(
                    out,
                    format_args!("{step}\t{name}\t{category}\t{}", money(cents)),
                )
            }
            Table::Customers => customer(&mut self.random_of(step), step, out),
            Table::Orders => self.each_order(step, |order, _| {
                let Order {
                    id,
                    day,
                    second,
                    status,
                } = order;
                let (date, hour, minute, second) =
                    (date(*day), second / 3600, second / 60 % 60, second % 60);
                row(
                    out,
                    format_args!(
                        "{step}\t{id}\t{date} {hour:02}:{minute:02}:{second:02}+00\t{status}"
                    ),
                )
            }),
            Table::OrderItems => self.each_order(step, |order, random| {
                let lines = random.between(1, MAX_ITEMS);
                (1..=lines)
                    .map(|line| {
                        let product = random.between(1, self.products);
                        let quantity = *random.pick(&[1, 1, 1, 1, 2, 2, 3, 6]);
                        let (id, price) = (order.id, money(self.product(product).2));
                        let values =
                            format_args!("{step}\t{id}\t{line}\t{product}\t{quantity}\t{price}");
                        row(out, values)
                    })
                    .sum()
            }),
        }
    }

    fn settings(&self, out: &mut Vec<u8>) -> u64 {
        let Recipe { rows, seed } = self.recipe;
        row(out, format_args!("shop_name\tThe Lunar Teapot"))
            + row(out, format_args!("currency\tEUR"))
            + row(out, format_args!("free_shipping_from\t50.00"))
            + row(out, format_args!("opened_on\t{}", date(FIRST_DAY)))
            + row(out, format_args!("seed\t{seed}"))
            + row(out, format_args!("rows_asked_for\t{rows}"))
    }

    /// A product, by its number from 1 to [`Shop::products`]: name, category and price in cents.
    pub(super) fn product(&self, id: u32) -> (String, &'static str, u32) {
        let mut random = Random::of(self.recipe.seed, KIND_PRODUCT, u64::from(id));
        // All pairs of a quality and a good in turn, so that no name comes twice.
        let number = (id - 1) as usize;
        let (good, category, lowest, highest) = GOODS[number % GOODS.len()];
        let quality = QUALITIES[(number / GOODS.len() + number) % QUALITIES.len()];
        let price = random.between(lowest / 100, highest / 100) * 100 + 90;
        (format!("{quality} {good}"), category, price)
    }

    /// How many products there are.
    pub(super) fn products(&self) -> u32 {
        self.products
    }

    /// The day on which a customer joined.
    pub(super) fn joined(&self, customer: u32) -> u32 {
        joined(&mut self.random_of(customer))
    }

    fn random_of(&self, customer: u32) -> Random {
        Random::of(self.recipe.seed, KIND_CUSTOMER, u64::from(customer))
    }

    /// Calls `each` for every order of a customer, with random numbers for its items.
    fn each_order(&self, customer: u32, mut each: impl FnMut(&Order, &mut Random) -> u64) -> u64 {
        let mut random = self.random_of(customer);
        let joined = joined(&mut random);
        let orders = random.between(0, MAX_ORDERS);
        let make = |number: u32| {
            let id = u64::from(customer) * ORDERS_STEP + u64::from(number);
            let mut random = Random::of(self.recipe.seed, KIND_CUSTOMER, u64::MAX - id);
            let day = random.between(joined, LAST_DAY);
            // What was ordered long ago has arrived.
            let status = match LAST_DAY - day {
                0..7 => *random.pick(&["paid", "packed", "shipped"]),
                _ if random.between(1, 25) == 1 => "returned",
                _ => "delivered",
            };
            let second = random.between(0, 86_399);
            each(
                &Order {
                    id,
                    day,
                    second,
                    status,
                },
                &mut random,
            )
        };
        (1..=orders).map(make).sum()
    }
}

struct Order {
    id: u64,
    day: u32,
    second: u32,
    status: &'static str,
}

/// The day on which a customer joined: the first that its random numbers say.
fn joined(random: &mut Random) -> u32 {
    random.between(FIRST_DAY, LAST_DAY)
}

fn customer(random: &mut Random, id: u32, out: &mut Vec<u8>) -> u64 {
    let joined = date(joined(random));
    let _orders = random.between(0, MAX_ORDERS);
    let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
    let (city, country) = random.pick(&CITIES);
    let mailbox = format!("{first}.{}", last.replace('\'', "")).to_lowercase();
    row(
        out,
        format_args!(
            "{id}\t{first} {last}\t{mailbox}.{id}@example.com\t{city}\t{country}\t{joined}"
        ),
    )
}

/// One line of COPY's text format. None of our words has a tab, a backslash or a line end in it.
fn row(out: &mut Vec<u8>, values: std::fmt::Arguments<'_>) -> u64 {
    writeln!(out, "{values}").expect("a vector takes everything");
    1
}

fn money(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A day since 1970-01-01 as year, month and day of the Gregorian calendar.
pub(super) fn date(day: u32) -> String {
    // Years begin in March here, so that the leap day is the last one: days from 0000-03-01.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    let year = era * 400 + year + later;
    format!("{year}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn shop(rows: u32, seed: u64) -> Shop {
        Shop::new(Recipe { rows, seed })
    }

    fn lines(shop: &Shop, table: Table) -> Vec<String> {
        let mut out = Vec::new();
        let count: u64 = (1..=shop.steps(table))
            .map(|step| shop.write(table, step, &mut out))
            .sum();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_eq!((lines.len() as u64, count), (count, shop.count(table)));
        lines
    }

    fn column(lines: &[String], index: usize) -> Vec<&str> {
        lines
            .iter()
            .map(|line| line.split('\t').nth(index).unwrap())
            .collect()
    }

    #[test]
    fn days_are_dates() {
        for (day, text) in [
            (0, "1970-01-01"),
            (FIRST_DAY, "2021-01-01"),
            (LAST_DAY, "2025-12-31"),
            (19_782, "2024-02-29"),
            (19_783, "2024-03-01"),
            (11_016, "2000-02-29"),
            (19_416, "2023-02-28"),
            (19_417, "2023-03-01"),
        ] {
            assert_eq!(date(day), text);
        }
    }

    #[test]
    fn a_seed_makes_the_same_rows_and_another_makes_others() {
        for table in [
            Table::Customers,
            Table::Orders,
            Table::OrderItems,
            Table::Products,
        ] {
            let rows = lines(&shop(3000, 7), table);
            assert_eq!(rows, lines(&shop(3000, 7), table));
            assert_ne!(rows, lines(&shop(3000, 8), table));
        }
        // Rows that somebody has seen are the same in every version.
        let first = &lines(&shop(3000, 1957), Table::Customers)[0];
        assert_eq!(
            first,
            "1\tLin Rossi\tlin.rossi.1@example.com\tPortland\tUnited States\t2022-03-18"
        );
    }

    #[test]
    fn about_as_many_rows_as_asked_for() {
        for rows in [3_000, 300_000] {
            let shop = shop(rows, 1957);
            let all: u64 = Table::ALL.map(|table| shop.count(table)).iter().sum();
            let asked = u64::from(rows);
            assert!(all.abs_diff(asked) < asked / 10, "{all} of {rows}");
        }
        assert!(shop(1, 1).count(Table::Customers) == 1);
    }

    #[test]
    fn references_lead_to_rows_and_keys_are_unique() {
        let shop = shop(3000, 5);
        let (customers, products, orders, items) = (
            lines(&shop, Table::Customers),
            lines(&shop, Table::Products),
            lines(&shop, Table::Orders),
            lines(&shop, Table::OrderItems),
        );
        let set = |lines, index| column(lines, index).into_iter().collect::<HashSet<_>>();
        assert_eq!(set(&customers, 0).len(), customers.len());
        assert_eq!(set(&orders, 1).len(), orders.len());
        assert!(set(&orders, 0).is_subset(&set(&customers, 0)));
        assert!(set(&items, 1).is_subset(&set(&orders, 1)));
        assert!(set(&items, 3).is_subset(&set(&products, 0)));
        assert_eq!(set(&products, 1).len(), products.len());
        let joined = |id: &str| {
            let at = customers
                .iter()
                .position(|c| c.starts_with(&format!("{id}\t")));
            customers[at.unwrap()]
                .rsplit('\t')
                .next()
                .unwrap()
                .to_owned()
        };
        for order in &orders {
            let (customer, placed) = (order.split('\t').next().unwrap(), order.split('\t').nth(2));
            assert!(placed.unwrap() >= joined(customer).as_str(), "{order}");
        }
    }

    #[test]
    fn all_products_have_names_of_their_own() {
        let lines = lines(&shop(300_000, 1), Table::Products);
        assert_eq!(lines.len(), 400);
        let names: HashSet<_> = column(&lines, 1).into_iter().collect();
        assert_eq!(names.len(), 400);
    }

    #[test]
    fn no_word_needs_escaping() {
        for table in Table::ALL {
            let lines = lines(&shop(3000, 3), table);
            let columns = lines[0].split('\t').count();
            for line in lines {
                assert!(
                    !line.contains('\\') && line.split('\t').count() == columns,
                    "{line}"
                );
            }
        }
    }
}
