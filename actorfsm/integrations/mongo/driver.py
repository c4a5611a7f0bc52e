"""PyMongo, which comes with an extra, and what its errors mean."""

from __future__ import annotations

from typing import Final

from actorfsm.errors import Unsupported

try:
    from bson import BSON
    from bson.binary import Binary, UuidRepresentation
    from bson.codec_options import CodecOptions, DatetimeConversion
    from bson.decimal128 import Decimal128
    from bson.errors import BSONError
    from pymongo import AsyncMongoClient, ReadPreference, errors
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.collection import Collection
except ImportError as missing:
    raise Unsupported(
        "this needs PyMongo 4.13.2 or newer, which is not installed: pip install 'actorfsm[mongo]'"
    ) from missing

__all__ = [
    "BSON",
    "AsyncCollection",
    "AsyncMongoClient",
    "BSONError",
    "Binary",
    "CodecOptions",
    "Collection",
    "DatetimeConversion",
    "Decimal128",
    "ReadPreference",
    "UuidRepresentation",
    "errors",
    "is_lost_race",
    "is_never_sent",
    "is_unknown",
]

_GIVEN_UP: Final = "TransientTransactionError"


def is_lost_race(error: errors.PyMongoError) -> bool:
    """Return whether the server gave up one of two transactions, so that the whole of it may be tried again."""
    return isinstance(error, errors.OperationFailure) and error.has_error_label(_GIVEN_UP)


def is_never_sent(error: errors.PyMongoError) -> bool:
    """Return whether no server was found to send it to. A retry that finds none raises what the first try did."""
    return isinstance(error, errors.ServerSelectionTimeoutError)


def is_unknown(error: errors.PyMongoError) -> bool:
    """Return whether a write that was sent may have been stored, or may yet be undone by a change of the primary."""
    return isinstance(error, errors.ConnectionFailure | errors.WriteConcernError) or error.has_error_label(
        "UnknownTransactionCommitResult"
    )
