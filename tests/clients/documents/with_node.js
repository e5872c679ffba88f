// node-postgres on documents: parameters as text and as buffers, results in text and binary, named statements, cursors.

const assert = require('node:assert').strict
const { inspect } = require('node:util')
const { Client, Pool, types } = require('pg')
const Cursor = require('pg-cursor')

const { PGHOST, PGPORT, DIRECT_PORT, PGUSER, PGPASSWORD, PGDATABASE } = process.env
const login = port => ({ host: PGHOST, port: Number(port), user: PGUSER, password: PGPASSWORD, database: PGDATABASE })
const TEXT = "naïve 'čaj' \\ 日本 🚀"
const LIMIT = 40_000
const range = n => [...Array(n).keys()]
// Days as they are written: the driver would make times of them, in the machine's zone.
types.setTypeParser(1082, text => text)
types.setTypeParser(1182, types.getTypeParser(1009))
// Binary arrays are compared as they come: the driver knows few of them, and loops for ever over others.
for (const array of [1000, 1005, 1007, 1016, 1021, 1022, 1231, 1009, 1015, 2951, 1001, 1185, 1115, 1182, 3807]) {
  types.setTypeParser(array, 'binary', bytes => bytes.toString('hex'))
}

const VALUES = {
  bo: [true, false],
  i2: [0, 7, -32768, 32767],
  i4: [0, -1, 40000, -2147483648, 2147483647],
  i8: ['0', 5, '-9223372036854775808', 9223372036854775807n],
  f4: [0, '-0', 1.5, -0.25, 'NaN', Infinity, -Infinity],
  f8: [0, '-0', 0.1, -1e300, 5e-324, Number.MAX_VALUE, NaN, Infinity, -Infinity],
  nu: ['0', '0.00', '-1.50', '12345678901234567890.123456789', 'NaN', 'Infinity', '9999999999999999999999999999999999', 2.5],
  te: ['', TEXT, 'a\tb\nc', 'x'.repeat(5000), '{}', 'NULL'],
  vc: ['', '日本 🚀', '1234567890'],
  uu: ['00000000-0000-0000-0000-000000000000', '12345678-1234-4234-8234-123456789ABC'],
  by: [Buffer.alloc(0), Buffer.from(range(256))],
  tz: [new Date(0), new Date('2024-02-29T12:30:45.678Z'), new Date('1899-12-31T23:59:59.001Z'), '0044-03-15 00:00:00+00 BC'],
  ts: [new Date(0), '2024-02-29 12:30:45.678', '0001-01-01', '1969-12-31 23:59:59.999'],
  da: ['1970-01-01', '2000-02-29', '0001-01-01', '1969-12-31', '9999-12-31'],
  js: [{}, '[]', { a: [1, null, TEXT, { b: true }], longer: 1.5, z: 'é' }, '"text"', '12.50', 'true', -7],
  ob: ['65a1b2c3d4e5f60718293a4b', 'ffffffffffffffffffffffff'],
  bos: [[true, null, false], []],
  i4s: [[], [1, null, -2147483648]],
  i8s: [['1099511627776', -1]],
  f8s: [[0.5, NaN, null]],
  nus: [['1.50', -7]],
  tes: [['', 'a,b', '"q"', null, '\\', 'NULL', TEXT]],
  uus: [['00000000-0000-0000-0000-000000000001', null]],
  tzs: [['2024-01-02T03:04:05Z', null]],
  das: [['1999-12-31']],
}
const ORDERED = ['bo', 'i2', 'i4', 'i8', 'f4', 'f8', 'nu', 'te', 'vc', 'uu', 'by', 'tz', 'ts', 'da']
const INSERT = 'insert into typed (id, kind, i4, nu, te, da) values ($1, $2, $3, $4, $5, $6)'
const ROWS = range(40).map(at => at + 1).map(n => [
  n, ['plain', 'rare', 'odd', 'unknown'][n % 4], n % 7 ? n * 3 - 20 : null, n % 5 ? n / 4 : null, n % 3 ? `t${n % 6}é` : null,
  new Date(Date.UTC(1969, 11, 20 + n)).toISOString().slice(0, 10),
])

async function connected(port, act) {
  const client = new Client(login(port))
  client.on('error', () => {})
  await client.connect()
  try {
    return await act(client)
  } finally {
    await client.end()
  }
}

const emptied = (port, act) => connected(port, async c => {
  await c.query('delete from typed')
  return act(c)
})

const filled = (port, act) => emptied(port, async c => {
  for (const row of ROWS) await c.query({ name: 'fill', text: INSERT, values: row })
  return act(c)
})

const told = result => [result.command, result.rowCount, result.fields.map(f => [f.name, f.dataTypeID, f.dataTypeSize, f.dataTypeModifier, f.format]), result.rows]

// The driver has no binary values in rows that are arrays.
const mode = binary => (binary ? {} : { rowMode: 'array' })

const names = new Map()
const named = text => names.get(text) ?? names.set(text, `q${names.size}`).get(text)

// In text and binary, under a name and without one.
async function everyWay(c, text, values) {
  const answers = []
  for (const binary of [false, true]) {
    for (const name of [undefined, named(text)]) {
      answers.push(told(await c.query({ text, values, binary, name, ...mode(binary) })))
    }
  }
  return answers
}

const fault = promise => promise.then(
  result => ['nothing', told(result)],
  e => [e.code, e.message, e.detail, e.schema, e.table, e.column, e.constraint],
)

const checks = []
const check = (name, act) => checks.push([name, act])
// What `act` gives on the plain server it has to give through the router.
const both = (name, act) => check(name, async () => {
  const [wanted, got] = [shown(await act(DIRECT_PORT)), shown(await act(PGPORT))]
  if (wanted === got) return
  const at = range(Math.max(wanted.length, got.length)).find(i => wanted[i] !== got[i])
  assert.fail(`router: …${got.slice(Math.max(0, at - 80), at + 80)}… plain: …${wanted.slice(Math.max(0, at - 80), at + 80)}…`)
})
const shown = value => inspect(value, { depth: null, breakLength: Infinity, maxArrayLength: null, maxStringLength: null })

for (const [column, values] of Object.entries(VALUES)) {
  both(`values_of_${column}_come_back`, port => emptied(port, async c => {
    const got = []
    for (const binary of [false, true]) {
      for (const [number, value] of [null, ...values].entries()) {
        const text = `insert into typed (id, ${column}) values ($1, $2) returning ${column}, kind, id`
        got.push(told(await c.query({ text, values: [number, value], binary, name: binary ? undefined : `i${column}`, ...mode(binary) })))
        got.push(told(await c.query({ text: `update typed set ${column} = $1 where id = $2`, values: [value, number] })))
      }
      got.push(await everyWay(c, `select id, ${column}, ${column}::text from typed order by id`))
      got.push(await everyWay(c, `select ${column} from typed where id = $1`, [1]))
      got.push(told(await c.query('delete from typed')))
    }
    return got
  }))
}

for (const column of ORDERED) {
  both(`values_of_${column}_are_found`, port => emptied(port, async c => {
    const [got, values] = [[], VALUES[column]]
    for (const [number, value] of [null, ...values].entries()) await c.query(`insert into typed (id, ${column}) values ($1, $2)`, [number, value])
    for (const operator of ['=', '<>', '<', '<=', '>', '>=', 'is distinct from']) {
      for (const value of values) got.push(await everyWay(c, `select id, ${column} from typed where ${column} ${operator} $1 order by id`, [value]))
    }
    got.push(await everyWay(c, `select id from typed where ${column} = any($1) order by id`, [values.slice(0, 2)]))
    got.push(await everyWay(c, `select id from typed where ${column} in ($1, $2) order by id`, values.slice(-2)))
    got.push(await everyWay(c, `select id from typed where not ${column} between $1 and $2 order by id`, values.slice(0, 2)))
    got.push(await everyWay(c, `select id, ${column} from typed order by ${column} desc, id limit $1`, [5]))
    return got
  }))
}

both('parameters_as_buffers', port => emptied(port, async c => {
  // A buffer is sent in binary: here the eight bytes of a number, and a text's own.
  const number = Buffer.alloc(8)
  number.writeBigInt64BE(-5n)
  return [
    told(await c.query('insert into typed (id, te, by) values ($1, $2, $3) returning id, te, by', [number, Buffer.from(TEXT), Buffer.from([0, 255])])),
    told(await c.query('select te from typed where id = $1 and te = $2', [number, Buffer.from(TEXT)])),
    await fault(c.query('insert into typed (id) values ($1)', [Buffer.from([1, 2, 3])])).then(e => e[0]),
  ]
}))

both('several_rows_and_their_returning', port => emptied(port, async c => {
  const got = []
  for (const [text, values] of [
    ["insert into typed (id, kind, i4) values ($1, $2, $3), ($4, default, $5), (-3, 'odd', null) returning id, kind, i4", [1, 'rare', -5, 2, 6]],
    ['insert into typed (id, te) values ($1, $2) on conflict (id) do nothing', [1, 'x']],
    ['insert into typed (id, te) values ($1, $2) on conflict (id) do update set te = excluded.te returning id, te, kind', [1, 'y']],
    ['update typed set i4 = i4 + $1, te = $2 where i4 > $3 returning id, i4, te', [10, TEXT, 0]],
    ['update typed set i8 = typed.id - $1 where id <> $2', ['4611686018427387904', 7]],
    ['update typed set nu = $1, da = $2, js = $3 where id = $4', [1.1, '1960-01-01', { a: 1 }, -3]],
    ['update typed set bo = true where id = 99', []],
    ['select * from typed order by id', []],
    ['delete from typed where id = any($1) returning id, te', [[1, 77]]],
    ["delete from typed where kind = 'nothing'", []],
    ['delete from typed', []],
  ]) got.push(told(await c.query(text, values)))
  return got
}))

both('queued_queries', port => emptied(port, async c => {
  // What the client itself queues is deprecated in pg 8 and still what many programs do.
  process.noDeprecation = true
  const stored = await Promise.all(ROWS.map(row => c.query(INSERT, row)))
  const found = await Promise.all(ROWS.map(([id]) => c.query({ name: 'one', text: 'select te, da, nu from typed where id = $1', values: [id] })))
  return [...stored, ...found].map(told)
}))

both('keys_ranges_groups_and_joins', port => filled(port, async c => {
  const got = []
  for (const [text, values] of [
    ['select * from typed where id = $1', [7]],
    ['select id, te from typed where id in ($1, $2, $3) order by id', [3, 99, 5]],
    ['select id from typed where id = any($1) order by id desc', [[1, 2, 2, -5]]],
    ['select id, da from typed where da between $1 and $2 order by da', ['1969-12-29', '1970-01-03']],
    ['select id, nu from typed where nu >= $1 and not (i4 < $2) order by nu desc, id limit $3 offset $4', [2.5, 10, 5, 2]],
    ['select id, te from typed order by te nulls first, id desc limit 9', []],
    ['select te, id from typed where te like $1 order by id', ['t_é%']],
    ['select id as a, i4::text as b, null as c from typed where id < $1 order by a', [4]],
    ['select id, i4 * 2 + $1 as twice, upper(kind) from typed where id < 9 order by id', [1]],
    ['select count(*), count(i4), sum(i4), min(da), max(te), min(nu) from typed', []],
    ['select sum(id), sum(i4), avg(i4), sum(nu), avg(nu) from typed where id > $1', [3]],
    ['select count(*), sum(i4), max(i4) from typed where id < $1', [-1]],
    ['select kind, count(*), sum(i4), max(da) from typed group by kind order by kind', []],
    ['select te, kind, count(*) as n from typed group by te, kind having count(*) > $1 order by n desc, te nulls last, kind', [1]],
    ['select distinct te from typed order by te', []],
    ['select t.id, t.te, k.title from typed t join kinds k on k.name = t.kind where t.i4 > $1 order by t.id', [5]],
    ['select k.name, count(t.id), sum(t.nu) from kinds k left join typed t on t.kind = k.name and t.id <= $1 group by k.name order by 1', [20]],
    ['select id from typed where kind in (select name from kinds where title is not null) and id < $1 order by id', [12]],
  ]) got.push([text, await everyWay(c, text, values)])
  got.push(await c.query("select count(*) from typed; select id, te from typed where kind = 'odd' order by id; select 1 as one").then(all => all.map(told)))
  return got
}))

both('transactions', port => emptied(port, async c => {
  const got = []
  await c.query('begin')
  await c.query(INSERT, ROWS[0])
  got.push(told(await c.query('select count(*) from typed')))
  await c.query('commit')
  await c.query('begin isolation level repeatable read')
  await c.query(INSERT, ROWS[1])
  await c.query("update typed set te = 'gone' where id = 1")
  got.push(told(await c.query('select id, te from typed t join kinds k on k.name = t.kind order by id')))
  await c.query('rollback')
  await c.query('begin')
  await c.query(INSERT, ROWS[2])
  got.push(await fault(c.query(INSERT, ROWS[2])))
  got.push(await fault(c.query('select id from typed')))
  got.push(told(await c.query('commit')))
  // What one text has without BEGIN is done as one.
  got.push(await fault(c.query('insert into typed (id) values (70); insert into typed (id) values (1)')))
  got.push(told(await c.query('select id, te from typed order by id')))
  return got
}))

both('errors_leave_the_connection_usable', port => emptied(port, async c => {
  const got = []
  await c.query(INSERT, ROWS[0])
  for (const [text, values] of [
    ['insert into typed (id) values ($1)', [1]],
    ['insert into typed (id, kind) values ($1, $2)', [2, null]],
    ['insert into typed (id) values ($1)', [null]],
    ['insert into typed (id) values (5), (6), (5)', []],
    ['insert into typed (id, vc) values (3, $1)', ['12345678901']],
    ['insert into typed (id, i2) values (3, $1)', [40000]],
    ['insert into typed (id, i4) values (3, $1)', ['x']],
    ['insert into typed (id, uu) values (3, $1)', ['no uuid']],
    ['insert into typed (id, da) values (3, $1)', ['2024-02-30']],
    ['insert into typed (id, tz) values (3, $1)', ['yesterdayish']],
    ['insert into typed (id, js) values (3, $1)', ['{']],
    ['insert into typed (id, bo) values (3, $1)', ['maybe']],
    ['insert into typed (id, i4s) values (3, $1)', ['{1,x}']],
    ['select * from typed where nothing = $1', [1]],
    ['update typed set i4 = i4 + $1 where id = 1', [2147483647]],
    ['update typed set i4 = i4 - $1 where id = 1', [2147483648]],
  ]) got.push([text, await fault(c.query(text, values)), await fault(c.query({ text, values, name: named(text) }))])
  // Nobody has the whole row that an UPDATE would make.
  got.push((await fault(c.query('update typed set kind = $1', [null]))).toSpliced(2, 1))
  got.push(told(await c.query('select id, i4 from typed')))
  return got
}))

both('cursors_are_portals', port => filled(port, async c => {
  const got = []
  await c.query('begin')
  const cursor = c.query(new Cursor('select id, nu, da from typed where id > $1 order by id', [3]))
  for (let rows; (rows = await cursor.read(7)).length > 0;) got.push(rows)
  await cursor.close()
  const left = c.query(new Cursor('select id from typed order by id'))
  got.push(await left.read(5))
  await left.close()
  got.push(told(await c.query('select count(*) from typed')))
  await c.query('commit')
  return got
}))

both('a_pool', async port => {
  await filled(port, () => {})
  const pool = new Pool({ ...login(port), max: 4 })
  const got = await Promise.all(ROWS.map(([id]) => pool.query('select id, te from typed where id = $1', [id])))
  await pool.end()
  return got.map(told)
})

check('what_documents_have_not_is_refused', () => emptied(PGPORT, async c => {
  for (const [column, value] of [['tz', '2024-01-01 00:00:00.000001Z'], ['ts', 'infinity'], ['da', '-infinity'], ['nu', '1'.repeat(35)], ['js', 'null']]) {
    const [code] = await fault(c.query(`insert into typed (id, ${column}) values (1, $1)`, [value]))
    assert.ok(['22008', '22003', '22023', '0A000'].includes(code), `${column}: ${code}`)
  }
  assert.equal((await c.query('select * from typed')).rowCount, 0)
}))

function within(promise) {
  let timer
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`not within ${LIMIT} ms`)), LIMIT) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function main() {
  let failed = 0
  for (const [name, act] of checks) {
    try {
      await within(act())
      console.log(`PASS ${name}`)
    } catch (error) {
      failed++
      console.log(`FAIL ${name} ${[error.code, error.message, error.detail, error.hint].join(' ').replace(/\s+/g, ' ').slice(0, 600)}`)
    }
  }
  console.log(`DONE ${checks.length}`)
  process.exit(failed ? 1 : 0)
}

main()
