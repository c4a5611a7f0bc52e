"""The proof of a log: what a system wrote down is replayed against the definitions of its machines."""
