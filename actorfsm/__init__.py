"""Typed state machines that run as actors."""
