"""Keys, kept from whoever only wanted to look."""

from __future__ import annotations

import copy
import pickle

import pytest

from kernel_magics.protocol.secret import HIDDEN, Secret

KEY = Secret(b"a key")


def test_only_reveal_shows_it() -> None:
    assert KEY.reveal() == b"a key"
    for shown in (repr(KEY), str(KEY), f"{KEY}", f"{[KEY]}"):
        assert HIDDEN in shown
        assert "a key" not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="a key is not pickled"):
        pickle.dumps({"key": KEY}, protocol)


def test_a_copy_is_itself() -> None:
    assert copy.copy(KEY) is KEY
    assert copy.deepcopy([KEY])[0] is KEY


def test_it_is_worth_what_it_holds() -> None:
    assert Secret(b"a key") == KEY
    assert Secret(b"another") != KEY
    assert KEY != b"a key"
    assert len({KEY, Secret(b"a key"), Secret(b"another")}) == 2
