"""What a test says to belong to the full tier; ``conftest`` knows what that means."""

import pytest
from _pytest.mark.structures import ParameterSet


def full(*values: object) -> list[ParameterSet]:
    """Cases of a parametrised test that belong to the full tier."""
    return [pytest.param(value, marks=pytest.mark.full) for value in values]
