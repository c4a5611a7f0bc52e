"""Feeding a system from a file or a stream of JSON lines, so that a run that was killed goes on where it was.

`log` reads lines, `line` makes events of them, `position` finds in the journal how far an earlier run has come, and
`feeder` sends what is left.
"""
