"""The `ntkit` command and its subcommands."""

from importlib.metadata import version
from typing import Annotated

import typer

from ntkit.cli.demo import demo
from ntkit.cli.dynamics import dynamics
from ntkit.cli.fit import fit
from ntkit.cli.kernel import kernel
from ntkit.cli.learning_curve import learning_curve
from ntkit.cli.phase import phase
from ntkit.cli.predict import predict
from ntkit.cli.spectrum import spectrum

app = typer.Typer(
    name="ntkit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"ntkit {version('ntkit')}")
        raise typer.Exit
    return asked


@app.callback()
def ntkit(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Infinitely wide neural networks on tables and images: what gradient descent converges to, and the way there.

    Exit codes: 0 success, 1 the command failed (with a message), 2 wrong command line, 130 interrupted.
    Set NTKIT_TRACEBACK=1 to see where an error was raised.
    """


app.command()(fit)
app.command()(predict)
app.command()(kernel)
app.command()(dynamics)
app.command()(spectrum)
app.command()(learning_curve)
app.command()(phase)
app.command()(demo)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:  # before or after a command's own handling
        raise SystemExit(130) from None
