// Prisma's client: relations loaded by queries and by joins, pages by offset and by cursor, aggregates, upserts, nested writes,
// transactions, raw SQL.

const fs = require('fs')
const { test, play, login, pg } = require('./record')
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient, Prisma } = require('@prisma/client')

const client = strategy => new PrismaClient({ adapter: new PrismaPg(login()), errorFormat: 'minimal', ...strategy })
const db = client({})

const UNDO = new Error('undone')

// What `act` gives, in a transaction that is rolled back.
const undone = async (act, options) => {
  let done
  try {
    await db.$transaction(async tx => {
      done = await act(tx)
      throw UNDO
    }, options)
  } catch (error) {
    if (error !== UNDO) throw error
  }
  return done
}

// By joins in one statement, and by one statement for each relation.
const bothWays = async (find, ...given) => {
  const found = []
  for (const relationLoadStrategy of ['join', 'query']) found.push(await find({ relationLoadStrategy, ...given[0] }))
  return found
}

const direct = async text => {
  const connection = new pg.Client(login())
  await connection.connect()
  try {
    return (await connection.query(text)).rowCount
  } finally {
    await connection.end()
  }
}

const migration = fs.readFileSync(`${__dirname}/migration.sql`, 'utf8')
const range = n => [...Array(n).keys()]
const day = (month, date) => new Date(Date.UTC(2023, month, date, 4, 5, 6, 789))

test(async function tables_are_made_in_one_text() {
  await direct(migration)
})

test(async function tables_are_made() {
  for (const statement of migration.replace(/--.*/g, '').split(';')) {
    if (!statement.trim()) continue
    // What the text before has made, if it was answered.
    await direct(statement).catch(error => {
      if (!['42P07', '42710'].includes(error.code)) throw error
    })
  }
})

test(async function a_foreign_key_over_shards() {
  await direct('ALTER TABLE "Review" ADD CONSTRAINT "Review_productId_fkey" FOREIGN KEY ("productId") REFERENCES "Product"("id") ON DELETE RESTRICT ON UPDATE CASCADE')
})

test(async function a_unique_index_without_the_key() {
  await direct('CREATE UNIQUE INDEX "Customer_name_key" ON "Customer"("name")')
})

test(async function countries_are_created() {
  return db.country.createMany({ data: [['cz', 'Czechia'], ['jp', 'Japan'], ['is', 'Iceland']].map(([code, name]) => ({ code, name })) })
})

test(async function customers_are_created_with_nested_orders() {
  const made = []
  for (const n of range(16)) {
    const customer = await db.customer.create({
      data: {
        name: `c${String(n).padStart(2, '0')}`, joined: day(n % 12, n + 1), balance: (n * 10.25).toFixed(2), status: ['NEW', 'ACTIVE', 'GONE'][n % 3],
        extra: n % 4 ? { n, vip: n % 5 === 0 } : undefined, tags: ['a', `t${n % 3}`],
        country: { connect: { code: ['cz', 'jp', 'is'][n % 3] } },
        profile: n % 2 ? { create: { bio: `bio ${n}` } } : undefined,
        orders: { create: range(n % 4).map(o => ({ number: o + 1, placed: day(o, n + 1), total: n * 3 + o })) },
      },
      include: { orders: true, profile: true, country: true },
    })
    made.push(customer)
  }
  return made
})

test(async function products_are_created_one_by_one() {
  const made = []
  for (const n of range(10)) made.push(await db.product.create({ data: { name: `p${n}`, price: n * 3 + 0.5, active: n % 3 !== 0, parentId: n > 1 ? Math.floor(n / 2) : null } }))
  return made.map(p => p.id)
})

test(async function many_are_created_at_once() {
  const reviews = await db.review.createMany({ data: range(60).map(n => ({ productId: (n % 9) + 1, customerId: (n % 16) + 1, stars: (n % 5) + 1, body: n % 4 ? `r${n}` : null })) })
  const orders = await db.order.findMany({ orderBy: [{ customerId: 'asc' }, { number: 'asc' }] })
  const items = await db.item.createMany({
    data: orders.flatMap(o => range(o.number + 1).map(line => ({ customerId: o.customerId, number: o.number, line, productId: ((o.customerId + line) % 9) + 1, quantity: line + 1 }))),
  })
  const settings = await db.setting.createMany({ data: range(12).map(n => ({ customerId: (n % 6) + 1, name: `s${n % 4}`, value: `v${n}`, changed: day(1, n + 1) })), skipDuplicates: true })
  return [reviews, items, settings]
})

test(async function many_are_created_and_returned() {
  const made = await undone(tx => tx.review.createManyAndReturn({ data: range(5).map(n => ({ productId: n + 1, customerId: n + 1, stars: n })), select: { productId: true, stars: true } }))
  const settings = await undone(tx => tx.setting.createManyAndReturn({ data: range(4).map(n => ({ customerId: n + 1, name: 'x', value: `v${n}` })) }))
  return [made, settings]
})

test(async function labels_are_connected_and_disconnected() {
  const made = []
  for (const n of range(4)) {
    const id = `00000000-0000-4000-8000-00000000000${n}`
    made.push(await db.label.create({ data: { id, name: `l${n}`, products: { connect: range(4).map(p => ({ id: ((n * 2 + p) % 10) + 1 })) } } }))
  }
  const label = { id: made[0].id }
  await db.label.update({ where: label, data: { products: { disconnect: [{ id: 1 }], connect: [{ id: 9 }] } } })
  await db.product.update({ where: { id: 3 }, data: { labels: { set: [{ id: made[1].id }, { id: made[3].id }] } } })
  return bothWays(how => db.label.findMany({ ...how, orderBy: { name: 'asc' }, include: { products: { orderBy: { id: 'asc' } } } }))
})

test(async function one_is_found() {
  return [
    await db.customer.findUnique({ where: { id: 3 } }),
    await db.customer.findUnique({ where: { id: 3333 } }),
    await db.order.findUnique({ where: { customerId_number: { customerId: 4, number: 2 } } }),
    await db.customer.findUniqueOrThrow({ where: { id: 5 }, select: { name: true, country: { select: { name: true } } } }),
    await db.customer.findFirst({ where: { name: 'c07' } }),
    await db.customer.findFirst({ orderBy: { balance: 'desc' } }),
  ]
})

test(async function one_is_not_found_and_throws() {
  await db.customer.findUniqueOrThrow({ where: { id: 3333 } })
})

test(async function several_found_by_key_in_one_tick() {
  return Promise.all([2, 4, 6, 99].map(id => db.product.findUnique({ where: { id } })))
})

test(async function conditions() {
  const ids = async where => (await db.customer.findMany({ where, orderBy: { id: 'asc' }, select: { id: true } })).map(c => c.id)
  return [
    await ids({ name: { contains: '1' } }), await ids({ name: { startsWith: 'C0', mode: 'insensitive' } }), await ids({ name: { in: ['c01', 'c11', 'x'] } }),
    await ids({ id: { in: [1, 5, 9, 100] } }), await ids({ id: { notIn: range(14) } }), await ids({ id: { in: [] } }), await ids({ NOT: { status: 'NEW' }, balance: { gte: 50, lt: 140.5 } }),
    await ids({ OR: [{ status: 'GONE' }, { AND: [{ id: { gt: 12 } }, { name: { endsWith: '3' } }] }] }), await ids({ tags: { has: 't1' } }), await ids({ tags: { hasEvery: ['a', 't2'] } }),
    await ids({ tags: { isEmpty: true } }), await ids({ extra: { path: ['vip'], equals: true } }), await ids({ extra: { path: ['n'], gt: 8 } }), await ids({ extra: { equals: Prisma.DbNull } }),
    await ids({ joined: { gte: day(3, 1) } }), await ids({ name: { not: 'c01' }, id: { lte: 4 } }),
  ]
})

test(async function conditions_on_relations() {
  const ids = async where => (await db.customer.findMany({ where, orderBy: { id: 'asc' }, select: { id: true } })).map(c => c.id)
  const products = async where => (await db.product.findMany({ where, orderBy: { id: 'asc' }, select: { id: true } })).map(p => p.id)
  return [
    await ids({ orders: { some: { total: { gt: 20 } } } }), await ids({ orders: { none: {} } }), await ids({ orders: { every: { number: { lt: 3 } } } }),
    await ids({ country: { name: 'Japan' } }), await ids({ profile: { is: null } }), await ids({ profile: { bio: { contains: '1' } } }), await ids({ reviews: { some: { stars: 5 } } }),
    await ids({ reviews: { some: { product: { active: false, price: { gt: 10 } } } } }), await ids({ orders: { some: { items: { some: { product: { name: 'p3' } } } } } }),
    await products({ reviews: { every: { stars: { gte: 2 } } } }), await products({ labels: { some: { name: 'l1' } } }), await products({ labels: { none: { name: { in: ['l0', 'l2'] } } } }),
    await products({ parent: { parent: { name: 'p1' } } }), await products({ children: { some: { active: true } } }),
  ]
})

test(async function fields_are_compared() {
  return db.item.findMany({ where: { quantity: { equals: db.item.fields.number } }, orderBy: [{ customerId: 'asc' }, { number: 'asc' }, { line: 'asc' }] })
})

test(async function relations_of_many() {
  return bothWays(how => db.customer.findMany({ ...how, orderBy: { id: 'asc' }, include: { orders: { orderBy: { number: 'desc' } }, country: true, profile: true } }))
})

test(async function relations_over_shards() {
  return [
    await bothWays(how => db.product.findMany({ ...how, orderBy: { id: 'asc' }, include: { reviews: { orderBy: { id: 'asc' }, include: { customer: true } } } })),
    await bothWays(how => db.review.findMany({ ...how, where: { stars: 3 }, orderBy: { id: 'desc' }, select: { id: true, product: { select: { name: true } }, customer: { select: { name: true, country: true } } } })),
    await bothWays(how => db.product.findMany({ ...how, where: { parentId: null }, include: { children: { orderBy: { id: 'asc' }, include: { children: { orderBy: { id: 'asc' } } } } } })),
  ]
})

test(async function relations_of_relations() {
  return bothWays(how => db.customer.findUnique({ ...how, where: { id: 4 }, include: { orders: { orderBy: { number: 'asc' }, include: { items: { orderBy: { line: 'asc' }, include: { product: true } } } } } }))
})

test(async function the_first_of_each_relation() {
  return [
    await bothWays(how => db.customer.findMany({ ...how, orderBy: { id: 'asc' }, include: { orders: { orderBy: { number: 'desc' }, take: 2 } } })),
    await bothWays(how => db.product.findMany({ ...how, orderBy: { id: 'asc' }, include: { reviews: { orderBy: [{ stars: 'desc' }, { id: 'asc' }], take: 2, skip: 1 } } })),
    await bothWays(how => db.product.findMany({ ...how, orderBy: { id: 'asc' }, include: { reviews: { orderBy: { id: 'asc' }, where: { stars: { gt: 2 } }, take: -2 } } })),
  ]
})

test(async function pages_by_offset() {
  const pages = []
  for (const page of range(4)) pages.push((await db.review.findMany({ orderBy: [{ stars: 'desc' }, { id: 'asc' }], skip: page * 20, take: 20 })).map(r => r.id))
  return [pages, await db.review.count()]
})

test(async function pages_by_cursor() {
  const pages = []
  let cursor
  for (;;) {
    const page = await db.review.findMany({ take: 17, ...(cursor && { skip: 1, cursor: { id: cursor } }), orderBy: { id: 'asc' } })
    if (!page.length) break
    pages.push(page.map(r => r.id))
    cursor = page.at(-1).id
  }
  const before = await db.review.findMany({ take: -5, cursor: { id: 31n }, orderBy: { id: 'asc' } })
  return [pages, before.map(r => r.id)]
})

test(async function pages_by_cursor_in_another_order() {
  const byStars = await db.review.findMany({ take: 7, skip: 1, cursor: { id: 20n }, orderBy: [{ stars: 'asc' }, { id: 'desc' }] })
  const orders = await db.order.findMany({ take: 5, cursor: { customerId_number: { customerId: 6, number: 1 } }, orderBy: [{ customerId: 'asc' }, { number: 'asc' }] })
  const withBody = await db.review.findMany({ take: 6, cursor: { id: 14n }, where: { body: { not: null } }, orderBy: [{ body: { sort: 'desc', nulls: 'last' } }, { id: 'asc' }] })
  return [byStars, orders, withBody]
})

test(async function orders_by_relations() {
  return [
    (await db.review.findMany({ orderBy: [{ product: { price: 'desc' } }, { id: 'asc' }], take: 12 })).map(r => r.id),
    (await db.product.findMany({ orderBy: [{ reviews: { _count: 'desc' } }, { id: 'asc' }] })).map(p => p.id),
    (await db.customer.findMany({ orderBy: [{ country: { name: 'asc' } }, { id: 'desc' }] })).map(c => c.id),
  ]
})

test(async function distinct_rows() {
  return [
    await db.customer.findMany({ distinct: ['countryCode'], orderBy: [{ countryCode: 'asc' }, { id: 'desc' }], select: { countryCode: true } }),
    await db.review.findMany({ distinct: ['productId', 'stars'], orderBy: [{ productId: 'asc' }, { stars: 'asc' }, { id: 'asc' }], take: 9, skip: 2 }),
  ]
})

test(async function relations_are_counted() {
  return [
    await bothWays(how => db.customer.findMany({ ...how, orderBy: { id: 'asc' }, select: { id: true, _count: { select: { orders: true, reviews: true } } } })),
    await bothWays(how => db.product.findMany({ ...how, orderBy: { id: 'asc' }, include: { _count: { select: { reviews: { where: { stars: { gt: 3 } } }, labels: true } } } })),
  ]
})

test(async function aggregates() {
  return [
    await db.customer.aggregate({ _count: true, _sum: { balance: true }, _avg: { balance: true }, _min: { joined: true }, _max: { name: true } }),
    await db.review.aggregate({ where: { customerId: { in: [1, 2, 3] } }, _avg: { stars: true }, _count: { body: true, _all: true } }),
    await db.review.aggregate({ orderBy: { id: 'asc' }, take: 10, skip: 5, _sum: { stars: true } }),
    await db.review.count({ where: { product: { active: true } } }), await db.review.count({ select: { _all: true, body: true } }), await db.customer.aggregate({ where: { id: 2 }, _max: { balance: true } }),
    await db.customer.aggregate({ where: { id: -1 }, _max: { balance: true }, _sum: { id: true }, _count: true }),
  ]
})

test(async function groups() {
  return [
    await db.review.groupBy({ by: ['productId'], _avg: { stars: true }, _count: { _all: true, body: true }, orderBy: { productId: 'asc' } }),
    await db.review.groupBy({ by: ['stars', 'productId'], _sum: { customerId: true }, having: { stars: { gt: 2 } }, orderBy: [{ stars: 'asc' }, { productId: 'desc' }], take: 10, skip: 3 }),
    await db.order.groupBy({ by: ['customerId'], _sum: { total: true }, having: { total: { _sum: { gt: 40 } } }, orderBy: { _sum: { total: 'desc' } } }),
    await db.customer.groupBy({ by: ['countryCode', 'status'], _count: { _all: true }, _min: { joined: true }, orderBy: [{ _count: { id: 'desc' } }, { countryCode: 'asc' }, { status: 'asc' }] }),
    await db.review.groupBy({ by: ['stars'], where: { product: { price: { lt: 20 } } }, _count: true, orderBy: { stars: 'desc' } }),
  ]
})

test(async function one_is_updated() {
  return undone(async tx => [
    await tx.customer.update({ where: { id: 3 }, data: { balance: { increment: 5 }, tags: { push: 'new' }, extra: { deep: [1, null] } } }),
    await tx.product.update({ where: { id: 2, active: true }, data: { price: { multiply: 2 }, name: 'two' }, select: { price: true } }),
    await tx.order.update({ where: { customerId_number: { customerId: 4, number: 1 } }, data: { total: { decrement: 1 }, items: { updateMany: { where: { line: 0 }, data: { quantity: 9 } }, deleteMany: { line: 1 } } }, include: { items: true } }),
  ])
})

test(async function one_that_is_not_there_is_updated() {
  await db.customer.update({ where: { id: 3333 }, data: { name: 'nobody' } })
})

test(async function many_are_updated() {
  return undone(async tx => [
    await tx.review.updateMany({ where: { stars: { lt: 3 } }, data: { stars: { increment: 1 }, body: null } }), await tx.customer.updateMany({ data: { status: 'ACTIVE' } }),
    await tx.review.updateMany({ where: { product: { active: false } }, data: { body: 'gone' } }), await tx.product.updateMany({ where: { id: { in: [1, 4, 7] } }, data: { price: { divide: 3 } } }),
    await tx.setting.updateMany({ where: { customerId: 1 }, data: { version: { increment: 1 } } }), await tx.review.aggregate({ _sum: { stars: true }, _count: { body: true } }),
  ])
})

test(async function many_are_updated_and_returned() {
  const made = await undone(tx => tx.product.updateManyAndReturn({ where: { active: true }, data: { price: { increment: 1 } } }))
  return made.sort((a, b) => a.id - b.id)
})

test(async function the_first_few_are_updated() {
  return undone(async tx => [await tx.review.updateMany({ where: { customerId: 2 }, data: { stars: 0 }, limit: 1 }), await tx.review.count({ where: { stars: 0 } })])
})

test(async function rows_are_deleted() {
  return undone(async tx => [
    await tx.review.delete({ where: { id: 7n } }), await tx.review.deleteMany({ where: { stars: { in: [1, 2] } } }), await tx.review.deleteMany({ where: { customer: { countryCode: 'jp' } } }),
    await tx.setting.delete({ where: { customerId_name: { customerId: 1, name: 's0' } } }), await tx.review.count(), await tx.setting.deleteMany(),
  ])
})

test(async function what_has_relations_is_not_deleted() {
  await undone(tx => tx.customer.delete({ where: { id: 4 } }))
})

test(async function upserts() {
  return undone(async tx => [
    await tx.setting.upsert({ where: { customerId_name: { customerId: 2, name: 'u' } }, create: { customerId: 2, name: 'u', value: 'made' }, update: { value: 'changed' } }),
    await tx.setting.upsert({ where: { customerId_name: { customerId: 2, name: 'u' } }, create: { customerId: 2, name: 'u', value: 'made' }, update: { value: 'changed', version: { increment: 1 } } }),
    await tx.product.upsert({ where: { id: 3 }, create: { id: 3, name: 'x', price: 1 }, update: { name: 'three' } }), await tx.product.upsert({ where: { id: 77 }, create: { id: 77, name: 'new', price: 1 }, update: { name: 'old' } }),
    await tx.customer.upsert({ where: { id: 5 }, create: { name: 'x', joined: day(1, 1), countryCode: 'cz' }, update: { orders: { create: { number: 50, placed: day(1, 1), total: 1 } } }, include: { orders: true } }),
  ])
})

test(async function nested_writes() {
  return undone(async tx => {
    const changed = await tx.customer.update({
      where: { id: 4 },
      data: {
        country: { connect: { code: 'is' } },
        orders: {
          create: [{ number: 10, placed: day(1, 1), total: 1, items: { create: [{ line: 1, quantity: 1, product: { connect: { id: 2 } } }] } }],
          update: { where: { customerId_number: { customerId: 4, number: 1 } }, data: { total: 99 } },
          upsert: { where: { customerId_number: { customerId: 4, number: 11 } }, create: { number: 11, placed: day(2, 2), total: 5 }, update: { total: 6 } },
        },
        settings: { connectOrCreate: { where: { customerId_name: { customerId: 4, name: 'n' } }, create: { name: 'n', value: 'made' } } },
        reviews: { create: { stars: 4, product: { connect: { id: 1 } } }, deleteMany: { stars: 1 } },
        profile: { upsert: { create: { bio: 'new' }, update: { bio: 'changed' } } },
      },
      include: { orders: { orderBy: { number: 'asc' }, include: { items: true } }, settings: { orderBy: { name: 'asc' } }, profile: true, country: true },
    })
    return [changed, await tx.review.count({ where: { customerId: 4 } })]
  })
})

test(async function a_product_is_created_with_its_reviews_and_labels() {
  return undone(async tx => {
    const made = await tx.product.create({
      data: {
        name: 'nested', price: 5, reviews: { createMany: { data: range(4).map(n => ({ customerId: n + 1, stars: n })) } },
        labels: { create: { id: '00000000-0000-4000-8000-0000000000ff', name: 'own' } }, children: { create: { name: 'child', price: 1 } },
      },
      include: { _count: { select: { reviews: true, labels: true, children: true } } },
    })
    return made._count
  })
})

test(async function transactions_as_a_list() {
  const [paid, got, sum] = await db.$transaction([
    db.customer.update({ where: { id: 1 }, data: { balance: { decrement: 7 } } }), db.customer.update({ where: { id: 2 }, data: { balance: { increment: 7 } } }), db.customer.aggregate({ _sum: { balance: true } }),
  ])
  return [paid.balance, got.balance, sum]
})

test(async function a_list_that_fails_is_undone() {
  const told = await db.$transaction([db.setting.create({ data: { customerId: 9, name: 'list' } }), db.setting.create({ data: { customerId: 9, name: 'list' } })]).catch(error => [error.code, error.meta?.modelName])
  return [told, await db.setting.count({ where: { customerId: 9 } })]
})

test(async function isolation_levels() {
  const counted = []
  for (const isolationLevel of ['ReadCommitted', 'RepeatableRead']) counted.push(await db.$transaction(async tx => [await tx.review.count(), await tx.customer.findFirst({ where: { id: 3 } })], { isolationLevel }))
  return counted
})

test(async function serializable_on_one_shard() {
  return db.$transaction(async tx => [await tx.customer.update({ where: { id: 3 }, data: { name: 'c02' } }), await tx.order.count({ where: { customerId: 3 } })], { isolationLevel: 'Serializable' })
})

test(async function serializable_over_shards() {
  return db.$transaction(async tx => tx.review.count(), { isolationLevel: 'Serializable' })
})

test(async function constraints_are_told() {
  const told = []
  for (const wrong of [
    tx => tx.country.create({ data: { code: 'cz', name: 'twice' } }), tx => tx.customer.create({ data: { id: 1, name: 'x', joined: day(1, 1), countryCode: 'cz' } }),
    tx => tx.order.create({ data: { customerId: 999, number: 1, placed: day(1, 1), total: 1 } }), tx => tx.customer.update({ where: { id: 1 }, data: { balance: 12345678901234 } }),
    tx => tx.customer.create({ data: { name: 'x\0y', joined: day(1, 1), countryCode: 'cz' } }),
  ]) {
    told.push(await undone(wrong).then(() => 'nothing', error => [error.code, error.meta?.modelName]))
  }
  return told
})

test(async function moving_a_row_by_its_key() {
  return undone(tx => tx.setting.updateMany({ where: { customerId: 1 }, data: { customerId: 2, name: 'moved' } }))
})

test(async function raw_queries() {
  const least = 30
  return [
    await db.$queryRaw`SELECT c.name, count(o.number)::int AS n FROM "Customer" c LEFT JOIN "Order" o ON o."customerId" = c.id WHERE c.balance > ${least} GROUP BY c.name ORDER BY 1`,
    await db.$queryRaw`SELECT id, stars FROM "Review" WHERE id IN (${Prisma.join([1, 2, 30])}) ORDER BY id`,
    await db.$queryRawUnsafe('SELECT status, avg(balance) FROM "Customer" GROUP BY status ORDER BY status'),
    await db.$queryRaw`SELECT p.name, r.stars, row_number() OVER (PARTITION BY p.id ORDER BY r.id) FROM "Product" p JOIN "Review" r ON r."productId" = p.id ORDER BY r.id LIMIT 10`,
    await undone(tx => tx.$executeRaw`UPDATE "Product" SET price = price + ${1} WHERE active`), await undone(tx => tx.$executeRaw`DELETE FROM "Review" WHERE "productId" = ANY(${[1, 2]})`),
    await db.$queryRaw`SELECT ${new Date(0)}::timestamptz AS t, ${'a'}::text AS a, ${[1, 2]}::int[] AS i, ${1.5}::numeric AS n, ${{ a: 1 }}::jsonb AS j`,
  ]
})

test(async function many_at_the_same_time() {
  return Promise.all(range(30).map(n => db.customer.findFirst({ where: { name: `c${String(n % 16).padStart(2, '0')}` }, select: { id: true } })))
})

test(async function tables_are_dropped() {
  await direct('DROP TABLE "_LabelToProduct", "Setting", "Label", "Review", "Product", "Item", "Order", "Profile", "Customer", "land"; DROP TYPE "Status"')
})

play().then(() => db.$disconnect())
