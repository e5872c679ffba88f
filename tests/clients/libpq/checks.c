/* libpq in C: what psql and most drivers stand on. Synchronous and asynchronous use, pipeline mode, single rows, COPY,
 * cancel, notifications, binary values. Prints `PASS name` or `FAIL name line` for each check, then `DONE n`. */

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static int checks, failed;

static void verdict(const char *name, bool ok, int line) {
  checks++;
  if (ok) {
    printf("PASS %s\n", name);
  } else {
    failed++;
    printf("FAIL %s at line %d\n", name, line);
  }
  fflush(stdout);
}
#define CHECK(name, ok) verdict(name, ok, __LINE__)

/* Host, port, user, password and database come from the environment. */
static PGconn *connect_with(const char *more) {
  return PQconnectdb(more);
}

static bool is(PGresult *r, ExecStatusType status) {
  bool ok = PQresultStatus(r) == status;
  PQclear(r);
  return ok;
}

static bool value_is(PGresult *r, const char *value) {
  bool ok = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) > 0 && !strcmp(PQgetvalue(r, 0, 0), value);
  PQclear(r);
  return ok;
}

static bool state_is(PGresult *r, const char *sqlstate) {
  const char *got = PQresultErrorField(r, PG_DIAG_SQLSTATE);
  bool ok = got && !strcmp(got, sqlstate);
  PQclear(r);
  return ok;
}

/* Waits for the socket to be readable, at most a second. */
static void wait_readable(PGconn *c) {
  fd_set set;
  struct timeval limit = {1, 0};
  FD_ZERO(&set);
  FD_SET(PQsocket(c), &set);
  select(PQsocket(c) + 1, &set, NULL, NULL, &limit);
}

static void basics(PGconn *c) {
  CHECK("server_version", PQserverVersion(c) >= 150000);
  CHECK("parameter_status", PQparameterStatus(c, "TimeZone") && PQparameterStatus(c, "integer_datetimes"));
  CHECK("exec", value_is(PQexec(c, "select 42"), "42"));
  CHECK("empty_query", is(PQexec(c, ""), PGRES_EMPTY_QUERY));
  PQsendQuery(c, "select 1; select 2; select 1/0; select 3");
  int rows = 0, errors = 0;
  for (PGresult *r; (r = PQgetResult(c));) {
    if (is(r, PGRES_TUPLES_OK)) rows++;
    else errors++;
  }
  CHECK("statements_up_to_the_first_error", rows == 2 && errors == 1);
}

static void parameters(PGconn *c) {
  const char *text[2] = {"41", "\xc4\x8d\x61j"};
  PGresult *r = PQexecParams(c, "select $1::int + 1, $2::text", 2, NULL, text, NULL, NULL, 0);
  CHECK("parameters_in_text", !strcmp(PQgetvalue(r, 0, 0), "42") && !strcmp(PQgetvalue(r, 0, 1), text[1]));
  PQclear(r);
  uint32_t number = htonl(77);
  const char *binary[1] = {(char *)&number};
  int length[1] = {4}, format[1] = {1};
  r = PQexecParams(c, "select $1::int4 * 2", 1, NULL, binary, length, format, 1);
  uint32_t twice = 0;
  if (PQgetlength(r, 0, 0) == 4) memcpy(&twice, PQgetvalue(r, 0, 0), 4);
  CHECK("parameters_in_binary", ntohl(twice) == 154);
  PQclear(r);
  const char *null[1] = {NULL};
  r = PQexecParams(c, "select $1::int is null", 1, NULL, null, NULL, NULL, 0);
  CHECK("parameter_null", value_is(r, "t"));
}

static void prepared(PGconn *c) {
  PQclear(PQprepare(c, "triple", "select $1::int * 3", 0, NULL));
  bool ok = true;
  for (int i = 0; i < 200; i++) {
    char in[16], out[16];
    sprintf(in, "%d", i);
    sprintf(out, "%d", 3 * i);
    const char *values[1] = {in};
    ok &= value_is(PQexecPrepared(c, "triple", 1, values, NULL, NULL, 0), out);
  }
  CHECK("prepared_reuse", ok);
  PGresult *r = PQdescribePrepared(c, "triple");
  CHECK("prepared_description", PQnparams(r) == 1 && PQparamtype(r, 0) == 23 && PQnfields(r) == 1);
  PQclear(r);
  CHECK("prepared_twice_42P05", state_is(PQprepare(c, "triple", "select 1", 0, NULL), "42P05"));
  CHECK("prepared_missing_26000", state_is(PQexecPrepared(c, "none", 0, NULL, NULL, NULL, 0), "26000"));
  PQclear(PQexec(c, "deallocate triple"));
  CHECK("deallocated", state_is(PQexecPrepared(c, "triple", 0, NULL, NULL, NULL, 0), "26000"));
  PQclear(PQprepare(c, "other", "select 1", 0, NULL));
  PQclear(PQexec(c, "discard all"));
  CHECK("discarded", state_is(PQexecPrepared(c, "other", 0, NULL, NULL, NULL, 0), "26000"));
}

static void transactions(PGconn *c) {
  CHECK("status_idle", PQtransactionStatus(c) == PQTRANS_IDLE);
  PQclear(PQexec(c, "begin"));
  CHECK("status_in_transaction", PQtransactionStatus(c) == PQTRANS_INTRANS);
  PQclear(PQexec(c, "savepoint a"));
  PQclear(PQexec(c, "select 1/0"));
  CHECK("status_failed", PQtransactionStatus(c) == PQTRANS_INERROR);
  PQclear(PQexec(c, "rollback to a"));
  CHECK("status_after_rollback_to", PQtransactionStatus(c) == PQTRANS_INTRANS);
  PQclear(PQexec(c, "select 1/0"));
  PGresult *r = PQexec(c, "commit");
  CHECK("commit_of_a_failed_one_is_rollback", !strcmp(PQcmdStatus(r), "ROLLBACK"));
  PQclear(r);
  CHECK("cursor_outside_of_one_25P01", state_is(PQexec(c, "declare k cursor for select 1"), "25P01"));
}

static void single_rows(PGconn *c) {
  PQsendQuery(c, "select g from generate_series(1, 20000) g");
  PQsetSingleRowMode(c);
  int rows = 0;
  for (PGresult *r; (r = PQgetResult(c));) rows += is(r, PGRES_SINGLE_TUPLE);
  CHECK("single_rows", rows == 20000);
  /* libpq 15 would take this mode into the next pipeline. */
  PQclear(PQexec(c, "select 1"));
}

static void queue(PGconn *c, const char *sql) {
  PQsendQueryParams(c, sql, 0, NULL, NULL, NULL, NULL, 0);
}

/* One letter for each result up to the given number of syncs. */
static void letters(PGconn *c, int syncs, char *out) {
  while (syncs > 0) {
    PGresult *r = PQgetResult(c);
    if (!r) continue;
    switch (PQresultStatus(r)) {
      case PGRES_TUPLES_OK: *out++ = 'T'; break;
      case PGRES_COMMAND_OK: *out++ = 'C'; break;
      case PGRES_FATAL_ERROR: *out++ = 'E'; break;
      case PGRES_PIPELINE_ABORTED: *out++ = 'A'; break;
      case PGRES_PIPELINE_SYNC: *out++ = 'S'; syncs--; break;
      default: *out++ = '?';
    }
    PQclear(r);
    if (PQstatus(c) != CONNECTION_OK) break;
  }
  *out = 0;
}

static void pipelines(PGconn *c) {
  char got[512];
  PQenterPipelineMode(c);
  for (int i = 0; i < 200; i++) queue(c, "select 1");
  PQpipelineSync(c);
  letters(c, 1, got);
  CHECK("pipeline_of_200", strlen(got) == 201 && strspn(got, "T") == 200 && got[200] == 'S');
  queue(c, "select 1");
  queue(c, "select 1/0");
  queue(c, "select 2");
  PQpipelineSync(c);
  queue(c, "select 3");
  PQpipelineSync(c);
  letters(c, 2, got);
  CHECK("pipeline_goes_on_after_sync", !strcmp(got, "TEASTS"));
  const char *values[1] = {"5"};
  PQsendPrepare(c, "piped", "select $1::int", 0, NULL);
  PQsendQueryPrepared(c, "piped", 1, values, NULL, NULL, 0);
  PQsendFlushRequest(c);
  PQflush(c);
  /* Both answers come without a sync; a result is followed by a null. */
  bool ok = is(PQgetResult(c), PGRES_COMMAND_OK);
  PQgetResult(c);
  ok &= value_is(PQgetResult(c), "5");
  PQgetResult(c);
  PQpipelineSync(c);
  ok &= is(PQgetResult(c), PGRES_PIPELINE_SYNC);
  CHECK("pipeline_flush", ok);
  PQexitPipelineMode(c);
}

static void copies(PGconn *c) {
  PQclear(PQexec(c, "create temp table copied (id int, body text)"));
  bool ok = is(PQexec(c, "copy copied from stdin"), PGRES_COPY_IN);
  for (int i = 0; i < 5000; i++) {
    char line[64];
    int length = sprintf(line, "%d\trow\n", i);
    PQputCopyData(c, line, length);
  }
  PQputCopyEnd(c, NULL);
  PGresult *r = PQgetResult(c);
  ok &= !strcmp(PQcmdStatus(r), "COPY 5000");
  PQclear(r);
  CHECK("copy_in", ok && !PQgetResult(c));
  ok = is(PQexec(c, "copy copied to stdout"), PGRES_COPY_OUT);
  int lines = 0;
  char *line;
  while (PQgetCopyData(c, &line, 0) > 0) {
    lines++;
    PQfreemem(line);
  }
  ok &= is(PQgetResult(c), PGRES_COMMAND_OK);
  CHECK("copy_out", ok && lines == 5000 && !PQgetResult(c));
  PQclear(PQexec(c, "copy copied from stdin"));
  PQputCopyEnd(c, "given up");
  CHECK("copy_given_up_57014", state_is(PQgetResult(c), "57014") && !PQgetResult(c));
  CHECK("copy_nothing_kept", value_is(PQexec(c, "select count(*) from copied"), "5000"));
}

static char sleeping[128];

/* Cancels when another session sees the query run. */
static void *cancel_when_running(void *busy) {
  PGconn *watcher = connect_with("");
  char sql[256];
  snprintf(sql, sizeof sql,
           "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep' and query like '%s%%'", sleeping);
  time_t deadline = time(NULL) + 20;
  while (time(NULL) < deadline && !value_is(PQexec(watcher, sql), "t")) usleep(10000);
  char error[256];
  PGcancel *cancel = PQgetCancel(busy);
  PQcancel(cancel, error, sizeof error);
  PQfreeCancel(cancel);
  PQfinish(watcher);
  return NULL;
}

static void cancels(PGconn *c) {
  snprintf(sleeping, sizeof sleeping, "select pg_sleep(60) /* libpq %d */", getpid());
  pthread_t thread;
  pthread_create(&thread, NULL, cancel_when_running, c);
  CHECK("cancel_57014", state_is(PQexec(c, sleeping), "57014"));
  pthread_join(thread, NULL);
  CHECK("usable_after_cancel", value_is(PQexec(c, "select 1"), "1"));
}

static void notifications(PGconn *c) {
  PGconn *other = connect_with("");
  char sql[64];
  snprintf(sql, sizeof sql, "listen libpq_%d", getpid());
  PQclear(PQexec(c, sql));
  snprintf(sql, sizeof sql, "notify libpq_%d, 'hello'", getpid());
  PQclear(PQexec(other, sql));
  PGnotify *n = NULL;
  for (time_t deadline = time(NULL) + 20; !n && time(NULL) < deadline;) {
    wait_readable(c);
    PQconsumeInput(c);
    n = PQnotifies(c);
  }
  CHECK("notification_comes_by_itself", n && !strcmp(n->extra, "hello"));
  PQfreemem(n);
  PQclear(PQexec(c, "unlisten *"));
  PQfinish(other);
}

static void large_values(PGconn *c) {
  size_t size = 30000000;
  char *value = malloc(size + 1);
  memset(value, 'q', size);
  value[size] = 0;
  const char *values[1] = {value};
  CHECK("parameter_of_30_MB",
        value_is(PQexecParams(c, "select length($1::text)", 1, NULL, values, NULL, NULL, 0), "30000000"));
  free(value);
  PGresult *r = PQexec(c, "select repeat('w', 50000000)");
  CHECK("value_of_50_MB", PQntuples(r) == 1 && PQgetlength(r, 0, 0) == 50000000);
  PQclear(r);
}

static void connections(PGconn *c) {
  PGconn *d = PQconnectStart("connect_timeout=10");
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK && next != PGRES_POLLING_FAILED) {
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(PQsocket(d), next == PGRES_POLLING_READING ? &readable : &writable);
    select(PQsocket(d) + 1, &readable, &writable, NULL, NULL);
    next = PQconnectPoll(d);
  }
  CHECK("connect_asynchronously", next == PGRES_POLLING_OK);
  PQfinish(d);
  const char *modes[] = {"sslmode=disable gssencmode=disable", "sslmode=prefer", "target_session_attrs=read-write"};
  const char *names[] = {"sslmode_disable", "sslmode_prefer", "target_read_write"};
  for (int i = 0; i < 3; i++) {
    d = connect_with(modes[i]);
    CHECK(names[i], PQstatus(d) == CONNECTION_OK);
    PQfinish(d);
  }
  d = connect_with("options='-c statement_timeout=4321' application_name='c app'");
  CHECK("startup_options", value_is(PQexec(d, "show statement_timeout"), "4321ms"));
  CHECK("application_name", value_is(PQexec(d, "show application_name"), "c app"));
  PQfinish(d);
  d = connect_with("password=guess");
  CHECK("wrong_password", PQstatus(d) == CONNECTION_BAD && strstr(PQerrorMessage(d), "password authentication failed"));
  PQfinish(d);
  PQreset(c);
  CHECK("reset", PQstatus(c) == CONNECTION_OK && value_is(PQexec(c, "select 1"), "1"));
  CHECK("ping", PQping("") == PQPING_OK);
}

int main(void) {
  PGconn *c = connect_with("");
  CHECK("connect", PQstatus(c) == CONNECTION_OK);
  if (PQstatus(c) == CONNECTION_OK) {
    basics(c);
    parameters(c);
    prepared(c);
    transactions(c);
    single_rows(c);
    pipelines(c);
    copies(c);
    cancels(c);
    notifications(c);
    large_values(c);
    connections(c);
  } else {
    printf("%s", PQerrorMessage(c));
  }
  PQfinish(c);
  printf("DONE %d\n", checks);
  return failed ? 1 : 0;
}
