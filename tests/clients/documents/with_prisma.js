// Prisma's client with models on both: shoppers in PostgreSQL, events and notes in MongoDB, by one connection string.

const { test, play, login } = require('../orm/prisma/record')
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient, Prisma } = require('documents')

const db = new PrismaClient({ adapter: new PrismaPg(login()), errorFormat: 'minimal' })
const range = n => [...Array(n).keys()]
const day = n => new Date(Date.UTC(1969, 11, 25 + n, 4, 5, 6, 789))
const note = n => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const UNDO = new Error('undone')

// What `act` gives, in a transaction that is rolled back.
const undone = async act => {
  let done
  await db.$transaction(async tx => {
    done = await act(tx)
    throw UNDO
  }).catch(error => {
    if (error !== UNDO) throw error
  })
  return done
}

// By joins in one statement, and by one statement for each relation.
const bothWays = async find => {
  const found = []
  for (const relationLoadStrategy of ['join', 'query']) found.push(await find({ relationLoadStrategy }))
  return found
}

test(async function shoppers_are_created() {
  return [
    await db.shopper.create({ data: { id: 1, name: 'Ada', city: 'Brno' } }),
    await db.shopper.createMany({ data: range(5).map(n => ({ id: n + 2, name: `s${n}`, city: n % 2 ? 'Oslo' : null })) }),
  ]
})

test(async function events_are_created() {
  const made = []
  for (const n of range(4)) {
    made.push(await db.event.create({
      data: { id: n + 1, kind: n % 2 ? 'rare' : undefined, shopperId: n + 1, hits: 2n ** 40n * BigInt(n), score: n / 8, price: `${n}.50`, at: day(n), data: { n, deep: [1, null, 'é'] }, tags: ['a', `t${n}`] },
    }))
  }
  return made
})

test(async function an_event_is_created_with_its_relations() {
  return [
    await db.event.create({ data: { id: 5, at: day(9), shopper: { connect: { id: 2 } }, notes: { create: [{ id: note(1), body: 'one', stars: 3 }, { id: note(2), body: 'two' }] } }, include: { shopper: true, notes: { orderBy: { id: 'asc' } } } }),
    await db.event.create({ data: { id: 6, at: day(3), notes: { createMany: { data: [{ id: note(3), body: 'three', stars: -1 }] } } }, select: { id: true, kind: true, data: true, _count: { select: { notes: true } } } }),
  ]
})

test(async function many_are_created_at_once() {
  return [
    await db.event.createMany({ data: range(20).map(n => ({ id: n + 10, kind: ['plain', 'rare', 'odd'][n % 3], shopperId: n % 4 ? (n % 6) + 1 : null, count: n, score: n % 5 ? n * 0.1 : null, price: n % 3 ? n / 4 : null, done: n % 2 === 0, at: day(n), tags: n % 2 ? [] : ['x'] })) }),
    await db.event.createMany({ data: [{ id: 10, at: day(0) }, { id: 30, at: day(0) }], skipDuplicates: true }),
    await db.note.createMany({ data: range(24).map(n => ({ id: note(n + 10), eventId: (n % 12) + 1, body: `n${n}`, stars: n % 5 ? n % 5 : null })) }),
    await db.event.createManyAndReturn({ data: [{ id: 31, at: day(1), kind: 'late' }, { id: 32, at: day(2) }] }),
  ]
})

test(async function one_is_found() {
  return [
    await db.event.findUnique({ where: { id: 3 } }), await db.event.findUnique({ where: { id: 3333 } }), await db.note.findUniqueOrThrow({ where: { id: note(2) } }),
    await db.event.findFirst({ where: { kind: 'odd' }, orderBy: { id: 'desc' } }), await db.event.findFirst({ where: { kind: 'nothing' } }),
    await Promise.all(range(5).map(n => db.event.findUnique({ where: { id: n + 1 }, select: { id: true, kind: true } }))),
  ]
})

test(async function what_is_not_there_is_told() {
  await db.event.findUniqueOrThrow({ where: { id: 3333 } })
})

test(async function conditions() {
  const found = []
  for (const where of [
    { kind: 'rare' }, { kind: { not: 'rare' } }, { id: { in: [1, 5, 99] } }, { id: { notIn: [1, 2, 3] }, count: { lt: 9 } }, { count: { gte: 3, lte: 12 } },
    { OR: [{ kind: 'odd' }, { score: { gt: 1 } }] }, { NOT: { kind: { startsWith: 'o' } }, done: true }, { AND: [{ score: null }, { done: true }] }, { shopperId: { not: null }, price: { lt: 2 } },
    { at: { gte: day(3), lt: day(8) } }, { hits: { gt: 2n ** 40n } }, { kind: { contains: 'ar' } }, { kind: { endsWith: 'd' } }, { kind: { contains: 'AR', mode: 'insensitive' } }, { price: { equals: 1.5 } }, { id: { in: [] } },
    { tags: { has: 'x' } }, { tags: { isEmpty: true } }, { tags: { hasSome: ['t1', 'x'] } }, { tags: { hasEvery: ['a', 't2'] } }, { data: { path: ['n'], equals: 2 } }, { data: { equals: Prisma.DbNull } },
  ]) {
    found.push(await db.event.findMany({ where, orderBy: { id: 'asc' }, select: { id: true, kind: true, price: true } }))
  }
  return found
})

test(async function orders_and_pages() {
  const pages = []
  for (const page of range(4)) pages.push((await db.event.findMany({ orderBy: [{ kind: 'desc' }, { id: 'asc' }], skip: page * 8, take: 8 })).map(e => e.id))
  return [
    pages, (await db.event.findMany({ orderBy: [{ score: { sort: 'desc', nulls: 'last' } }, { id: 'asc' }], take: 9 })).map(e => e.id), (await db.event.findMany({ orderBy: [{ price: 'asc' }, { id: 'desc' }] })).map(e => e.id),
    (await db.event.findMany({ take: 6, skip: 1, cursor: { id: 12 }, orderBy: { id: 'asc' } })).map(e => e.id), (await db.event.findMany({ take: -4, cursor: { id: 15 }, orderBy: { id: 'asc' } })).map(e => e.id),
    await db.event.findMany({ distinct: ['kind'], orderBy: [{ kind: 'asc' }, { id: 'asc' }], select: { kind: true } }),
  ]
})

test(async function relations_of_both_kinds() {
  return [
    await bothWays(how => db.event.findMany({ ...how, orderBy: { id: 'asc' }, include: { shopper: true, notes: { orderBy: { id: 'asc' } } } })),
    await bothWays(how => db.shopper.findMany({ ...how, orderBy: { id: 'asc' }, include: { events: { orderBy: { id: 'asc' }, where: { kind: { not: 'odd' } }, include: { notes: { orderBy: { body: 'asc' }, select: { body: true, stars: true } } } } } })),
    await bothWays(how => db.note.findMany({ ...how, where: { stars: { gt: 2 } }, orderBy: { id: 'asc' }, select: { body: true, event: { select: { kind: true, shopper: { select: { name: true } } } } } })),
    await bothWays(how => db.shopper.findMany({ ...how, orderBy: { id: 'asc' }, include: { events: { orderBy: { id: 'desc' }, take: 2 } } })),
  ]
})

test(async function conditions_on_relations() {
  const ids = rows => rows.map(row => row.id)
  const orderBy = { id: 'asc' }
  return [
    ids(await db.shopper.findMany({ orderBy, where: { events: { some: { kind: 'rare', count: { gt: 5 } } } } })), ids(await db.shopper.findMany({ orderBy, where: { events: { none: { done: true } } } })),
    ids(await db.event.findMany({ orderBy, where: { shopper: { city: 'Oslo' } } })), ids(await db.event.findMany({ orderBy, where: { shopper: null } })),
    ids(await db.event.findMany({ orderBy, where: { notes: { some: { stars: 3 } } } })), ids(await db.event.findMany({ orderBy: [{ shopper: { name: 'desc' } }, { id: 'asc' }], where: { shopperId: { not: null } } })),
    ids(await db.event.findMany({ orderBy: [{ notes: { _count: 'desc' } }, { id: 'asc' }], take: 9 })),
    await bothWays(how => db.shopper.findMany({ ...how, orderBy, select: { id: true, _count: { select: { events: true } } } })), await bothWays(how => db.event.findMany({ ...how, orderBy, select: { id: true, _count: { select: { notes: { where: { stars: { gt: 1 } } } } } } })),
  ]
})

test(async function aggregates_and_groups() {
  return [
    await db.event.count(), await db.event.count({ where: { shopper: { city: 'Oslo' } } }), await db.event.count({ select: { _all: true, score: true } }), await db.event.count({ where: { kind: 'rare' }, orderBy: { id: 'asc' }, skip: 2, take: 3 }),
    await db.event.aggregate({ _count: true, _sum: { count: true, hits: true, price: true }, _avg: { count: true }, _min: { at: true, price: true }, _max: { kind: true, score: true } }),
    await db.event.aggregate({ where: { id: -1 }, _sum: { count: true }, _max: { at: true }, _count: true }), await db.event.aggregate({ orderBy: { id: 'asc' }, take: 7, skip: 2, _sum: { count: true } }),
    await db.event.groupBy({ by: ['kind'], _count: { _all: true }, _sum: { count: true }, orderBy: { kind: 'asc' } }), await db.event.groupBy({ by: ['kind', 'done'], _avg: { count: true }, _max: { at: true }, orderBy: [{ kind: 'desc' }, { done: 'asc' }] }),
    await db.event.groupBy({ by: ['kind'], having: { count: { _sum: { gt: 30 } } }, _count: true, orderBy: { _count: { id: 'desc' } } }), await db.note.groupBy({ by: ['stars'], where: { eventId: { lt: 9 } }, _count: true, orderBy: { stars: 'asc' }, take: 3, skip: 1 }),
  ]
})

test(async function one_is_updated() {
  return [
    await db.event.update({ where: { id: 1 }, data: { kind: 'changed', count: { increment: 5 }, hits: { decrement: 7 }, data: { changed: true }, tags: ['new'] } }), await db.event.update({ where: { id: 2, kind: 'rare' }, data: { score: null, done: true, price: '12.340' }, select: { price: true, done: true } }),
    await db.note.update({ where: { id: note(1) }, data: { stars: { increment: 1 } }, include: { event: { include: { shopper: true } } } }),
  ]
})

test(async function one_that_is_not_there_is_updated() {
  await db.event.update({ where: { id: 3333 }, data: { kind: 'nobody' } })
})

test(async function many_are_updated() {
  return [
    await db.event.updateMany({ where: { kind: 'odd' }, data: { count: { increment: 10 }, done: true } }), await db.event.updateMany({ where: { id: { in: [1, 2, 99] } }, data: { score: 0.5 } }), await db.note.updateMany({ data: { stars: 1 } }), await db.event.updateMany({ where: { id: { in: [] } }, data: { score: 1 } }),
    (await db.event.updateManyAndReturn({ where: { kind: 'rare' }, data: { count: { decrement: 1 } } })).map(e => [e.id, e.count]).sort((a, b) => a[0] - b[0]), await db.event.findMany({ orderBy: { id: 'asc' } }),
  ]
})

test(async function upserts() {
  const upsert = count => db.event.upsert({ where: { id: 40 }, create: { id: 40, kind: 'made', at: day(1), count }, update: { kind: 'changed', count } })
  return [await upsert(1), await upsert(2), await db.note.upsert({ where: { id: note(1) }, create: { id: note(1), eventId: 1, body: 'x' }, update: { body: 'again', stars: { increment: 1 } } })]
})

test(async function rows_are_deleted() {
  return [
    await db.note.delete({ where: { id: note(2) } }), await db.note.deleteMany({ where: { body: { startsWith: 'n1' } } }), await db.event.deleteMany({ where: { id: { gte: 31 } } }), await db.event.deleteMany({ where: { kind: 'nothing' } }), await db.note.count(), await db.event.count(),
  ]
})

test(async function one_that_is_not_there_is_deleted() {
  await db.event.delete({ where: { id: 3333 } })
})

test(async function a_list_is_one_transaction() {
  const done = await db.$transaction([db.event.create({ data: { id: 50, at: day(1) } }), db.event.updateMany({ where: { id: { in: [50, 1] } }, data: { count: { increment: 1 } } }), db.event.count({ where: { id: { gte: 50 } } })])
  const told = await db.$transaction([db.event.create({ data: { id: 51, at: day(1) } }), db.event.create({ data: { id: 50, at: day(1) } })]).catch(error => [error.code, error.meta?.modelName])
  return [done, told, await db.event.findMany({ where: { id: { gte: 50 } } })]
})

test(async function interactive_transactions() {
  const kept = await db.$transaction(async tx => {
    const shopper = await tx.shopper.findFirst({ where: { city: 'Brno' } })
    const made = await tx.event.create({ data: { id: 60, at: day(2), shopperId: shopper.id } })
    await tx.note.create({ data: { id: note(60), eventId: made.id, body: 'in it' } })
    return tx.event.findUnique({ where: { id: 60 }, include: { shopper: true, notes: true } })
  })
  const gone = await undone(async tx => [await tx.event.deleteMany({ where: { kind: 'rare' } }), await tx.event.update({ where: { id: 60 }, data: { kind: 'gone' } }), await tx.event.count()])
  const level = await db.$transaction(async tx => tx.event.count({ where: { kind: 'rare' } }), { isolationLevel: 'RepeatableRead' })
  return [kept, gone, level, await db.event.findMany({ orderBy: { id: 'asc' }, include: { notes: { orderBy: { id: 'asc' } } } })]
})

test(async function constraints_are_told() {
  const told = []
  for (const wrong of [() => db.event.create({ data: { id: 1, at: day(0) } }), () => db.note.create({ data: { id: note(3), eventId: 1, body: 'x' } }), () => db.event.createMany({ data: [{ id: 70, at: day(0) }, { id: 1, at: day(0) }] })]) {
    told.push(await wrong().then(() => 'nothing', error => [error.code, error.meta?.modelName, error.meta?.target, String(error.message).slice(-120)]))
  }
  return [told, await db.event.count({ where: { id: 70 } })]
})

test(async function raw_queries() {
  return [
    await db.$queryRaw`SELECT s.name, count(e.id)::int AS n FROM "Shopper" s LEFT JOIN "Event" e ON e."shopperId" = s.id AND e.count > ${2} GROUP BY s.name ORDER BY 1`,
    await db.$queryRaw`SELECT id, kind, at FROM "Event" WHERE id IN (${Prisma.join([1, 2, 12])}) ORDER BY id`,
    await db.$executeRaw`UPDATE "Event" SET kind = ${'raw'} WHERE id = ${12}`, await db.$executeRaw`DELETE FROM "Note" WHERE "eventId" = ANY(${[1, 2]})`,
  ]
})

test(async function many_at_the_same_time() {
  return Promise.all(range(20).map(n => db.event.findFirst({ where: { id: n + 10 }, select: { id: true, count: true } })))
})

test(async function all_is_deleted() {
  return [await db.note.deleteMany(), await db.event.deleteMany(), await db.shopper.deleteMany()]
})

play().then(() => db.$disconnect())
