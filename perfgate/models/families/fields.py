"""Fields of a configuration: typed, bounded, and named in every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

MOST = 2**31
MOST_LAYERS = 4096


class FieldMissing(ValueError):
    """A field that the family needs is not there."""


class FieldInvalid(ValueError):
    """A field with an impossible value."""


class Unsupported(ValueError):
    """A field whose value the arithmetic does not support, and why."""


class Fields:
    """The fields of a config.json, or of a table in it.

    Args:
        values: the decoded fields.
        prefix: of a field's name in messages, for a table: "text_config.".
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def raw(self, name: str) -> Any:
        """Any value.

        Raises:
            FieldMissing: it is not there.

        """
        if name not in self.values:
            raise FieldMissing(f"{self.prefix}{name} is missing")
        return self.values[name]

    def count(
        self, name: str, default: int | None = None, *, least: int = 1
    ) -> int:
        """A whole number; one without a default must be there."""
        if not self.has(name) and default is not None:
            return default
        return self._whole(name, self.raw(name), least)

    def optional_count(self, name: str) -> int | None:
        """A whole number, or None where the field is null."""
        if self.raw(name) is None:
            return None
        return self.count(name)

    def first_count(self, *names: str, default: int | None = None) -> int:
        """The first of these fields that is there."""
        for name in names:
            if self.has(name):
                return self.count(name, least=0)
        if default is not None:
            return default
        raise FieldMissing(f"{self.prefix}{names[0]} is missing")

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, "neither true nor false")
        return value

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(name, "no text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty where there is none."""
        texts = []
        for item in self._list(name):
            if not isinstance(item, str):
                self.refuse(name, "no list of texts")
            texts.append(item)
        return tuple(texts)

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 0; empty where there is none."""
        return tuple(
            self._whole(name, item, least=0) for item in self._list(name)
        )

    def table(self, name: str) -> Fields | None:
        """A table of further fields; None where there is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.refuse(name, "no table of fields")
        return Fields(value, f"{self.prefix}{name}.")

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Name a field whose value is impossible."""
        value = repr(self.values.get(name))
        if len(value) > 60:
            value = f"{value[:57]}..."
        raise FieldInvalid(f"{self.prefix}{name} is {value}: {problem}")

    def unsupported(self, name: str) -> NoReturn:
        """Name a field whose value the arithmetic does not support."""
        raise Unsupported(f"{self.prefix}{name} is {self.values.get(name)!r}")

    def _list(self, name: str) -> Sequence[Any]:
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self.refuse(name, "no list")
        return value

    def _whole(self, name: str, value: Any, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, "no whole number")
        if not least <= value <= MOST:
            self.refuse(name, f"not between {least} and {MOST}")
        return value


class Common:
    """Fields that nearly all families share, checked.

    Args:
        fields: of the config.json.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.hidden = fields.count("hidden_size")
        self.heads = fields.count("num_attention_heads")
        self.vocabulary = fields.count("vocab_size")
        self.tied = fields.flag("tie_word_embeddings")
        self.num_layers = self._num_layers()

    @property
    def kv_heads(self) -> int:
        """Key-value heads."""
        return self.fields.count("num_key_value_heads")

    @property
    def head_dim(self) -> int:
        """Width of a head: the field, else the hidden size over the heads."""
        if self.fields.has("head_dim"):
            return self.fields.count("head_dim")
        if self.hidden < self.heads:
            self.fields.refuse("hidden_size", f"less than {self.heads} heads")
        return self.hidden // self.heads

    @property
    def intermediate(self) -> int:
        """Width of a dense feed-forward."""
        return self.fields.count("intermediate_size")

    @property
    def draft_layers(self) -> int:
        """Layers that predict further tokens."""
        return self.fields.count("num_nextn_predict_layers", 0, least=0)

    def scalars(self) -> dict[str, Any]:
        """Fields of an architecture that every family has."""
        fields = self.fields
        return {
            "model_type": fields.text("model_type", ""),
            "hidden_size": self.hidden,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": fields.first_count(
                "max_position_embeddings", "model_max_length"
            ),
            "tie_word_embeddings": self.tied,
        }

    def layer_names(
        self, name: str, allowed: Sequence[str], default: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """A name for each layer.

        Args:
            name: of the field.
            allowed: names that are understood.
            default: where the field is missing; one name for each layer.

        Raises:
            Unsupported: another name.
            FieldInvalid: not one for each layer.

        """
        names = self.fields.texts(name)
        if not self.fields.has(name):
            if not default:
                raise FieldMissing(f"{self.fields.prefix}{name} is missing")
            names = tuple(default)
        unknown = sorted(set(names) - set(allowed))
        if unknown:
            raise Unsupported(
                f"{self.fields.prefix}{name} names {', '.join(unknown)}"
            )
        self._check_length(f"{self.fields.prefix}{name}", names)
        return names

    def attention_types(self, other: str, interval: int) -> tuple[str, ...]:
        """For each layer "full_attention" or the other name, by `layer_types`.

        Args:
            other: name of the other attention.
            interval: without that field each so-many-th layer has full attention.

        """
        default = []
        for number in range(1, self.num_layers + 1):
            name = other
            if number % interval == 0:
                name = "full_attention"
            default.append(name)
        return self.layer_names(
            "layer_types", (other, "full_attention"), default
        )

    def layer_counts(
        self, name: str, table: Fields | None = None
    ) -> tuple[int, ...]:
        """A whole number from 0 for each layer.

        Args:
            name: of the field.
            table: that has the field; None for the config.json itself.

        Raises:
            FieldInvalid: not one for each layer.

        """
        fields = table or self.fields
        numbers = fields.counts(name)
        self._check_length(f"{fields.prefix}{name}", numbers)
        return numbers

    def _check_length(self, name: str, entries: Sequence[Any]) -> None:
        if len(entries) != self.num_layers:
            raise FieldInvalid(
                f"{name} has {len(entries)} entries, for {self.num_layers} layers"
            )

    def _num_layers(self) -> int:
        name = "num_hidden_layers"
        if not self.fields.has(name) and self.fields.has("num_layers"):
            name = "num_layers"
        layers = self.fields.count(name)
        if layers > MOST_LAYERS:
            self.fields.refuse(name, f"more than {MOST_LAYERS} layers")
        return layers


# Bytes of a value of a state whose precision a file names.
_STATE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


def state_bytes_of(fields: Fields, name: str) -> float:
    """Bytes of a value of the state; 0 where the cache's precision counts."""
    dtype = fields.text(name, "auto")
    if dtype == "auto":
        return 0
    if dtype not in _STATE_BYTES:
        fields.unsupported(name)
    return _STATE_BYTES[dtype]


def bias_of(
    fields: Fields, name: str = "attention_bias", *, default: bool = False
) -> Literal["none", "qkvo"]:
    """Which projections of attention have a bias: all four, or none."""
    if fields.flag(name, default):
        return "qkvo"
    return "none"
