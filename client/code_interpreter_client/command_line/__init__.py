"""`code-interpreter exec|files|sessions`: what a person asks of a running service."""

from code_interpreter_client.command_line.executing import exec_command
from code_interpreter_client.command_line.session_commands import sessions
from code_interpreter_client.command_line.stored_files import files

__all__ = ["COMMANDS"]

COMMANDS = (exec_command, files, sessions)
