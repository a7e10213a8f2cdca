"""`completion`: the script by which a shell completes commands, job ids, queues and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mpdispatch.cli.program import COMPLETE_VARIABLE, Options, command, program


@command(
    'eval "$(mpdispatch completion bash)"       # in ~/.bashrc\n'
    'eval "$(mpdispatch completion zsh)"        # in ~/.zshrc\n'
    "mpdispatch completion fish > ~/.config/fish/completions/mpdispatch.fish",
    speaks_json=False,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(options: Options, shell: str) -> None:
    """Print the script that makes a shell complete commands, options, job ids, queues and job names."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(program, {}, "mpdispatch", COMPLETE_VARIABLE).source())
