"""P5: the runtime against a model of the contract."""

import pytest

# They are no test modules, and what they assert shall be shown as in those.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("against", "over_journals")))
