"""The command line: all commands, in one group.

Those that call a service need the base install alone. The service's own are loaded when one of them is asked for: who
has not installed it can do without its libraries, and who only calls it does not wait for them.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from broker.version import SERVICE_VERSION
from code_interpreter_client.command_line import COMMANDS

OF_THE_SERVICE = ("doctor", "keys", "run", "serve")
OURS = ("broker", "pool", "sandbox_runtime")
NOT_INSTALLED = 125


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *OF_THE_SERVICE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _of_the_service(cmd_name) if cmd_name in OF_THE_SERVICE else super().get_command(ctx, cmd_name)


def _of_the_service(name: str) -> click.Command:
    try:
        found: tuple[click.Command, ...] = importlib.import_module("broker.service_commands").COMMANDS
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        return _without_its_libraries(name)
    return next(command for command in found if command.name == name)


def _without_its_libraries(name: str) -> click.Command:
    @click.command(name, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def command(args: tuple[str, ...]) -> None:
        click.echo(
            f"code-interpreter: {name} needs the service's libraries, which are the extra `server`; "
            "in a checkout `make run` installs them, or pip install '.[server]'",
            err=True,
        )
        sys.exit(NOT_INSTALLED)

    command.short_help = "(needs the extra `server`)"
    return command


@click.group(cls=Commands, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(SERVICE_VERSION, prog_name="code-interpreter")
def cli() -> None:
    """Runs untrusted Python in sandboxes that were started before the request came.

    exec, files and sessions call a service that is running; serve is one, and run needs none.
    """


def main() -> None:
    _open_closed_streams()
    cli()


def _open_closed_streams() -> None:
    """A stream that was closed for us (`<&-`, `>&-`) is an empty one: its number would go to some socket of ours."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115  # for good
