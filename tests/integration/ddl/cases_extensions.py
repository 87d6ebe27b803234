"""Cases of the statement matrix: extensions, text search, foreign data."""

from __future__ import annotations

from tests.integration.ddl.matrix import OTHER, OWNER, Case

CASES = (
    Case(
        "CREATE EXTENSION, ALTER EXTENSION, DROP EXTENSION (a trusted one, by an ordinary role)",
        create=(
            "create schema extra",
            "create extension hstore with schema extra version '1.4'",
            "create extension if not exists hstore",
            "create table with_hstore (id int primary key, h extra.hstore)",
            "insert into with_hstore values (1, 'a=>1')",
            "create extension citext",
        ),
        alter=(
            "alter extension hstore update to '1.8'",
            "comment on extension citext is 'letters'",
            "insert into with_hstore values (2, 'b=>2')",
        ),
        drop=("drop table with_hstore", "drop extension hstore, citext", "drop schema extra"),
    ),
    Case(
        "CREATE EXTENSION … CASCADE, ALTER EXTENSION … ADD and DROP (by a superuser)",
        create=(
            "create schema far",
            "create extension earthdistance schema far cascade",
            "create function added() returns int language sql as 'select 1'",
            "create table added_table (id int primary key)",
        ),
        alter=(
            "alter extension cube add function added()",
            "alter extension cube drop function added()",
            "alter extension cube add table added_table",
            "alter extension cube drop table added_table",
            "alter extension cube set schema public",
        ),
        drop=(
            "drop extension cube cascade",
            "drop function added",
            "drop table added_table",
            "drop schema far",
        ),
        as_superuser=True,
    ),
    Case(
        "CREATE TEXT SEARCH DICTIONARY, CONFIGURATION; ALTER, DROP",
        create=(
            "create text search dictionary simple_words (template = simple, accept = false)",
            "create text search dictionary stems (template = snowball, language = english, stopwords = english)",
            "create text search configuration mine (parser = default)",
            "create text search configuration copied (copy = english)",
        ),
        alter=(
            "alter text search configuration mine add mapping for asciiword, word with simple_words, stems",
            "alter text search configuration mine alter mapping replace stems with english_stem",
            "alter text search configuration mine alter mapping for word with stems",
            "alter text search configuration mine drop mapping if exists for asciiword",
            "alter text search dictionary simple_words (accept = true)",
            "alter text search dictionary stems (stopwords)",
            "alter text search dictionary stems rename to stemmed",
            "alter text search configuration mine rename to ours",
            f"alter text search configuration copied owner to {OTHER}",
            f"alter text search dictionary stemmed owner to {OTHER}",
            "comment on text search dictionary stemmed is 'stems'",
            "comment on text search configuration ours is 'words'",
            "create schema searched",
            "alter text search configuration ours set schema searched",
            "alter text search dictionary stemmed set schema searched",
        ),
        drop=(
            "drop text search configuration searched.ours",
            "drop text search configuration copied",
            "drop text search dictionary searched.stemmed, simple_words",
            "drop schema searched",
        ),
    ),
    Case(
        "CREATE TEXT SEARCH PARSER, TEMPLATE; ALTER, DROP",
        create=(
            "create text search parser cuts (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, "
            "lextypes = prsd_lextype, headline = prsd_headline)",
            "create text search template plainly (init = dsimple_init, lexize = dsimple_lexize)",
            "create text search dictionary by_template (template = plainly)",
            "create text search configuration by_parser (parser = cuts)",
        ),
        alter=(
            "alter text search parser cuts rename to cutting",
            "alter text search template plainly rename to plain",
            "comment on text search parser cutting is 'cuts'",
            "comment on text search template plain is 'plain'",
            "create schema parsers",
            "alter text search parser cutting set schema parsers",
            "alter text search template plain set schema parsers",
        ),
        drop=(
            "drop text search configuration by_parser",
            "drop text search parser parsers.cutting",
            "drop text search dictionary by_template",
            "drop text search template parsers.plain",
            "drop schema parsers",
        ),
        as_superuser=True,
    ),
    Case(
        "CREATE FOREIGN DATA WRAPPER, SERVER, USER MAPPING, FOREIGN TABLE; ALTER, DROP",
        create=(
            "create foreign data wrapper far_away options (debug 'true')",
            f'grant usage on foreign data wrapper far_away to "{OWNER}"',
            "create server there type 'none' version '1' foreign data wrapper far_away options (host "
            "'elsewhere', password 'sesame-1')",
            f"create user mapping for {OTHER} server there options (user 'u', password 'sesame-2')",
            "create user mapping if not exists for public server there",
            f'create user mapping for "{OWNER}" server there',
            "create foreign table away (id int options (column_name 'x') not null, v text default 'd') "
            "server there options (name 'y')",
        ),
        alter=(
            "alter foreign data wrapper far_away options (set debug 'false', add more 'x')",
            "alter foreign data wrapper far_away rename to farther",
            "alter server there version '2' options (set password 'sesame-3', drop host)",
            f"alter user mapping for {OTHER} server there options (set password 'sesame-4')",
            "alter foreign table away add column w numeric options (a 'b')",
            "alter foreign table away alter column w options (set a 'c'), options (drop name)",
            "alter foreign table away alter column v drop default, add constraint positive check (id > 0)",
            "alter foreign table away rename column v to vv",
            "alter foreign table away rename to gone",
            f"alter foreign table gone owner to {OTHER}",
            f"grant usage on foreign server there to {OTHER}",
            "comment on foreign table gone is 'far'",
            "comment on server there is 'a server'",
            "comment on foreign data wrapper farther is 'a wrapper'",
            "alter server there rename to over_there",
            f'alter server over_there owner to "{OWNER}"',
            f'set role "{OWNER}"; alter user mapping for current_user server over_there options (user '
            f"'me'); reset role",
            "create schema foreigners",
            "alter foreign table gone set schema foreigners",
        ),
        drop=(
            "drop foreign table foreigners.gone",
            f"drop user mapping for {OTHER} server over_there",
            "drop user mapping if exists for public server over_there",
            "drop server over_there cascade",
            "drop foreign data wrapper farther",
            "drop schema foreigners",
        ),
        as_superuser=True,
    ),
    Case(
        "IMPORT FOREIGN SCHEMA",
        create=(
            "create extension postgres_fdw",
            "create table brought (id int primary key, v text)",
            "create schema imported",
            "do $$ begin execute format('create server itself foreign data wrapper postgres_fdw "
            "options (host %L, port %L, dbname %L)', current_setting('unix_socket_directories'), "
            "current_setting('port'), current_database()); end $$",
            "create user mapping for current_user server itself options (user 'postgres')",
        ),
        alter=("import foreign schema public limit to (brought) from server itself into imported",),
        drop=("drop extension postgres_fdw cascade", "drop schema imported", "drop table brought"),
        as_superuser=True,
        until=15,  # the wrapper of the newer versions' wheels lacks a library
    ),
)
