"""Without its extra a module says which one it needs, and nothing else of the package is concerned."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from actorfsm import Unsupported

BEHIND = {
    "actorfsm.integrations.starlette": ("starlette", "fastapi"),
    "actorfsm.integrations.fastapi": ("fastapi", "fastapi"),
    "actorfsm.integrations.aiohttp": ("aiohttp", "aiohttp"),
}


@pytest.mark.parametrize("module", sorted(BEHIND))
def test_a_module_without_its_extra_names_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, extra = BEHIND[module]
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(Unsupported, match=rf"pip install 'actorfsm\[{extra}\]'"):
        import_module(module)


def test_no_framework_is_imported_with_the_package() -> None:

    code = "import sys, actorfsm, actorfsm.integrations.resource, actorfsm.integrations.live; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"fastapi", "starlette", "aiohttp"} & set(said.split()) == set()
