"""Each table of a study file is a struct that refuses what it does not know."""

import msgspec
import pytest

from perfgate.study import schema

WHOLE = {
    schema.ModelServer: {},
    schema.ModelTable: {},
    schema.PairTable: {"model": "a", "reference": "b"},
    schema.ServerTable: {},
    schema.DatasetTable: {},
    schema.WorkloadTable: {"num_prompts": 4},
    schema.Roles: {
        "closed": "c",
        "single_stream": "s",
        "routing": "r",
        "batches": ["b"],
        "sweep": ["b"],
    },
    schema.SlowRoles: {},
    schema.DeepTable: {"workloads": ("w",), "judged": ()},
    schema.HeldTable: {"workloads": "w"},
    schema.PlatformTable: {
        "about": "a GPU",
        "server": "s",
        "workloads": "w",
        "roles": {
            "closed": "c",
            "single_stream": "s",
            "routing": "r",
            "batches": ["b"],
            "sweep": ["b"],
        },
    },
    schema.JudgedTable: {},
    schema.ClaimTable: {
        "pair": "p",
        "claim": "c",
        "holds": True,
        "arithmetic": "{a}",
    },
}
TABLES = pytest.mark.parametrize(
    "table", WHOLE, ids=lambda table: table.__name__
)


def test_every_table_is_here():
    """A new table of the schema is one of these tests."""
    structs = {
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }

    assert structs == WHOLE.keys()


@TABLES
def test_required_keys_are_enough(table):
    """All others have a default; the table cannot be changed afterwards."""
    value = msgspec.convert(WHOLE[table], table)

    with pytest.raises(AttributeError):
        setattr(value, table.__struct_fields__[0], None)


@TABLES
def test_each_required_key_is_required(table):
    """The message names it."""
    for key in WHOLE[table]:
        less = {name: v for name, v in WHOLE[table].items() if name != key}
        with pytest.raises(msgspec.ValidationError, match=key):
            msgspec.convert(less, table)


@TABLES
def test_an_unknown_key_is_refused(table):
    """A misspelt key would otherwise be a default, unseen."""
    with pytest.raises(msgspec.ValidationError, match="num_promts"):
        msgspec.convert(WHOLE[table] | {"num_promts": 1}, table)
