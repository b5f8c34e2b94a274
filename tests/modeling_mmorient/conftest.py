"""A processor with all its parts."""

import pytest

from modeling_mmorient import MMOrientProcessor
from tests.modeling_mmorient.processor_parts import make_parts


@pytest.fixture
def processor() -> MMOrientProcessor:
    return MMOrientProcessor(**make_parts())
