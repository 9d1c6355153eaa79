"""`completion`: the script that teaches a shell to complete our commands and options."""

from __future__ import annotations

import os
from pathlib import PurePath

import click

from durable_engine.output import Failure
from durable_engine.settings import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the completion script of SHELL (default: the one in $SHELL).

    \b
    bash:  eval "$(durable-engine completion bash)"      in ~/.bashrc
    zsh:   eval "$(durable-engine completion zsh)"       in ~/.zshrc
    fish:  durable-engine completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    name = shell or PurePath(os.environ.get("SHELL", "")).name
    found = get_completion_class(name)
    if found is None or name not in SHELLS:
        raise Failure(f"no completion for the shell {name!r}", hint=f"name one of {', '.join(SHELLS)}", exit_code=2)
    root = ctx.find_root()
    program = root.info_name or "durable-engine"
    complete = found(root.command, {}, program, f"_{program.replace('-', '_')}_COMPLETE".upper())
    # The base class's own: the one for bash runs bash first to look at its version.
    click.echo(ShellComplete.source(complete))
