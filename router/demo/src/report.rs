//! What is printed when the demo is ready: where the rows are, asked from the
//! shards themselves, and what is worth typing.

use super::error::DemoError;
use super::events;
use super::fleet::{CLIENT, Fleet};
use super::progress::{say, thousands};
use super::replica_set::NAME;
use super::rows::Shop;
use super::settings::Ports;
use super::shop::{Kind, Table};
use mothership_cluster::{Binaries, Cluster};
use std::path::Path;

/// Rows of one table on one shard: in each partition, in their order, or in the table itself.
type Counts = Vec<u64>;

/// The rows of all tables: for each the counts of the shards, in their order.
pub(super) type Rows = [(Table, Vec<Counts>); Table::ALL.len()];

/// Asks the shards, past the router.
pub(super) fn count(fleet: &Fleet) -> Result<Rows, DemoError> {
    let mut rows = Table::ALL.map(|table| (table, Vec::new()));
    for (table, counts) in &mut rows {
        for shard in &fleet.shards {
            counts.push(count_on(shard.name, &shard.primary, *table)?);
        }
    }
    Ok(rows)
}

/// An error unless the shards have what a new shop was filled with.
pub(super) fn check(rows: &Rows, shop: &Shop) -> Result<(), DemoError> {
    rows.iter()
        .try_for_each(|(table, counts)| check_table(*table, shop.count(*table), counts))
}

/// Prints how many rows each shard and partition has.
pub(super) fn print(fleet: &Fleet, rows: &Rows) {
    say("\nRows on each shard, as the sum of its partitions:\n");
    for (table, counts) in rows {
        let mut head = table.name();
        for (shard, counts) in fleet.shards.iter().zip(counts) {
            if let Some(cell) = cell(counts) {
                say(format_args!("  {head:<12} {:<4}  {cell}", shard.name));
                head = "";
            }
        }
    }
}

/// An error unless the replica set has what the table was filled with.
pub(super) fn check_events(found: u64, shop: &Shop) -> Result<(), DemoError> {
    let sent = events::count(shop);
    let table = events::COLLECTION;
    match found == sent {
        true => Ok(()),
        false => Err(DemoError::Rows { table, sent, found }),
    }
}

/// Prints how many events there are, below the rows of the shards.
pub(super) fn print_events(count: u64) {
    let (table, count) = (events::COLLECTION, thousands(count));
    say(format_args!(
        "  {table:<12} {NAME:<4}  {count:>9}   documents of MongoDB"
    ));
}

/// Asks one shard.
fn count_on(shard: &'static str, primary: &Cluster, table: Table) -> Result<Counts, DemoError> {
    let name = table.name();
    let failed = |cause| DemoError::Server {
        shard,
        role: "primary",
        cause,
    };
    let exists = format!("SELECT to_regclass('public.{name}') IS NOT NULL");
    if primary.sql(CLIENT, &exists).map_err(failed)? != "t" {
        return Ok(Vec::new());
    }
    let sql = match table.kind() {
        Kind::Home | Kind::Reference => format!("SELECT count(*) FROM {name}"),
        // Also partitions without rows, of which GROUP BY tableoid says nothing.
        Kind::Sharded => format!(
            "SELECT (SELECT count(*) FROM {name} r WHERE r.tableoid = i.inhrelid) \
             FROM pg_inherits i WHERE i.inhparent = '{name}'::regclass \
             ORDER BY i.inhrelid::regclass::text"
        ),
    };
    let answer = primary.sql(CLIENT, &sql).map_err(failed)?;
    let number = |line: &str| {
        line.parse().map_err(|_| DemoError::Count {
            shard,
            answer: answer.clone(),
        })
    };
    answer.lines().map(number).collect()
}

/// The rows of one shard; nothing for a shard that has no such table.
fn cell(counts: &Counts) -> Option<String> {
    let all = thousands(counts.iter().sum());
    match counts.as_slice() {
        [] => None,
        [_] => Some(format!("{all:>9}")),
        parts => {
            let parts: Vec<_> = parts.iter().map(|part| thousands(*part)).collect();
            Some(format!("{all:>9} = {}", parts.join(" + ")))
        }
    }
}

/// Every row that was sent is somewhere, once; of a reference table on every shard.
fn check_table(table: Table, sent: u64, counts: &[Counts]) -> Result<(), DemoError> {
    let sums: Vec<u64> = counts.iter().map(|counts| counts.iter().sum()).collect();
    let wrong = match table.kind() {
        Kind::Reference => sums.iter().find(|sum| **sum != sent).copied(),
        Kind::Home | Kind::Sharded => Some(sums.iter().sum()).filter(|sum| *sum != sent),
    };
    match wrong {
        None => Ok(()),
        Some(found) => Err(DemoError::Rows {
            table: table.name(),
            sent,
            found,
        }),
    }
}

/// Prints how to connect and what to try.
pub(super) fn hints(
    state: &Path,
    fleet: &Fleet,
    binaries: &Binaries,
    ports: Ports,
    has_events: bool,
) {
    let psql = psql(binaries);
    let [here, there] = two_customers(fleet);
    let Ports { clients, metrics } = ports;
    let psql_line = format!("{psql} -h 127.0.0.1 -p {clients} -U {CLIENT}");
    let of_events_or_orders = match has_events {
        true => {
            "SELECT c.name, e.happened_at, e.details->>'text' AS text FROM customers c JOIN events e \
             ON e.customer_id = c.customer_id WHERE c.country = 'Norway' AND e.kind = 'review' \
             ORDER BY e.happened_at DESC LIMIT 5;
     the customers are on three PostgreSQLs, the events are documents of MongoDB: PostgreSQL joins what both have found"
        }
        false => {
            "SELECT count(*) FROM orders;
     every shard counts its own orders at the same time, the router adds up"
        }
    };
    say(format_args!(
        "
Ready. Connect with any PostgreSQL client:

  {psql_line} {CLIENT}

Five things worth typing there:

  1. EXPLAIN (ROUTE) SELECT * FROM customers WHERE customer_id = {here};
     the key says which shard and which partition own the row: one server is asked, no other

  2. SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.customer_id WHERE c.country = 'Norway';
     a customer's orders live where the customer does, so each shard joins its own, and the router adds up

  3. {of_events_or_orders}

  4. BEGIN;
     UPDATE customers SET city = 'Oslo' WHERE customer_id = {here};
     UPDATE customers SET city = 'Oslo' WHERE customer_id = {there};
     COMMIT;
     the two live on different shards; two-phase commit changes both or neither

  5. {psql_line} mothership -c 'SHOW ENDPOINTS'
     (in a shell) every server with its role, load, lag and health, on the router's console

Also: pgbench -i -s 10 -h 127.0.0.1 -p {clients} -U {CLIENT} {CLIENT}   (its four tables are sharded, too)
Metrics: http://127.0.0.1:{metrics}/metrics   Configuration and logs: {state}",
        state = state.display()
    ));
}

/// `psql` if a shell finds it, else where it is.
fn psql(binaries: &Binaries) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    match folders.any(|folder| folder.join("psql").is_file()) {
        true => "psql".to_owned(),
        false => binaries.program("psql").display().to_string(),
    }
}

/// Two customers of different shards: the first of the first two shards that have any.
/// Only for an example, so a shop that somebody has emptied is no error.
fn two_customers(fleet: &Fleet) -> [String; 2] {
    let first = |primary: &Cluster| primary.sql(CLIENT, "SELECT min(customer_id) FROM customers");
    let answers = fleet.shards.iter().filter_map(|s| first(&s.primary).ok());
    let mut found = answers.filter(|id| !id.is_empty());
    ["1", "2"].map(|other| found.next().unwrap_or_else(|| other.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_shown_with_their_sum() {
        assert_eq!(cell(&vec![]), None);
        assert_eq!(cell(&vec![400]).unwrap(), "      400");
        assert_eq!(
            cell(&vec![1000, 2, 0]).unwrap(),
            "    1,002 = 1,000 + 2 + 0"
        );
    }

    #[test]
    fn a_lost_or_doubled_row_is_an_error() {
        let shards = |counts: [u64; 3]| counts.map(|count| vec![count]);
        assert!(check_table(Table::Orders, 6, &shards([1, 2, 3])).is_ok());
        assert!(check_table(Table::Orders, 7, &shards([1, 2, 3])).is_err());
        assert!(check_table(Table::Products, 4, &shards([4, 4, 4])).is_ok());
        assert!(check_table(Table::Products, 4, &shards([4, 4, 5])).is_err());
        assert!(check_table(Table::Settings, 4, &[vec![4], vec![], vec![]]).is_ok());
    }
}
