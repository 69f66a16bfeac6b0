"""What the service tells the launcher when it starts it, as JSON (`pool/local/launch.py`). Types only."""

from __future__ import annotations

from typing import TypedDict


class ScienceFacts(TypedDict):
    """For a template."""

    as_root: bool
    trees: list[str]
    """Folders to show in the sandbox beside /usr."""
    font_lists: str
    preload: list[str]
    """Modules that must be there."""
    preload_if_there: list[str]
    environment: dict[str, str]
    """The variables of a program, all of them."""


class KeeperFacts(TypedDict):
    """For the keeper and the nursery. The numbers are descriptors that they inherit."""

    as_root: bool
    lifeline: int
    nursery_control: int
    group_parents: list[str]
    science_command: list[str]
    trees: list[str]
    """As in `ScienceFacts`."""
    science_environment: dict[str, str]
