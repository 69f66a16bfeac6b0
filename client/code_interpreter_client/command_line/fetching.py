"""Files of a service on their way into a folder."""

from __future__ import annotations

from contextlib import closing

from code_interpreter_client.blocking import Client
from code_interpreter_client.output_folder import OutputFolder


def fetch(client: Client, file_id: str, folder: OutputFolder, path: str) -> None:
    """Raises `NotWritten`, and what the client raises. What breaks off is gone."""
    try:
        with closing(client.pieces(file_id)) as pieces:
            for piece in pieces:
                folder.write(path, piece, last=False)
        folder.write(path, b"", last=True)
    finally:
        # Else the next file would go on where this one broke off.
        folder.abandon()
