//! The eight tables with their keys and indexes, and the two ways in which they are sharded.

/// Which tables lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Orders with their lines.
    OrdersByKey,
    /// Orders with their customers; lines stay with their order's key.
    OrdersByCustomer,
}

pub const LAYOUTS: [Layout; 2] = [Layout::OrdersByKey, Layout::OrdersByCustomer];

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Layout::OrdersByKey => "orders by orderkey with lineitem",
            Layout::OrdersByCustomer => "orders by custkey with customer",
        }
    }

    /// The router's declarations.
    pub fn tables(self) -> String {
        let orders = match self {
            Layout::OrdersByKey => {
                table("lineitem", "l_orderkey", "")
                    + &table("orders", "o_orderkey", "colocate = \"lineitem\"")
            }
            // o_orderkey alone is unique, and no shard can see that of all.
            Layout::OrdersByCustomer => {
                table("lineitem", "l_orderkey", "")
                    + &table(
                        "orders",
                        "o_custkey",
                        "colocate = \"customer\"\nallow_unenforced_unique = true",
                    )
            }
        };
        let mut text = table("customer", "c_custkey", "")
            + &orders
            + &table("part", "p_partkey", "")
            + &table("partsupp", "ps_partkey", "colocate = \"part\"")
            + &table("supplier", "s_suppkey", "");
        for name in ["nation", "region"] {
            text += &format!("[[table]]\nname = \"{name}\"\nkind = \"reference\"\n");
        }
        text
    }
}

fn table(name: &str, key: &str, more: &str) -> String {
    format!("[[table]]\nname = \"{name}\"\nkey = \"{key}\"\nkey_type = \"int4\"\n{more}\n")
}

/// What is made before rows are loaded.
pub const TABLES: &str = "
CREATE TABLE region (
    r_regionkey int4 PRIMARY KEY,
    r_name char(25) NOT NULL,
    r_comment varchar(152) NOT NULL);
CREATE TABLE nation (
    n_nationkey int4 PRIMARY KEY,
    n_name char(25) NOT NULL,
    n_regionkey int4 NOT NULL,
    n_comment varchar(152) NOT NULL);
CREATE TABLE supplier (
    s_suppkey int4 PRIMARY KEY,
    s_name char(25) NOT NULL,
    s_address varchar(40) NOT NULL,
    s_nationkey int4 NOT NULL,
    s_phone char(15) NOT NULL,
    s_acctbal numeric(15,2) NOT NULL,
    s_comment varchar(101) NOT NULL);
CREATE TABLE part (
    p_partkey int4 PRIMARY KEY,
    p_name varchar(55) NOT NULL,
    p_mfgr char(25) NOT NULL,
    p_brand char(10) NOT NULL,
    p_type varchar(25) NOT NULL,
    p_size int4 NOT NULL,
    p_container char(10) NOT NULL,
    p_retailprice numeric(15,2) NOT NULL,
    p_comment varchar(23) NOT NULL);
CREATE TABLE partsupp (
    ps_partkey int4 NOT NULL,
    ps_suppkey int4 NOT NULL,
    ps_availqty int4 NOT NULL,
    ps_supplycost numeric(15,2) NOT NULL,
    ps_comment varchar(199) NOT NULL,
    PRIMARY KEY (ps_partkey, ps_suppkey));
CREATE TABLE customer (
    c_custkey int4 PRIMARY KEY,
    c_name varchar(25) NOT NULL,
    c_address varchar(40) NOT NULL,
    c_nationkey int4 NOT NULL,
    c_phone char(15) NOT NULL,
    c_acctbal numeric(15,2) NOT NULL,
    c_mktsegment char(10) NOT NULL,
    c_comment varchar(117) NOT NULL);
CREATE TABLE orders (
    o_orderkey int4 PRIMARY KEY,
    o_custkey int4 NOT NULL,
    o_orderstatus char(1) NOT NULL,
    o_totalprice numeric(15,2) NOT NULL,
    o_orderdate date NOT NULL,
    o_orderpriority char(15) NOT NULL,
    o_clerk char(15) NOT NULL,
    o_shippriority int4 NOT NULL,
    o_comment varchar(79) NOT NULL);
CREATE TABLE lineitem (
    l_orderkey int4 NOT NULL,
    l_partkey int4 NOT NULL,
    l_suppkey int4 NOT NULL,
    l_linenumber int4 NOT NULL,
    l_quantity numeric(15,2) NOT NULL,
    l_extendedprice numeric(15,2) NOT NULL,
    l_discount numeric(15,2) NOT NULL,
    l_tax numeric(15,2) NOT NULL,
    l_returnflag char(1) NOT NULL,
    l_linestatus char(1) NOT NULL,
    l_shipdate date NOT NULL,
    l_commitdate date NOT NULL,
    l_receiptdate date NOT NULL,
    l_shipinstruct char(25) NOT NULL,
    l_shipmode char(10) NOT NULL,
    l_comment varchar(44) NOT NULL,
    PRIMARY KEY (l_orderkey, l_linenumber));
";

/// And afterwards: the columns that refer to other tables.
pub const INDEXES: &str = "
CREATE INDEX ON nation (n_regionkey);
CREATE INDEX ON supplier (s_nationkey);
CREATE INDEX ON partsupp (ps_suppkey);
CREATE INDEX ON customer (c_nationkey);
CREATE INDEX ON orders (o_custkey);
CREATE INDEX ON lineitem (l_partkey, l_suppkey);
CREATE INDEX ON lineitem (l_suppkey);
";
