"""Transforms: a user's function makes the object, or the objects, of a row.

It runs on the event loop, in threads or in processes; `asyncup.transforms.opening` finds it and chooses.
"""

from asyncup.model import Upload
from asyncup.transforms.record import Record

__all__ = ["Record", "Upload"]
