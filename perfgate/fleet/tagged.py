"""Tagged: what the messages and the events of a fleet have in common.

Each travels, or is stored, as a JSON object that names its class. A field that is not
known is refused.
"""

from __future__ import annotations

import msgspec


class Tagged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """A message or an event.

    `kw_only` is not inherited, and type checkers want `frozen` in each class.
    """
