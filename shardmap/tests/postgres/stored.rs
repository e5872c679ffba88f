//! The key of what a column with a length, precision or scale stores.

use mothership_shardmap::{KeyError, KeyType, TextContext};

use crate::cluster::{Cluster, send_function, unhex};
use crate::values::{Random, seed, texts};

const VALUES: usize = 3_000;

#[test]
fn the_stored_key_is_the_key_of_what_postgres_stores() {
    let seed = seed();
    let database = Cluster::shared().database("stored");
    for (index, column) in [
        "varchar(1)",
        "varchar(4)",
        "numeric(10,2)",
        "numeric(5,0)",
        "numeric(3)",
        "numeric(4,-2)",
        "numeric(2,4)",
        "numeric(1000,500)",
        "timestamp(0)",
        "timestamp(3)",
        "timestamptz(1)",
        "timestamptz(6)",
    ]
    .iter()
    .enumerate()
    {
        let key_type = KeyType::from_name(column.split('(').next().unwrap()).unwrap();
        let values = texts(&mut Random::new(seed, column), key_type, VALUES);
        let (table, send) = (format!("texts_{index}"), send_function(key_type));
        database.load(&table, &values);
        // An assignment cast from the unlimited type, as an INSERT of a parameter does.
        database.run(&format!(
            "create table stored_{index} (v {column});
             create function store_{index}(t text, out v {0}, out read bool, out state text) language plpgsql as $$
             declare x {0};
             begin
                 x := t::{0}; read := true;
                 insert into stored_{index} values (x) returning stored_{index}.v into v;
             exception when others then state := sqlstate; end $$;",
            key_type.name()
        ));
        let typmod = database.query("", &format!(
            "select atttypmod from pg_attribute where attrelid = 'stored_{index}'::regclass and attname = 'v'"
        ));
        let typmod: i32 = typmod[0][0].as_ref().unwrap().parse().unwrap();
        let rows = database.query(
            "set timezone = 'UTC';",
            &format!("select state, encode({send}(v), 'hex') from {table}, lateral store_{index}(t) order by id"),
        );
        let (mut same, mut invalid, mut unsure) = (0, 0, 0);
        for (row, text) in rows.iter().zip(&values) {
            let Ok(key) = key_type.from_text(text.as_bytes(), &TextContext::UTC) else {
                continue;
            };
            let stored = key_type.stored(key, typmod);
            match (&row[1], stored) {
                (Some(hex), Ok(key)) => {
                    let truth = key_type.from_binary(0, &unhex(hex), &TextContext::UTC);
                    assert!(truth == Ok(key), "{column} {text:?}: another key is stored");
                    same += 1;
                }
                (None, Ok(_)) => {
                    panic!("{column} {text:?}: a key, though refused with {:?}", row[0])
                }
                (None, Err(KeyError::Invalid)) => invalid += 1,
                (_, Err(error)) => {
                    assert_eq!(error, KeyError::Unsure, "{column} {text:?}");
                    unsure += 1;
                }
            }
        }
        println!("{column}: {same} stored, {invalid} refused, {unsure} unsure");
        assert!(same > 20, "{column}: too few to be a test");
    }
}
