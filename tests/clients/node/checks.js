// node-postgres: its pure JavaScript protocol, named statements, portals, COPY streams, notifications, pools.

const assert = require('node:assert').strict
const net = require('node:net')
const { Readable, Writable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const copy = require('pg-copy-streams')

const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE } = process.env
const login = { host: PGHOST, port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: PGDATABASE }
const TEXT = "naïve 'čaj' \\ 日本 🚀"
const LIMIT = 40_000

const checks = []
const check = (name, act) => checks.push([name, act])

let number = 0
const fresh = kind => `${kind}_${process.pid}_${++number}`

async function connected(act, more = {}) {
  const client = new Client({ ...login, ...more })
  // Without a listener an error of an idle connection would end the program; the next query reports it.
  client.on('error', () => {})
  await client.connect()
  try {
    return await act(client)
  } finally {
    await client.end()
  }
}

async function withTable(act) {
  const name = fresh('js')
  return connected(async client => {
    await client.query(`create table ${name} (id int primary key, body text)`)
    try {
      return await act(client, name)
    } finally {
      await client.query('rollback')
      await client.query(`drop table ${name}`)
    }
  })
}

async function fails(sqlstate, promise) {
  const error = await promise.then(() => assert.fail(`no error ${sqlstate}`), e => e)
  assert.equal(error.code, sqlstate, String(error))
  return error
}

async function one(client, sql, values) {
  const result = await client.query({ text: sql, values, rowMode: 'array' })
  return result.rows[0][0]
}

async function poll(condition) {
  const deadline = Date.now() + 20_000
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, 'not within 20 s')
    await new Promise(done => setTimeout(done, 10))
  }
}

const sleeping = (watcher, mark) => async () =>
  (await one(watcher, "select count(*)::int from pg_stat_activity where wait_event = 'PgSleep' and query like $1",
    [`select pg_sleep(60) /* ${mark} */%`])) > 0

check('simple_query_of_several_statements', () => connected(async c => {
  const results = await c.query("select 1 a; select 'two' a")
  assert.deepEqual(results.map(r => r.rows[0].a), [1, 'two'])
}))

check('parameters_and_binary_results', () => connected(async c => {
  const { rows } = await c.query({ text: 'select $1::int + 1, $2::text', values: [41, TEXT], rowMode: 'array' })
  assert.deepEqual(rows[0], [42, TEXT])
  assert.equal((await c.query({ text: 'select $1::int a', values: [7], binary: true })).rows[0].a, 7)
}))

check('types_come_back_as_they_went', () => connected(async c => {
  const values = [
    ['int4', -5], ['int8', '-9223372036854775808'], ['numeric', '123456789012345678901234567890.123'],
    ['timestamptz', new Date('2024-01-02T03:04:05.678Z')], ['uuid', '00000000-0000-0000-0000-000000000007'],
    ['jsonb', { a: [1, null, TEXT] }], ['int4[]', [1, null, 3]], ['text[]', ['a,b', '"q"', null]],
    ['bytea', Buffer.from([...Array(256).keys()])], ['text', TEXT], ['bool', true], ['int4', null],
  ]
  for (const [type, value] of values) assert.deepEqual(await one(c, `select $1::${type}`, [value]), value, type)
}))

check('named_statement_is_reused', () => connected(async c => {
  for (let i = 0; i < 200; i++) {
    assert.equal((await c.query({ name: 'q', text: 'select $1::int a', values: [i] })).rows[0].a, i)
  }
}))

check('two_clients_use_one_statement_name', () => connected(a => connected(async b => {
  for (let i = 0; i < 50; i++) {
    assert.equal((await a.query({ name: 'same', text: 'select $1::int a', values: [i] })).rows[0].a, i)
    assert.equal((await b.query({ name: 'same', text: "select $1::text || 'b' a", values: [`${i}`] })).rows[0].a, `${i}b`)
  }
})))

check('transaction_commits_and_rolls_back', () => withTable(async (c, t) => {
  await c.query('begin')
  await c.query(`insert into ${t} values (1, 'kept')`)
  await c.query('savepoint a')
  await fails('23505', c.query(`insert into ${t} values (1, 'twice')`))
  await fails('25P02', c.query('select 1'))
  await c.query('rollback to a')
  await c.query('commit')
  await c.query('begin')
  await c.query(`insert into ${t} values (2, 'gone')`)
  await c.query('rollback')
  assert.equal(await one(c, `select count(*)::int from ${t}`), 1)
}))

check('errors_leave_the_connection_usable', () => withTable(async (c, t) => {
  await fails('22012', c.query('select 1/0'))
  await fails('42601', c.query('selec'))
  await fails('22P02', c.query('select $1::int', ['x']))
  await c.query(`insert into ${t} values (1)`)
  const error = await fails('23505', c.query(`insert into ${t} values ($1)`, [1]))
  assert.equal(error.constraint, `${t}_pkey`)
  assert.match(error.detail, /already exists/)
  assert.equal(await one(c, 'select 1'), 1)
}))

check('copy_in_and_out', () => withTable(async (c, t) => {
  const lines = function* () {
    for (let i = 0; i < 5000; i++) yield `${i}\trow\n`
  }
  await pipeline(Readable.from(lines()), c.query(copy.from(`copy ${t} from stdin`)))
  let newlines = 0
  const count = new Writable({
    write(chunk, _, done) {
      newlines += chunk.toString().split('\n').length - 1
      done()
    },
  })
  await pipeline(c.query(copy.to(`copy ${t} to stdout`)), count)
  assert.equal(newlines, 5000)
  await fails('22P02', pipeline(Readable.from(['bad\trow\n']), c.query(copy.from(`copy ${t} from stdin`))))
  assert.equal(await one(c, `select count(*)::int from ${t}`), 5000)
}))

check('queued_queries_are_answered_in_order', () => connected(async c => {
  // What the client itself queues is deprecated in pg 8 and still what many programs do.
  process.noDeprecation = true
  const asked = [...Array(200).keys()]
  assert.deepEqual(await Promise.all(asked.map(i => one(c, 'select $1::int', [i]))), asked)
}))

check('cursor_is_a_portal', () => connected(async c => {
  const cursor = c.query(new Cursor('select g from generate_series(1, 1000) g'))
  let total = 0
  for (let rows; (rows = await cursor.read(77)).length > 0;) total += rows.length
  assert.equal(total, 1000)
  await cursor.close()
  const left = c.query(new Cursor('select generate_series(1, 1000)'))
  assert.equal((await left.read(5)).length, 5)
  await left.close()
  assert.equal(await one(c, 'select 1'), 1)
}))

check('listen_and_notify', () => connected(a => connected(async b => {
  const channel = fresh('channel')
  const heard = new Promise(done => a.on('notification', message => done(message.payload)))
  await a.query(`listen ${channel}`)
  await b.query('select pg_notify($1, $2)', [channel, TEXT])
  assert.equal(await heard, TEXT)
})))

check('cancel_request_ends_the_running_query', () => connected(a => connected(async watcher => {
  const mark = fresh('cancel')
  const answer = fails('57014', a.query(`select pg_sleep(60) /* ${mark} */`))
  await poll(sleeping(watcher, mark))
  const request = Buffer.alloc(16)
  request.writeInt32BE(16, 0)
  request.writeInt32BE(80877102, 4)
  request.writeInt32BE(a.processID, 8)
  request.writeInt32BE(a.secretKey, 12)
  net.connect(login.port, login.host).end(request)
  await answer
  assert.equal(await one(a, 'select 1'), 1)
})))

check('terminated_session_is_noticed', () => connected(async watcher => {
  const mark = fresh('terminate')
  const client = new Client(login)
  client.on('error', () => {})
  await client.connect()
  const answer = client.query(`select pg_sleep(60) /* ${mark} */`).then(() => assert.fail('no error'), e => e)
  await poll(sleeping(watcher, mark))
  const terminate = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and query like $1"
  await watcher.query(terminate, [`select pg_sleep(60) /* ${mark} */%`])
  assert.notEqual((await answer).message, 'no error')
}))

check('startup_options_are_obeyed', () => connected(async c => {
  assert.equal(await one(c, 'show search_path'), 'pg_catalog')
  assert.equal(await one(c, 'show application_name'), 'js app')
  await fails('57014', c.query('select pg_sleep(60)'))
}, { options: '-c search_path=pg_catalog', application_name: 'js app', statement_timeout: 200 }))

check('many_rows_and_large_values', () => connected(async c => {
  assert.equal((await c.query("select g, repeat('y', 100) from generate_series(1, 100000) g")).rows.length, 100000)
  const value = 'é'.repeat(8_000_000)
  assert.equal(await one(c, 'select $1::text', [value]), value)
}))

check('pool_serves_more_queries_than_connections', async () => {
  const pool = new Pool({ ...login, max: 6 })
  const asked = [...Array(60).keys()]
  const got = await Promise.all(asked.map(i => pool.query('select $1::int a', [i])))
  assert.deepEqual(got.map(r => r.rows[0].a), asked)
  await pool.end()
})

check('wrong_password_is_refused', () => fails('28P01', connected(() => {}, { password: 'guess' })))

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
      console.log(`FAIL ${name} ${String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 300)}`)
    }
  }
  console.log(`DONE ${checks.length}`)
  process.exit(failed ? 1 : 0)
}

main()
