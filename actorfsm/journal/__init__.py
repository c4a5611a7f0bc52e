"""The journal: where a commit goes, and what is left of a machine when its process is gone.

It stores rows and knows no machines; the machine knows no journal. What is stored are results, never commands: no code
of a user runs when a machine is loaded.
"""
