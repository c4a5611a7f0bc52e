"""Ties of one instant that the model once did not know, as the steps that showed them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns.p5.against import AgainstModel

USUAL: dict[str, Any] = {
    "fate": "ok",
    "own": (),
    "to": (),
    "timer": "",
    "watch": "",
    "slow": 0,
    "at": "body",
}


@pytest.mark.rule("C8")
@pytest.mark.rule("C16")
def test_a_deadline_may_pass_before_the_restart_of_the_same_instant() -> None:
    against = AgainstModel()

    def ask(to: str, kind: str, /, *, own_id: bool, timeout: float, **wishes: Any) -> None:
        against.ask(kind=kind, own_id=own_id, timeout=timeout, to=to, wishes=USUAL | wishes)

    against.start(inline=True, spawned=3, seed=22)
    ask(
        "u",
        "go",
        own_id=False,
        timeout=1000.3,
        own=("go",),
        to=("b", "c"),
        timer="failing",
        watch="-b",
        slow=3,
    )
    ask("t", "end", own_id=True, timeout=1.3, slow=3, own=("go",))
    ask("c", "go", own_id=True, timeout=1000.3, watch="c", at="exit", fate="restart", own=("note",))
    ask("t", "go", own_id=True, timeout=1000.3, at="exit", own=("go",), fate="fatal")
    ask(
        "u",
        "late",
        own_id=False,
        timeout=1000.3,
        own=("go",),
        to=("c", "c", "nobody"),
        fate="restart",
        slow=3,
        watch="-a",
    )
    ask("b", "go", own_id=True, timeout=1.3, to=("a",), timer="named")
    ask("t", "go", own_id=True, timeout=4.3, to=("b", "c"), watch="nobody")
    ask("a", "go", own_id=False, timeout=4.3, at="exit", own=("note",))
    ask("s", "go", own_id=True, timeout=1.3, at="exit", to=("c", "c", "nobody"), fate="restart")
    ask("s", "end", own_id=False, timeout=4.3, at="before", timer="named", fate="fatal", slow=3)
    against.teardown()
