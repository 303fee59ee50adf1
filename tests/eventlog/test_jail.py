"""User SQL reaches nothing but the tables: a corpus of hostile statements has no effect."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from eventlog import QueryError
from eventlog.jail import Limits, check
from eventlog.query import Database

DATA = Path(__file__).parent.parent / "data" / "v2_1"
CANARY = "canary-9b1f"

# `{log}` is a log that was loaded, `{secret}` a file beside it, `{new}` a path in that folder.
HOSTILE = """
select * from read_text('{secret}')
select * from read_blob('{secret}')
select * from read_csv('{secret}')
select * from read_csv_auto('{secret}', header=false)
select * from read_json('{log}')
select * from read_json_objects('{log}')
select * from read_ndjson('{log}')
select * from read_ndjson_objects('{log}')
select * from read_parquet('{secret}')
select * from parquet_metadata('{secret}')
select * from sniff_csv('{secret}')
select * from glob('{folder}/*')
select * from '{log}'
select * from '{secret}'
from '{folder}/*.jsonl'
select * from query('select * from read_text(''{secret}'')')
select * from query_table('{secret}')
with t as (select * from read_text('{secret}')) select content from t
select (select content from read_text('{secret}'))
select * from events where data in (select content from read_text('{secret}'))
describe select * from read_csv('{secret}')
summarize select * from read_text('{secret}')
explain analyze select * from read_text('{secret}')
from json_execute_serialized_sql(json_serialize_sql('from read_text(''{secret}'')'))
copy events to '{new}'
copy events to '{log}' (use_tmp_file false)
copy (select 1) to '{new}' (format csv)
copy events from '{secret}'
explain analyze copy (select 1) to '{new}'
export database '{new}'
import database '{folder}'
attach '{new}' as other
attach ':memory:' as other
detach memory
create table mine(a int)
create or replace table events(a int)
create temp table mine as select 1
create view mine as select 1
create macro m() as 1
create sequence s
create schema s
create type t as enum ('a')
create index i on events(seq)
create secret (type s3, key_id 'a', secret 'b')
create persistent secret s (type http)
insert into events(seq) values (99)
insert into logs(file) values ('x')
with a as (insert into events(seq) values (99) returning *) select * from a
with a as (delete from events returning *) select * from a
with a as (update events set type = 'x' returning *) select * from a
explain analyze insert into events(seq) values (99)
explain analyze delete from events
update events set type = 'x'
delete from events
truncate events
drop table events
drop view if exists events
alter table events add column x int
merge into events using logs on true when matched then delete
install httpfs
load httpfs
load '{secret}'
force install httpfs
update extensions
set memory_limit = '100GB'
set enable_external_access = true
set lock_configuration = false
set global enable_external_access = true
reset enable_external_access
set variable x = 1
set allowed_directories = ['/']
set temp_directory = '{folder}'
set search_path = 'pg_catalog'
set timezone = 'Asia/Tokyo'
pragma enable_profiling
pragma memory_limit = '100GB'
call enable_logging()
call pragma_version()
use other
begin transaction
commit
rollback
checkpoint
force checkpoint
vacuum
analyze
prepare p as select 1
execute p
deallocate p
comment on table events is 'x'
select 1; drop table events
select 1; select * from read_text('{secret}')
; delete from events
select getenv('HOME')
select * from secret_object
select * from os.environ
from duckdb_secrets()
select * from which_secret('s3://x', 's3')
select * from read_text('https://example.invalid/x')
select * from 'https://example.invalid/x.csv'
select * from read_parquet('s3://bucket/x')
select * from read_json('http://127.0.0.1:9/x')
select * from postgres_scan('host=127.0.0.1', 'a', 'b')
select * from sqlite_scan('{new}', 'a')
select * from iceberg_scan('{folder}')
select * from delta_scan('{folder}')
select * from read_xlsx('{secret}')
select * from shellfs('| touch {new}')
select * from read_csv('| touch {new}')
select * from pandas_frame
select nextval('s')
select error('x')
select * from test_all_types() limit 0; drop table events
select * from read_duckdb('{new}')
select write_parquet('{new}')
select st_read('{secret}')
select load_extension('{secret}')
select file_exists('{secret}') 
select pg_read_file('{secret}')
select lo_import('{secret}')
with a as (copy (select 1) to '{new}') select 1
with a as (copy (select 1) to '{new}' (use_tmp_file false)) select 1
with a as (copy events to '{log}' (use_tmp_file false)) from a
with a as (copy events to '{secret}' (format csv, use_tmp_file false)) from a
with a as materialized (copy (select 1) to '{new}') from a
with recursive a as (copy (select 1) to '{new}') select 1
with a as (with b as (copy (select 1) to '{new}') select 1) from a
select (with a as (copy (select 1) to '{new}') select 1)
select * from (with a as (copy (select 1) to '{new}') select 1)
select 1 where exists (with a as (copy (select 1) to '{new}') select 1)
select 1 union all (with a as (copy (select 1) to '{new}') select 1)
explain with a as (copy (select 1) to '{new}') select 1
explain analyze with a as (copy (select 1) to '{new}') select 1
explain (format json) copy (select 1) to '{new}'
explain /* x */ analyze copy (select 1) to '{new}'
/* x */ explain analyze copy (select 1) to '{new}'
explain analyze create table mine(a int)
explain analyze drop table logs
explain analyze attach '{new}' as other
explain analyze set threads = 64
values ((with a as (delete from logs returning lines) select max(lines) from a))
select * from events where seq in (with a as (delete from logs returning lines) select lines from a)
with a as (merge into logs using events on true when matched then delete) from a
with a as (create table mine(a int)) select 1
with a as (attach '{new}') select 1
with a as (set threads = 64) select 1
with a as (drop table logs) select 1
from query('with a as (copy (select 1) to ''{new}'') select 1')
from query('drop table logs')
from query('select 1; drop table logs')
from query_table('/etc/passwd')
from query_table(['{secret}'])
select * from json_execute_serialized_sql('x')
from read_text('/etc/passwd')
from read_text('/proc/self/environ')
from read_blob('/proc/self/environ')
from read_text('/proc/self/cmdline')
from read_text('/proc/self/mem')
from read_text('/dev/stdin')
from read_csv('/dev/stdin')
from '/etc/passwd'
from '/proc/self/environ'
from read_text(['{secret}', '{log}'])
from read_text('{folder}/sec*')
from read_text('{folder}/../*/secret.txt')
from read_text('file://{secret}')
from read_csv('file:{secret}', columns = {{'a': 'varchar'}})
from read_json_auto('{log}')
from read_ndjson_auto('{log}')
from read_json_objects_auto('{log}')
from parquet_scan('{secret}')
from parquet_schema('{secret}')
from parquet_file_metadata('{secret}')
from parquet_kv_metadata('{secret}')
from parquet_bloom_probe('{secret}', 'a', 1)
from read_parquet(['{secret}'], union_by_name = true)
from glob('/etc/*')
from glob('{folder}/.*')
select * from read_csv('{secret}') union all select * from read_csv('/etc/passwd')
with s as (from read_text('{secret}')), t as (from s) select content from t
from events, lateral (select * from read_text('{secret}')) as t
from events join read_text('{secret}') as t on true
select (from read_text('{secret}') select content) from events
from (describe from read_text('{secret}'))
from (summarize from read_csv('{secret}'))
pivot (from read_text('{secret}')) on size in (1) using count(*)
select * from http_get('http://127.0.0.1:{port}/x')
from 'http://127.0.0.1:{port}/x.csv'
from 'http://127.0.0.1:{port}/x.parquet'
from read_csv('http://127.0.0.1:{port}/x')
from read_text('http://localhost:{port}/x')
from read_text('s3://x/y')
from read_text('gs://x/y')
from read_text('hf://datasets/x/y')
attach 'http://127.0.0.1:{port}/x.db' as other
attach 'postgres:host=127.0.0.1 port={port}' as other
attach 'sqlite:{new}' as other
attach '{secret}' as other (read_only)
install 'http://127.0.0.1:{port}/x.duckdb_extension'
install spatial from 'http://127.0.0.1:{port}'
set custom_extension_repository = 'http://127.0.0.1:{port}'
set allowed_paths = ['/etc/passwd']
set allow_community_extensions = true
set allow_unsigned_extensions = true
set autoload_known_extensions = true
set extension_directory = '{folder}'
set home_directory = '{folder}'
set secret_directory = '{folder}'
set log_query_path = '{new}'
set profile_output = '{new}'
set enable_profiling = 'json'
set python_enable_replacements = true
set python_scan_all_frames = true
set threads = 64
set local memory_limit = '100GB'
set session threads = 64
set max_temp_directory_size = '10GB'
reset memory_limit
pragma profiling_output = '{new}'
pragma threads = 64
pragma database_list; drop table logs
call enable_logging(storage = 'file', storage_path = '{new}')
call checkpoint()
call force_checkpoint()
call start_ui()
from enable_logging()
from pandas_scan(1)
from python_map_function(1)
from arrow_scan(1, 2, 3)
from arrow_scan_dumb(1, 2, 3)
from sys.modules
from __builtins__
from os
from database
from con
from answer
select python_udf(1)
select system('touch {new}')
select shell('touch {new}')
select env('HOME')
select getenv('CANARY')
select current_setting('env')
select * from duckdb_secrets(redact = false)
select getvariable('x')::int + 'a'
create function f() as 1
create or replace view events as select 1
create or replace temp view events as select 1
create table raw.mine(a int)
create table memory.main.mine(a int)
insert into raw.fresh(seq) values (99)
update raw.fresh set type = 'x'
delete from raw.fresh
truncate raw.fresh
drop schema raw cascade
drop view events
alter view events rename to mine
alter table logs rename to mine
alter table logs rename column file to mine
copy from database memory to other
select 1 into mine
select * from events for update
lock table events
grant all on events to me
do $$ begin end $$
listen x
notify x
execute immediate 'drop table logs'
select * from events; copy (select 1) to '{new}'
""".strip().splitlines()  # noqa: W291

secret_object = [("a", CANARY)]
pandas_frame = {"a": [CANARY]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jail")
    (folder / "secret.txt").write_text(f"{CANARY}\n")
    (folder / "events.jsonl").write_bytes((DATA / "events.jsonl").read_bytes())
    return folder


@pytest.fixture(scope="module")
def server():
    """A server that nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(scope="module")
def database(place):
    os.environ["CANARY"] = CANARY
    with Database([place], limits=Limits(time_s=10)) as database:
        yield database
    del os.environ["CANARY"]


def state(place):
    """Names and contents of all files, and where this process stands."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.iterdir())
    }
    return files, os.getcwd()


def tables(database):
    settings = (
        "'extension_directory', 'home_directory', 'temp_directory', 'threads', 'memory_limit'"
    )
    return [
        database.query("select count(*), sum(seq), min(type) from events").rows,
        database.query("select count(*), sum(seq) from raw.fresh").rows,
        database.query("select count(*), sum(lines) from logs").rows,
        database.query("select table_name from information_schema.tables order by all").rows,
        database.query(f"from duckdb_settings() where name in ({settings}) order by name").rows,
    ]


def test_the_corpus_is_large_and_has_no_doubles():
    assert len(HOSTILE) >= 250
    assert len(set(HOSTILE)) == len(HOSTILE)


@pytest.fixture(scope="module")
def before(place, database):
    return state(place), tables(database)


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_hostile_statement_is_refused_and_has_no_effect(
    statement, database, place, server, before
):
    sql = statement.format(
        log=place / "events.jsonl",
        secret=place / "secret.txt",
        new=place / "new",
        folder=place,
        port=server.getsockname()[1],
    )
    with pytest.raises(QueryError, match=r"query|only reading") as caught:
        database.query(sql)
    assert CANARY not in str(caught.value)
    assert state(place) == before[0]
    with pytest.raises(BlockingIOError):
        server.accept()


def test_after_all_of_them_the_tables_and_settings_are_as_before(database, before):
    assert tables(database) == before[1]


@pytest.mark.parametrize(
    "sql",
    [
        "from events",
        "table events",
        "values (1)",
        "with a as (select 1 as x) select x from a",
        "describe events",
        "show tables",
        "summarize events",
        "explain select 1",
        "explain analyze select count(*) from events",
        "select 1;",
        "select 1 -- done",
        "/* why */ select 1",
        "select ';' || ' drop table events'",
        "pivot events on level in ('INFO', 'WARN') using count(*)",
        "unpivot (select 1 as a, 2 as b) on a, b",
    ],
)
def test_reading_statements_are_let_through(sql, database):
    assert database.query(sql).columns


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "one statement, not 0"),
        ("-- nothing", "one statement, not 0"),
        ("select 1; select 2", "one statement, not 2"),
        ("drop table events", "only reading"),
        ("selec 1", "can't be read"),
        ("select '\0'", "NUL"),
        ("select '\ud800'", "not UTF-8"),
        ("select " + "1," * 600_000 + "1", "bytes, more than"),
    ],
)
def test_what_is_no_query_is_refused_before_anything_is_loaded(sql, words):
    with pytest.raises(QueryError, match=words):
        check(sql)


def test_duckdbs_own_words_and_the_line_come_through(database):
    with pytest.raises(QueryError) as caught:
        database.query("select type,\n  tpye from events")
    assert 'Referenced column "tpye" not found' in caught.value.message
    assert "LINE 2:   tpye from events" in caught.value.message


def test_a_query_ends_when_its_time_is_over(place):
    with Database([place], limits=Limits(time_s=0.2)) as slow:
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
            slow.query("select count(*) from range(1000000) a, range(10000000) b where a.range > 5")
        assert time.monotonic() - began < 10
        assert slow.query("select 1").rows == [(1,)]


def test_a_query_that_needs_too_much_memory_is_ended(place):
    with (
        Database([place], limits=Limits(memory_mb=100)) as small,
        pytest.raises(QueryError, match="more than 100 MB"),
    ):
        small.query("select list(range) from range(100000000)")


def test_a_result_with_too_many_rows_is_refused(place):
    with Database([place], limits=Limits(rows=1500)) as short:
        assert len(short.query("from range(1500)").rows) == 1500
        with pytest.raises(QueryError, match="more than 1500 rows"):
            short.query("from range(1501)")


def test_no_setting_can_be_changed_even_from_inside(database):
    with pytest.raises(duckdb.Error, match="configuration has been locked"):
        database._con.execute("set memory_limit = '100GB'")


def test_parameters_are_values_and_never_sql(database):
    answer = database.query("select $a, count(*) from events where type = $a", {"a": "x' or 1=1"})
    assert answer.rows == [("x' or 1=1", 0)]


def test_times_with_a_zone_come_as_text_in_utc(database):
    answer = database.query(
        "select '2025-01-01 00:00:00+02'::timestamptz as a, 1 as a, 2.50::decimal(4,2) -- end"
    )
    assert answer.rows == [("2024-12-31 22:00:00+00", 1, Decimal("2.50"))]
    assert answer.types[0] == "TIMESTAMP WITH TIME ZONE"
