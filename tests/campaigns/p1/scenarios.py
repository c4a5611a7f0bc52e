"""The scenarios of the sweep: each a few lines in which one thing of the contract happens.

A scenario gets a `World`, is the same each time it is called, and says nothing about what must come of it: that is the
checker's business.
"""

from __future__ import annotations

from tests.campaigns.p1 import about_events, about_time_and_work, about_trees
from tests.campaigns.p1.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "about_events", "about_time_and_work", "about_trees"]
