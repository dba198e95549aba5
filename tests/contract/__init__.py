"""The contract of a store (`core/ports/store.py`) as tests: `suite`, and what tests of stores stand on.

In this repository the package is `tests.contract`. The wheel has it as `voiceflow_contract`, with a pytest plugin, for
whoever writes a store.
"""

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in iter_modules(__path__)))
