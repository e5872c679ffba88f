"""SQLAlchemy: relations with every way of loading, aggregates, pages, upserts, bulk writes, transactions.

Customers, their orders and items are sharded by the customer; products and reviews each by their own id, so that joins with
them go over shards; countries are on every shard.
"""

import datetime
import decimal

import psycopg
from sqlalchemy import (
    Boolean, Column, Date, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Numeric, String, and_, any_, case as when,
    create_engine, delete, distinct, extract, func, insert, literal, not_, or_, select, text, true, tuple_, union,
    union_all, update, values,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, array_agg, distinct_on, insert as pg_insert
from sqlalchemy.orm import (
    Session, aliased, contains_eager, declarative_base, defer, foreign, joinedload, load_only, relationship, remote, selectinload, subqueryload,
)

from record import case, login, play, recording

Base = declarative_base()
D = decimal.Decimal


class Country(Base):
    __tablename__ = "land"
    code = Column(String(2), primary_key=True)
    name = Column(String(40), nullable=False)


class Customer(Base):
    __tablename__ = "customer"
    id = Column(Integer, primary_key=True)
    name = Column(String(40), nullable=False)
    country_code = Column(ForeignKey("land.code"), nullable=False)
    balance = Column(Numeric(12, 2), nullable=False, default=0)
    joined = Column(Date, nullable=False)
    extra = Column(JSONB)
    labels = Column(ARRAY(String))
    country = relationship(Country)
    orders = relationship("Order", back_populates="customer", order_by="Order.id", cascade="all, delete-orphan")
    reviews = relationship(
        "Review", primaryjoin="Customer.id == foreign(Review.customer_id)", back_populates="customer", order_by="Review.id"
    )


class Order(Base):
    __tablename__ = "orders"
    customer_id = Column(ForeignKey("customer.id"), primary_key=True)
    id = Column(Integer, primary_key=True, autoincrement=False)
    placed = Column(Date, nullable=False)
    status = Column(String(10), nullable=False)
    customer = relationship(Customer, back_populates="orders")
    items = relationship("Item", back_populates="order", order_by="Item.line", cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "item"
    customer_id = Column(Integer, primary_key=True)
    order_id = Column(Integer, primary_key=True, autoincrement=False)
    line = Column(Integer, primary_key=True, autoincrement=False)
    product_id = Column(Integer, nullable=False)
    quantity = Column(Integer, nullable=False)
    price = Column(Numeric(10, 2), nullable=False)
    __table_args__ = (ForeignKeyConstraint(["customer_id", "order_id"], ["orders.customer_id", "orders.id"]),)
    order = relationship(Order, back_populates="items")
    product = relationship("Product", primaryjoin="foreign(Item.product_id) == Product.id")


class Product(Base):
    __tablename__ = "product"
    id = Column(Integer, primary_key=True)
    name = Column(String(40), nullable=False)
    price = Column(Numeric(10, 2), nullable=False)
    active = Column(Boolean, nullable=False, default=True)
    parent_id = Column(Integer)
    reviews = relationship(
        "Review", primaryjoin="Product.id == foreign(Review.product_id)", back_populates="product", order_by="Review.id"
    )
    parent = relationship("Product", primaryjoin="foreign(Product.parent_id) == remote(Product.id)", back_populates="children")
    children = relationship(
        "Product", primaryjoin="Product.id == foreign(remote(Product.parent_id))", back_populates="parent", order_by="Product.id"
    )


class Review(Base):
    __tablename__ = "review"
    id = Column(Integer, primary_key=True)
    product_id = Column(Integer, nullable=False)
    customer_id = Column(Integer, nullable=False)
    stars = Column(Integer, nullable=False)
    body = Column(String)
    product = relationship(Product, primaryjoin="foreign(Review.product_id) == Product.id", back_populates="reviews")
    customer = relationship(Customer, primaryjoin="foreign(Review.customer_id) == Customer.id", back_populates="reviews")


class Setting(Base):
    __tablename__ = "setting"
    customer_id = Column(Integer, primary_key=True, autoincrement=False)
    name = Column(String(20), primary_key=True)
    value = Column(String(40))
    version = Column(Integer, nullable=False)
    __mapper_args__ = {"version_id_col": version}


def connected(**more):
    connect = {**login(), "cursor_factory": recording(psycopg.Cursor)}
    return create_engine("postgresql+psycopg://", connect_args=connect, pool_size=2, max_overflow=0, **more)


engine = connected()
# Inserts rows with generated keys one by one, as SQLAlchemy before 2.0 did.
one_by_one = connected(use_insertmanyvalues=False)


def session():
    return Session(engine)


def rows(statement, **parameters):
    with session() as s:
        return [tuple(row) for row in s.execute(statement, parameters)]


def undone(act):
    """What `act` gives, in a transaction that is rolled back."""
    with session() as s:
        done = act(s)
        s.rollback()
        return done


@case
def tables_are_made_in_one_transaction():
    with engine.connect() as c:
        Base.metadata.create_all(c)
        c.rollback()


@case
def tables_are_made():
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        Base.metadata.create_all(c)


@case
def countries_are_inserted():
    with session() as s:
        s.add_all([Country(code=c, name=n) for c, n in [("cz", "Czechia"), ("jp", "Japan"), ("is", "Iceland")]])
        s.commit()


@case
def customers_with_orders_and_items_are_inserted():
    with Session(one_by_one) as s:
        for n in range(1, 21):
            customer = Customer(
                name=f"c{n:02}", country_code=["cz", "jp", "is"][n % 3], balance=D(n) * D("10.25"), joined=datetime.date(2020, 1, n),
                extra={"vip": n % 5 == 0, "n": n} if n % 4 else None, labels=["a", f"l{n % 3}"],
            )
            for o in range(1, n % 4 + 1):
                order = Order(id=o, placed=datetime.date(2021, 1 + o, n), status=["new", "paid", "sent"][(n + o) % 3])
                order.items = [
                    Item(line=line, product_id=(n + line) % 7 + 1, quantity=line + n % 3, price=D(line) * D("1.10") + n)
                    for line in range(1, o + 2)
                ]
                customer.orders.append(order)
            s.add(customer)
        s.commit()
        return s.scalar(select(func.max(Customer.id)))


@case
def products_and_reviews_are_inserted_in_bulk():
    with Session(one_by_one) as s:
        s.execute(insert(Product), [{"name": f"p{n}", "price": D(n) * 3, "active": n % 3 != 0, "parent_id": n // 2 or None} for n in range(1, 11)])
        s.execute(
            insert(Review), [{"product_id": n % 9 + 1, "customer_id": n % 20 + 1, "stars": n % 5 + 1, "body": f"r{n}" if n % 4 else None} for n in range(60)]
        )
        s.commit()


@case
def get_by_key():
    with session() as s:
        return s.get(Customer, 3).name, s.get(Order, (3, 2)).status, s.get(Item, (3, 2, 1)).price, s.get(Product, 99)


@case
def filter_by_key_and_others():
    return rows(select(Customer.id, Customer.name, Customer.balance).where(Customer.id.in_([1, 5, 9])).order_by(Customer.id))


@case
def filter_with_everything():
    condition = and_(or_(Customer.name.like("c1%"), Customer.name.ilike("%3")), not_(Customer.country_code == "jp"), Customer.balance.between(20, 190))
    return rows(select(Customer.id).where(condition).order_by(Customer.id))


@case
def filter_by_json_and_arrays():
    by_json = select(Customer.id).where(Customer.extra["vip"].as_boolean()).order_by(Customer.id)
    by_contains = select(Customer.id).where(Customer.extra.contains({"n": 7}))
    by_array = select(Customer.id).where(literal("l1") == any_(Customer.labels)).order_by(Customer.id)
    null = select(Customer.id, Customer.extra).where(Customer.extra.is_(None)).order_by(Customer.id)
    return rows(by_json), rows(by_contains), rows(by_array), rows(null)


@case
def filter_by_pairs():
    return rows(select(Order.customer_id, Order.id).where(tuple_(Order.customer_id, Order.id).in_([(1, 1), (2, 2), (7, 3)])).order_by(Order.customer_id))


@case
def whole_objects():
    with session() as s:
        return [(c.id, c.name, c.balance, c.joined, c.extra, c.labels) for c in s.scalars(select(Customer).order_by(Customer.id))]


@case
def pages():
    page = select(Customer.id, Customer.name).order_by(Customer.name.desc()).limit(5)
    return rows(page), rows(page.offset(5)), rows(page.offset(18)), rows(page.offset(100))


@case
def pages_by_the_last_key():
    return rows(select(Review.stars, Review.id).where(tuple_(Review.stars, Review.id) > (3, 10)).order_by(Review.stars, Review.id).limit(7))


@case
def legacy_query_count_and_exists():
    with session() as s:
        query = s.query(Customer).filter(Customer.balance > 50)
        return query.count(), s.query(query.exists()).scalar(), query.order_by(Customer.id).first().id, s.query(Review).filter_by(stars=5).count()


@case
def one_and_one_or_none():
    with session() as s:
        return s.scalars(select(Customer).where(Customer.name == "c07")).one().id, s.scalars(select(Customer).where(Customer.name == "none")).one_or_none()


@case
def lazy_loading():
    with session() as s:
        customer = s.get(Customer, 7)
        return [(o.id, [(i.line, i.product.name) for i in o.items]) for o in customer.orders], customer.country.name, [r.id for r in customer.reviews]


@case
def joinedload_of_colocated():
    with session() as s:
        found = s.scalars(select(Customer).options(joinedload(Customer.orders).joinedload(Order.items)).order_by(Customer.id)).unique()
        return [(c.id, [(o.id, len(o.items)) for o in c.orders]) for c in found]


@case
def joinedload_of_reference():
    with session() as s:
        return [(c.id, c.country.name) for c in s.scalars(select(Customer).options(joinedload(Customer.country)).order_by(Customer.id))]


@case
def joinedload_over_shards():
    with session() as s:
        found = s.scalars(select(Review).options(joinedload(Review.product), joinedload(Review.customer).joinedload(Customer.country)).order_by(Review.id))
        return [(r.id, r.product.name, r.customer.name, r.customer.country.name) for r in found]


@case
def joinedload_with_limit():
    with session() as s:
        found = s.scalars(select(Customer).options(joinedload(Customer.orders)).order_by(Customer.id.desc()).limit(4)).unique()
        return [(c.id, [o.id for o in c.orders]) for c in found]


@case
def joinedload_of_many_over_shards_with_limit():
    with session() as s:
        found = s.scalars(select(Product).options(joinedload(Product.reviews)).order_by(Product.name).limit(3).offset(1)).unique()
        return [(p.id, [r.id for r in p.reviews]) for p in found]


@case
def joinedload_inner():
    with session() as s:
        return [(i.customer_id, i.order_id, i.line, i.product.name) for i in s.scalars(
            select(Item).options(joinedload(Item.product, innerjoin=True)).order_by(Item.customer_id, Item.order_id, Item.line))]


@case
def selectinload_of_colocated():
    with session() as s:
        found = s.scalars(select(Customer).options(selectinload(Customer.orders).selectinload(Order.items)).order_by(Customer.id))
        return [(c.id, [(o.id, [i.price for i in o.items]) for o in c.orders]) for c in found]


@case
def selectinload_over_shards():
    with session() as s:
        found = s.scalars(select(Product).options(selectinload(Product.reviews).selectinload(Review.customer)).order_by(Product.id))
        return [(p.id, [(r.id, r.customer.name) for r in p.reviews]) for p in found]


@case
def selectinload_of_one():
    with session() as s:
        found = s.scalars(select(Review).options(selectinload(Review.product)).where(Review.stars > 3).order_by(Review.id))
        return [(r.id, r.product.name) for r in found]


@case
def subqueryload_of_both():
    with session() as s:
        found = s.scalars(select(Customer).options(subqueryload(Customer.orders), subqueryload(Customer.reviews)).where(Customer.balance > 100).order_by(Customer.id))
        return [(c.id, [o.id for o in c.orders], [r.id for r in c.reviews]) for c in found.unique()]


@case
def tree_of_the_same_table():
    with session() as s:
        found = s.scalars(select(Product).options(joinedload(Product.parent), selectinload(Product.children)).order_by(Product.id))
        return [(p.id, p.parent and p.parent.name, [c.id for c in p.children]) for p in found]


@case
def contains_eager_with_filter():
    with session() as s:
        found = s.scalars(
            select(Customer).join(Customer.orders).where(Order.status == "paid").options(contains_eager(Customer.orders)).order_by(Customer.id, Order.id)
        ).unique()
        return [(c.id, [o.id for o in c.orders]) for c in found]


@case
def load_only_and_defer():
    with session() as s:
        some = s.scalars(select(Customer).options(load_only(Customer.name)).order_by(Customer.id).limit(2)).all()
        less = s.scalars(select(Customer).options(defer(Customer.extra)).order_by(Customer.id).limit(2)).all()
        return [c.name for c in some], [c.extra for c in less]


@case
def relationship_conditions():
    any_paid = select(Customer.id).where(Customer.orders.any(Order.status == "paid")).order_by(Customer.id)
    none = select(Customer.id).where(~Customer.orders.any()).order_by(Customer.id)
    has = select(Order.customer_id, Order.id).where(Order.customer.has(Customer.country_code == "cz")).order_by(Order.customer_id, Order.id)
    return rows(any_paid), rows(none), rows(has)


@case
def relationship_conditions_over_shards():
    any_five = select(Product.id).where(Product.reviews.any(Review.stars == 5)).order_by(Product.id)
    none = select(Product.id).where(~Product.reviews.any()).order_by(Product.id)
    has = select(Review.id).where(Review.customer.has(Customer.country_code == "is")).order_by(Review.id)
    both = select(Review.id).where(Review.product.has(Product.active), ~Review.customer.has(Customer.balance < 100)).order_by(Review.id)
    return rows(any_five), rows(none), rows(has), rows(both)


@case
def aggregates():
    everything = select(
        func.count(), func.count(Review.body), func.count(distinct(Review.customer_id)), func.sum(Review.stars), func.avg(Review.stars), func.min(Review.body),
        func.max(Review.body), func.stddev(Review.stars), func.bool_and(Review.stars > 0),
    )
    empty = everything.where(Review.stars > 9)
    money = select(func.sum(Item.price * Item.quantity), func.avg(Item.price), func.max(Item.price))
    return rows(everything), rows(empty), rows(money)


@case
def aggregates_with_filter_and_case():
    return rows(
        select(
            func.count().filter(Review.stars >= 4), func.sum(when((Review.stars > 2, 1), else_=0)), func.coalesce(func.sum(Review.stars).filter(Review.stars > 9), 0),
        )
    )


@case
def group_by_and_having():
    stars = select(Review.stars, func.count(), func.avg(Review.product_id)).group_by(Review.stars).order_by(Review.stars)
    many = select(Review.product_id, func.count().label("n")).group_by(Review.product_id).having(func.count() > 6).order_by(func.count().desc(), Review.product_id)
    top = select(Review.customer_id, func.sum(Review.stars)).group_by(Review.customer_id).order_by(func.sum(Review.stars).desc(), Review.customer_id).limit(3)
    return rows(stars), rows(many), rows(top)


@case
def group_by_over_joins():
    by_country = (
        select(Country.name, func.count(distinct(Customer.id)), func.sum(Item.quantity * Item.price))
        .select_from(Customer).join(Customer.country).join(Customer.orders).join(Order.items).group_by(Country.name).order_by(Country.name)
    )
    by_product = (
        select(Product.name, func.count(Item.line), func.sum(Item.quantity)).outerjoin(Item, Item.product_id == Product.id).group_by(Product.id, Product.name)
        .order_by(Product.name)
    )
    by_month = select(extract("month", Order.placed).label("m"), func.count()).group_by(text("m")).order_by(text("m"))
    return rows(by_country), rows(by_product), rows(by_month)


@case
def joins_over_shards():
    inner = select(Review.id, Product.name).join(Review.product).where(Product.price > 10).order_by(Review.id)
    outer = select(Product.id, Review.id).outerjoin(Product.reviews).order_by(Product.id, Review.id)
    full = select(Product.id, Setting.name).select_from(Product).join(Setting, Setting.customer_id == Product.id, full=True).order_by(Product.id)
    other = aliased(Customer)
    pairs = select(Customer.id, other.id).join(other, and_(other.country_code == Customer.country_code, other.id > Customer.id)).order_by(Customer.id, other.id)
    return rows(inner), rows(outer), rows(full), rows(pairs)


@case
def scalar_subqueries_and_column_properties():
    orders = select(func.count(Order.id)).where(Order.customer_id == Customer.id).correlate(Customer).scalar_subquery()
    stars = select(func.avg(Review.stars)).where(Review.customer_id == Customer.id).correlate(Customer).scalar_subquery()
    return rows(select(Customer.id, orders.label("n"), stars.label("s")).order_by(Customer.id))


@case
def subqueries_in_from_and_in():
    totals = select(Item.customer_id, func.sum(Item.price * Item.quantity).label("total")).group_by(Item.customer_id).subquery()
    rich = select(Customer.name, totals.c.total).join(totals, totals.c.customer_id == Customer.id).where(totals.c.total > 50).order_by(totals.c.total.desc(), Customer.name)
    named = select(Product.name).where(Product.id.in_(select(Review.product_id).where(Review.stars == 1))).order_by(Product.name)
    missing = select(Customer.id).where(Customer.id.not_in(select(Review.customer_id).where(Review.stars > 4))).order_by(Customer.id)
    return rows(rich), rows(named), rows(missing)


@case
def ctes_and_recursion():
    best = select(Review.product_id, func.avg(Review.stars).label("a")).group_by(Review.product_id).cte("best")
    joined = select(Product.name, best.c.a).join(best, best.c.product_id == Product.id).order_by(Product.name)
    tree = select(Product.id, Product.parent_id, literal(0).label("depth")).where(Product.parent_id.is_(None)).cte("tree", recursive=True)
    tree = tree.union_all(select(Product.id, Product.parent_id, tree.c.depth + 1).join(tree, Product.parent_id == tree.c.id))
    return rows(joined), rows(select(tree).order_by(tree.c.id))


@case
def windows():
    ranked = select(
        Review.id, func.row_number().over(partition_by=Review.product_id, order_by=[Review.stars.desc(), Review.id]).label("r"),
        func.sum(Review.stars).over(order_by=Review.id, rows=(None, 0)),
    ).subquery()
    return rows(select(ranked).where(ranked.c.r <= 2).order_by(ranked.c.id))


@case
def unions():
    a, b = select(Customer.name.label("n")).where(Customer.id < 4), select(Product.name).where(Product.id < 4)
    return rows(union(a, b).order_by("n")), rows(union_all(a, a).order_by("n")), rows(a.except_(b).order_by("n")), rows(a.intersect(a).order_by("n"))


@case
def distinct_and_distinct_on():
    return (
        rows(select(Review.stars).distinct().order_by(Review.stars)),
        rows(select(Review.product_id, Review.id).ext(distinct_on(Review.product_id)).order_by(Review.product_id, Review.id.desc())),
        rows(select(Customer.country_code, Customer.labels).distinct().order_by(Customer.country_code, Customer.labels)),
    )


@case
def lateral_top_of_each():
    last = select(Review.id, Review.stars).where(Review.product_id == Product.id).order_by(Review.id.desc()).limit(2).lateral("last")
    return rows(select(Product.id, last.c.id, last.c.stars).join(last, true()).order_by(Product.id, last.c.id))


@case
def arrays_json_and_strings_aggregated():
    return (
        rows(select(Review.product_id, array_agg(aggregate_order_by(Review.id, Review.id))).group_by(Review.product_id).order_by(Review.product_id)),
        rows(select(func.string_agg(Product.name, aggregate_order_by(literal(","), Product.name)))),
        rows(select(func.jsonb_object_agg(Product.name, Product.price))),
    )


@case
def values_joined():
    wanted = values(Column("id", Integer), Column("note", String), name="wanted").data([(1, "a"), (3, "b"), (8, "c")])
    return rows(select(Customer.id, wanted.c.note).join(wanted, wanted.c.id == Customer.id).order_by(Customer.id))


@case
def rows_are_streamed():
    with session() as s:
        found = s.execute(select(Review.id).order_by(Review.id).execution_options(yield_per=10))
        return [[row.id for row in part] for part in found.partitions()]


@case
def unit_of_work_updates_and_deletes():
    def act(s):
        customer = s.get(Customer, 11)
        customer.balance += 5
        customer.extra = {"changed": True}
        customer.orders[0].status = "lost"
        s.delete(customer.orders[-1])
        s.flush()
        s.refresh(customer)
        return customer.balance, customer.extra, [o.status for o in customer.orders]
    return undone(act)


@case
def deletes_cascade():
    def act(s):
        s.delete(s.get(Customer, 7))
        s.flush()
        return s.scalar(select(func.count()).select_from(Order).where(Order.customer_id == 7)), s.scalar(select(func.count(Item.line)))
    return undone(act)


@case
def updates_of_many():
    def act(s):
        a = s.execute(update(Review).where(Review.stars < 3).values(stars=Review.stars + 1)).rowcount
        b = s.execute(update(Customer).where(Customer.country_code == "jp").values(balance=Customer.balance * 2)).rowcount
        c = s.execute(update(Order).where(Order.customer_id == Customer.id, Customer.country_code == "cz").values(status="moved")).rowcount
        d = s.execute(delete(Review).where(Review.body.is_(None))).rowcount
        return a, b, c, d, s.execute(select(func.sum(Review.stars))).scalar()
    return undone(act)


@case
def update_returning():
    def act(s):
        changed = s.execute(update(Product).where(Product.active).values(price=Product.price + 1).returning(Product.id, Product.price))
        return sorted(tuple(row) for row in changed)
    return undone(act)


@case
def delete_returning_objects():
    return undone(lambda s: sorted(r.id for r in s.scalars(delete(Review).where(Review.stars == 2).returning(Review))))


@case
def updates_with_rows_of_other_shards():
    # Which columns it asks back for, SQLAlchemy takes from a set in any order.
    ask = {"synchronize_session": False}

    def act(s):
        a = s.execute(update(Review).where(Review.product_id.in_(select(Product.id).where(Product.active))).values(body="active")).rowcount
        b = s.execute(delete(Item).where(Item.product_id.in_(select(Product.id).where(~Product.active))).execution_options(**ask)).rowcount
        return a, b
    return undone(act)


@case
def update_from_another_table_over_shards():
    return undone(lambda s: s.execute(update(Item).where(Item.product_id == Product.id).values(price=Product.price).execution_options(synchronize_session=False)).rowcount)


@case
def update_with_scalar_subquery():
    average = select(func.avg(Review.stars)).where(Review.product_id == Product.id).correlate(Product).scalar_subquery()
    return undone(lambda s: s.execute(update(Product).values(price=func.coalesce(average, 0))).rowcount)


@case
def bulk_update_by_key():
    def act(s):
        s.execute(update(Product), [{"id": n, "price": n * 100} for n in range(1, 8)])
        return s.execute(select(func.sum(Product.price))).scalar()
    return undone(act)


@case
def upserts():
    def act(s):
        new = [{"customer_id": n, "name": "theme", "value": f"v{n}", "version": 1} for n in range(1, 9)]
        s.execute(pg_insert(Setting).values(new))
        again = pg_insert(Setting).values([{**row, "value": "again"} for row in new[4:]] + [{"customer_id": 30, "name": "theme", "value": "x", "version": 1}])
        s.execute(again.on_conflict_do_nothing())
        changed = again.on_conflict_do_update(
            index_elements=["customer_id", "name"], set_={"value": again.excluded.value, "version": Setting.version + 1}, where=Setting.version < 5
        )
        back = s.execute(changed.returning(Setting.customer_id, Setting.value, Setting.version)).all()
        return sorted(tuple(row) for row in back), s.execute(select(func.sum(Setting.version))).scalar()
    return undone(act)


@case
def upsert_by_the_primary_key_of_a_serial():
    def act(s):
        one = pg_insert(Product).values(id=3, name="three", price=1, active=True)
        s.execute(one.on_conflict_do_update(index_elements=[Product.id], set_=dict(name=one.excluded.name)))
        return s.get(Product, 3).name
    return undone(act)


@case
def insert_from_select():
    def act(s):
        copied = select(Customer.id, literal("name"), Customer.name, literal(1))
        s.execute(insert(Setting).from_select(["customer_id", "name", "value", "version"], copied))
        elsewhere = select(Review.customer_id, literal("n" + "1"), func.max(Review.body), func.count()).group_by(Review.customer_id)
        s.execute(insert(Setting).from_select(["customer_id", "name", "value", "version"], elsewhere))
        return s.scalar(select(func.count()).select_from(Setting))
    return undone(act)


@case
def version_counter():
    with session() as s:
        s.add(Setting(customer_id=2, name="v", value="1"))
        s.commit()
        setting = s.get(Setting, (2, "v"))
        setting.value = "2"
        s.commit()
        version = setting.version
        s.delete(setting)
        s.commit()
        return version


@case
def merge_of_detached_objects():
    def act(s):
        s.merge(Product(id=2, name="merged", price=D("1.50"), active=False))
        s.merge(Product(id=77, name="new", price=2, active=True))
        s.flush()
        return s.scalars(select(Product.name).where(Product.id.in_([2, 77])).order_by(Product.id)).all()
    return undone(act)


@case
def savepoints():
    def act(s):
        s.add(Setting(customer_id=1, name="a", value="kept"))
        s.flush()
        try:
            with s.begin_nested():
                s.execute(insert(Setting).values(customer_id=1, name="a", value="twice", version=1))
        except Exception as error:
            first = type(error).__name__
        with s.begin_nested():
            s.add(Setting(customer_id=9, name="b", value="second"))
        return first, s.scalar(select(func.count()).select_from(Setting))
    return undone(act)


@case
def transaction_over_shards_commits():
    with session() as s, s.begin():
        s.execute(update(Customer).where(Customer.id == 1).values(balance=Customer.balance - 7))
        s.execute(update(Customer).where(Customer.id == 2).values(balance=Customer.balance + 7))
    return rows(select(Customer.id, Customer.balance).where(Customer.id < 3).order_by(Customer.id)), rows(select(func.sum(Customer.balance)))


@case
def constraints_are_told():
    told = []
    for wrong in [
        insert(Setting).values(customer_id=1, name=None, version=1), insert(Order).values(customer_id=999, id=1, placed=datetime.date(2020, 1, 1), status="x"),
        insert(Customer).values(id=1, name="twice", country_code="cz", balance=0, joined=datetime.date(2020, 1, 1)),
        insert(Customer).values(name="nowhere", country_code="xx", balance=0, joined=datetime.date(2020, 1, 1)),
        insert(Country).values(code="cz", name="twice"),
    ]:
        try:
            undone(lambda s: s.execute(wrong))
        except Exception as error:
            told.append(type(error).__name__)
    return told


@case
def isolation_levels():
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as c:
        return c.execute(select(func.count()).select_from(Customer)).scalar(), c.execute(text("show transaction_isolation")).scalar()


@case
def autocommit():
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        return c.execute(select(func.count()).select_from(Review)).scalar()


@case
def row_lock_of_one_row():
    return undone(lambda s: s.scalars(select(Customer).where(Customer.id == 4).with_for_update()).one().name)


@case
def row_locks_over_shards():
    return undone(lambda s: [c.id for c in s.scalars(select(Customer).where(Customer.country_code == "cz").order_by(Customer.id).with_for_update())])


@case
def a_queue_skips_locked_rows():
    return undone(lambda s: [r.id for r in s.scalars(select(Review).where(Review.stars == 1).order_by(Review.id).limit(2).with_for_update(skip_locked=True))])


@case
def moving_a_row_by_its_key():
    return undone(lambda s: s.execute(update(Setting).where(Setting.customer_id == 1).values(customer_id=2)).rowcount)


@case
def many_objects_are_inserted_at_once():
    def act(s):
        customers = [
            Customer(name=f"n{n}", country_code="cz", balance=D(n) / 3, joined=datetime.date(2022, 1, n), extra={"n": n}, labels=[]) for n in range(1, 8)
        ]
        s.add_all(customers)
        s.flush()
        return [c.id for c in customers], s.scalar(select(func.count()).select_from(Customer))
    return undone(act)


@case
def bulk_insert_returns_in_order():
    def act(s):
        made = s.scalars(insert(Review).returning(Review.id, sort_by_parameter_order=True), [{"product_id": 1, "customer_id": n, "stars": n} for n in range(1, 6)])
        return len(made.all())
    return undone(act)


@case
def tables_are_reflected():
    found = MetaData()
    found.reflect(engine, only=["customer", "orders", "item", "land"])
    return {name: ([c.name for c in t.columns], [c.name for c in t.primary_key], sorted(str(f.target_fullname) for f in t.foreign_keys)) for name, t in sorted(found.tables.items())}


@case
def raw_sql():
    return rows(text("SELECT c.name, count(o.id) FROM customer c LEFT JOIN orders o ON o.customer_id = c.id WHERE c.balance > :least GROUP BY c.name ORDER BY 1"), least=30)


@case
def tables_are_dropped():
    Base.metadata.drop_all(engine)


play()
