"""PLACEHOLDER by the lead so that others can run meanwhile; helper overwrites this file."""
import msgspec
from pool.backend import Isolation
class Protection(msgspec.Struct, frozen=True):
    name: str; present: bool; needed: bool; meaning: str; remedy: str
def probe(): return []
def level(p): return Isolation(level="reduced", missing=("placeholder",))
