"""A machine of another module, without `from __future__ import annotations`, whose names mean its own classes."""

from enum import Enum

from actorfsm import Event, Machine, after_transition, on_enter, transition


class Light(Enum):
    OFF = 1
    ON = 2


class Switch(Event[int]):
    n: int = 0


class Lamp(Machine[Light], initial=Light.OFF, final=(Light.ON,)):
    count: int = 0

    @transition(Light.OFF, to=Light.ON)
    def switch(self, event: Switch) -> int:
        return 1

    @on_enter(Light.ON)
    def glow(self, old: Light, new: Light, event: "Switch") -> None: ...


class Glowing:
    """A mixin with a hook."""

    @after_transition(Light.ON)
    def shine(self, old: Light, new: Light, event: "Switch") -> None: ...
