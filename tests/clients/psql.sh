#!/usr/bin/env bash
# psql: scripts, variables, errors, COPY in all formats, its backslash commands and what they ask of the catalog.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/check.sh"

t=ps_$$
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
ask() { psql -XqAt -v ON_ERROR_STOP=1 "$@" 2>&1; }
# Lines from standard input, as one script.
script() { ask -v t="$t" -f -; }

equal one_value 1 "$(ask -c 'select 1')"
equal several_statements $'1\n2' "$(ask -c 'select 1; select 2')"
equal text_not_ascii 'čaj 日本 🚀' "$(ask -c "select 'čaj 日本 🚀'")"
equal nothing_at_all '' "$(ask -c '')"
equal comments_and_dollar_quotes 'a;b' "$(ask -c 'select /* ; */ $x$a;b$x$ -- end')"

succeeds create_table ask -c "create table $t (id int primary key, body text)"
equal insert_returning $'1\n2' "$(ask -c "insert into $t values (1, 'x'), (2, null) returning id")"
equal variables "$t 7" "$(script <<'SQL'
\set n 7
select :'t' || ' ' || :n;
SQL
)"
equal gset_and_if yes "$(script <<'SQL'
select count(*) = 2 as two from :t \gset
\if :two
\echo yes
\endif
SQL
)"
equal gexec $'a\nb' "$(script <<'SQL'
select format('select %L', x) from unnest(array['a', 'b']) x \gexec
SQL
)"
contains gdesc 'id|integer' "$(script <<<'select id, body from :t \gdesc')"

equal commit_and_rollback 3 "$(script <<'SQL'
begin;
insert into :t values (3);
commit;
begin;
insert into :t values (4);
rollback;
select count(*) from :t;
SQL
)"
equal savepoints 1 "$(script <<'SQL'
begin;
savepoint a;
delete from :t;
rollback to a;
delete from :t where id > 1;
release a;
select count(*) from :t;
rollback;
SQL
)"
contains sqlstate_division 'ERROR:  22012: division by zero' "$(ask -v VERBOSITY=verbose -c 'select 1/0')"
contains sqlstate_syntax 'ERROR:  42601: syntax error at or near "selec"' "$(ask -v VERBOSITY=verbose -c selec)"
contains sqlstate_unique 'ERROR:  23505: duplicate key' "$(ask -v VERBOSITY=verbose -c "insert into $t values (1)")"
contains error_position 'LINE 1: select no_such' "$(ask -c 'select no_such')"
contains failed_transaction 'current transaction is aborted' "$(psql -XqAt 2>&1 <<'SQL'
begin;
select 1/0;
select 1;
rollback;
SQL
)"
equal on_error_rollback 2 "$(psql -XqAt -v ON_ERROR_ROLLBACK=on 2>/dev/null <<'SQL'
begin;
select 1/0;
select 2;
commit;
SQL
)"
equal single_transaction_undone 3 "$(ask -1 -c "insert into $t values (50)" -c 'select 1/0' >/dev/null; ask -c "select count(*) from $t")"

seq 100 5099 | sed 's/$/\tcopied/' >"$files/rows"
equal copy_in_text 5000 "$(ask -c "\\copy $t from '$files/rows'"; ask -c "select count(*) from $t where body = 'copied'")"
equal copy_out_csv $'id,body\n1,x\n2,' "$(ask -c "copy (select * from $t where id < 3 order by id) to stdout (format csv, header)")"
succeeds copy_out_binary ask -c "\\copy (select id + 100000, body from $t) to '$files/binary' (format binary)"
equal copy_in_binary 5003 "$(ask -c "\\copy $t from '$files/binary' (format binary)"; ask -c "select count(*) from $t where id > 100000")"
equal copy_from_script 2 "$(script <<'SQL'
copy :t from stdin (format csv);
900001,"a, b"
900002,
\.
select count(*) from :t where id > 900000;
SQL
)"
contains copy_error_line 'line 2, column id: "bad"' "$(printf '900003\tx\nbad\ty\n' | ask -c "copy $t from stdin")"

for command in '\l' '\d' '\dt+' '\dn' '\df' '\du' '\dT' '\dx' '\di' '\dp' '\conninfo'; do
  succeeds "backslash_${command//[^a-zA-Z]/}" ask -c "$command"
done
contains describe_shows_the_key "\"${t}_pkey\" PRIMARY KEY" "$(psql -Xq -c "\\d+ $t" 2>&1)"

equal fetch_count 5000 "$(ask -v FETCH_COUNT=77 -c "select id from $t where body = 'copied' and id < 100000" | wc -l | tr -d ' ')"
equal prepare_execute $'2\n4' "$(script <<'SQL'
prepare twice(int) as select $1 * 2;
execute twice(1);
execute twice(2);
deallocate twice;
SQL
)"
equal settings $'11s\n22s\n11s' "$(script <<'SQL'
set statement_timeout = '11s';
show statement_timeout;
begin;
set local statement_timeout = '22s';
show statement_timeout;
commit;
show statement_timeout;
SQL
)"
equal options_of_the_connection 4321ms "$(PGOPTIONS='-c statement_timeout=4321' ask -c 'show statement_timeout')"
contains notice 'NOTICE:  hello' "$(ask -c "do \$\$ begin raise notice 'hello'; end \$\$")"
equal temporary_table $'1\n1' "$(script <<'SQL'
create temp table only_here as select 1 as a;
select a from only_here;
select count(*) from only_here;
SQL
)"
contains listen_notify 'Asynchronous notification "ps_channel" with payload "hi"' "$(script <<'SQL'
listen ps_channel;
notify ps_channel, 'hi';
select 1;
SQL
)"
equal cursor $'1\n2\n3' "$(script <<'SQL'
begin;
declare c cursor for select generate_series(1, 10);
fetch 2 from c;
fetch 1 from c;
commit;
SQL
)"
contains timeout 'canceling statement due to statement timeout' "$(ask -c "set statement_timeout = '100ms'" -c 'select pg_sleep(30)')"
equal large_value 20000000 "$(ask -c "select repeat('x', 20000000)" | tr -d '\n' | wc -c | tr -d ' ')"
contains wrong_password 'password authentication failed' "$(PGPASSWORD=guess psql -Xw -c 'select 1' 2>&1)"
contains wrong_database 'does not exist' "$(PGDATABASE=no_such_database_$$ psql -Xw -c 'select 1' 2>&1)"
succeeds drop_table ask -c "drop table $t"
finish
