"""What the primary's sequences hand out is not handed out again by the secondary's, once it takes over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from logship.service.demo.servers import Server
from tests.conftest import create_database
from tests.follow import Follower
from tests.servers import Database, eventually

_NEXT = "select nextval(%s)"


def test_after_the_primary_is_killed(
    make_server: Callable[..., Server], secondary_server: Server, secondary: Database, tmp_path: Path
) -> None:
    server = make_server()
    primary = create_database(server, "primary")
    primary.execute(
        "create table by_default (id serial primary key, v int);"
        "create table identity (id int generated always as identity primary key, v int);"
        "create sequence down increment -2; create sequence small as smallint; create sequence unused start 7;"
        'create sequence "odd \' name" increment 3; create sequence set_back start 5;'
        "select setval('set_back', 900000)"
    )
    follower = Follower(primary, secondary, tmp_path, memory=False)
    try:
        primary.execute(
            "insert into by_default (v) select g from generate_series(1, 5000) g;"
            "insert into identity (v) select g from generate_series(1, 300) g;"
            "create table made_later (id bigserial primary key); insert into made_later default values;"
            "create sequence altered; select nextval('altered'); alter sequence altered restart with 77;"
            "select setval('set_back', 3); select setval('small', 32000)"
        )
        handed_out = {
            name: primary.value("select max(nextval(%s)) from generate_series(1, 40)", [name])
            for name in (
                "by_default_id_seq",
                "identity_id_seq",
                "made_later_id_seq",
                '"odd \' name"',
                "small",
            )
        }
        lowest = primary.value("select min(nextval('down')) from generate_series(1, 40)")
        moved = "select last_value from set_back"
        follower.catch_up()
        eventually(
            lambda: (
                secondary.value("select last_value from by_default_id_seq") > handed_out["by_default_id_seq"]
                and secondary.value("select last_value from down") < lowest
                and secondary.value("select last_value from small") > 32000
                and secondary.value(moved) < 900000
            ),
            what="the sequences arrive",
        )
        server.kill()
        for name, last in handed_out.items():
            assert secondary.value(_NEXT, [name]) > last, name
        assert secondary.value(_NEXT, ["down"]) < lowest
        assert secondary.value(_NEXT, ["small"]) < 32767, "half of what is left is kept"
        assert secondary.value(_NEXT, ["altered"]) >= 77
        assert secondary.value(_NEXT, ["unused"]) == 7
        assert (
            secondary.value("insert into identity (v) values (1) returning id")
            > handed_out["identity_id_seq"]
        )
    finally:
        follower.stop()
        assert follower.error is None, follower.error
