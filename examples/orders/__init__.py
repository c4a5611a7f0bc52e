"""Orders of a shop, driven by a log of events: `python -m examples.orders [FILE | -]`.

To read it: `order` is the machine, with its states, events and timers. `shop` is the supervision tree that it lives in,
beside a `gateway` that fails and a `notice` for each customer who is told something. `log` and `feed` read the log and
send it, `__main__` puts everything together, `summary` is what is printed. (`generate` made the log, from `profile`.)
"""
