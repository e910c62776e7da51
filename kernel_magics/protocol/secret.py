"""Keys, kept from everybody who only wanted to look."""

from __future__ import annotations

HIDDEN = "(hidden)"
"""What stands in the place of a secret wherever people may read it."""


class Secret:
    """Bytes that no repr, format or log shows; :meth:`reveal` is the only way to them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes. Call it where they are used, and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __copy__(self) -> Secret:
        return self  # as all that cannot change

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled: it would be readable wherever the pickle goes")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)
