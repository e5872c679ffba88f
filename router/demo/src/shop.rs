//! The shop's tables: what is made, in which order, and what kind each is.

/// Into how many partitions each sharded table is divided on its shard.
const PARTITIONS: u32 = 3;

/// One table, in the order in which they are made and filled: what is referred to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Settings,
    Products,
    Customers,
    Orders,
    OrderItems,
}

/// Where a table's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// On the home shard.
    Home,
    /// On every shard.
    Reference,
    /// Each on the shard of its customer, and there in one of the partitions.
    Sharded,
}

impl Table {
    pub(super) const ALL: [Table; 5] = [
        Table::Settings,
        Table::Products,
        Table::Customers,
        Table::Orders,
        Table::OrderItems,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Settings => "settings",
            Table::Products => "products",
            Table::Customers => "customers",
            Table::Orders => "orders",
            Table::OrderItems => "order_items",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Table::Settings => Kind::Home,
            Table::Products => Kind::Reference,
            Table::Customers | Table::Orders | Table::OrderItems => Kind::Sharded,
        }
    }

    /// The statements that make it, each to be sent alone.
    pub(super) fn definition(self) -> Vec<String> {
        let name = self.name();
        let columns = self.columns();
        match self.kind() {
            Kind::Home | Kind::Reference => vec![format!("CREATE TABLE {name} ({columns})")],
            Kind::Sharded => {
                let parent =
                    format!("CREATE TABLE {name} ({columns}) PARTITION BY HASH (customer_id)");
                let partitions = (0..PARTITIONS).map(|remainder| {
                    format!(
                        "CREATE TABLE {name}_p{remainder} PARTITION OF {name} \
                         FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder})"
                    )
                });
                std::iter::once(parent).chain(partitions).collect()
            }
        }
    }

    /// Rows of a table refer to rows of the same shard, so PostgreSQL itself watches over the references.
    fn columns(self) -> &'static str {
        match self {
            Table::Settings => "name text PRIMARY KEY, value text NOT NULL",
            Table::Products => {
                "product_id int PRIMARY KEY, name text NOT NULL, category text NOT NULL, \
                 price numeric(10,2) NOT NULL"
            }
            Table::Customers => {
                "customer_id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, \
                 city text NOT NULL, country text NOT NULL, joined date NOT NULL"
            }
            Table::Orders => {
                "customer_id bigint NOT NULL REFERENCES customers (customer_id), \
                 order_id bigint NOT NULL, placed_at timestamptz NOT NULL, status text NOT NULL, \
                 PRIMARY KEY (customer_id, order_id)"
            }
            Table::OrderItems => {
                "customer_id bigint NOT NULL, order_id bigint NOT NULL, line int NOT NULL, \
                 product_id int NOT NULL REFERENCES products (product_id), \
                 quantity int NOT NULL, unit_price numeric(10,2) NOT NULL, \
                 PRIMARY KEY (customer_id, order_id, line), \
                 FOREIGN KEY (customer_id, order_id) REFERENCES orders (customer_id, order_id)"
            }
        }
    }
}
