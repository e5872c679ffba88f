// Plays the cases of a program on one server and writes down every statement that the ORM sends, with its answer.
//
// The same as record.py for node: recorded below the ORM, in the driver's client. A case is a function; what it returns is
// compared as well.

const crypto = require('crypto')
const pg = require('pg')

const USER_TYPE = 16384
const cases = []
let statements = []

const play = async () => {
  for (const act of cases) {
    statements = []
    let returned
    try {
      returned = { value: shown(await act()) }
    } catch (error) {
      // A refusal comes as any error of the ORM.
      returned = { raised: `${error.name} ${error.code ?? ''}`, why: String(error.message).split(/\s+/).join(' ').slice(-300) }
    }
    console.log(JSON.stringify({ case: act.name, returned, statements }))
  }
}

// Decimals and dates as they print; integers that JSON has no form for as texts.
const shown = value => JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${one}n` : one)) ?? 'nothing'

// The pool hands a callback over, a transaction takes the promise.
const asked = pg.Client.prototype.query
pg.Client.prototype.query = function (...given) {
  const text = typeof given[0] === 'string' ? given[0] : given[0].text
  const entry = { sql: text.split(/\s+/).join(' ') }
  statements.push(entry)
  const told = (error, result) => Object.assign(entry, error ? { error: error.code, message: error.message, detail: error.detail } : answer(result))
  const back = given.at(-1)
  if (typeof back === 'function') {
    given[given.length - 1] = (error, result) => {
      told(error, result)
      back(error, result)
    }
    return asked.apply(this, given)
  }
  return asked.apply(this, given).then(
    result => {
      told(null, result)
      return result
    },
    error => {
      told(error)
      throw error
    },
  )
}

const answer = result => {
  if (Array.isArray(result)) return { tag: result.map(one => one.command).join(' ') }
  // Which order is to be the same, the value of the case says: few of the statements sort by what is unique.
  const rows = result.rows.map(row => shown(row)).sort()
  return {
    tag: `${result.command} ${result.rowCount}`,
    columns: result.fields.map(f => [f.name, f.dataTypeID < USER_TYPE ? f.dataTypeID : 'user', f.dataTypeModifier]),
    rows: crypto.createHash('sha256').update(rows.join('\n')).digest('hex').slice(0, 16),
    first: rows.slice(0, 3),
  }
}

const login = () => ({
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  // Relations are asked for at the same time: by one connection they are in the same order on both sides.
  max: 1,
})

module.exports = { test: act => cases.push(act), play, login, pg }
