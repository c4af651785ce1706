"""What the commands share: flags, and one clear line for each way to be wrong.

Flows in: argv, and the function that a command is. Flows out: parsed flags, an exit status. A
command on a config uses absl, a command on a run argparse. ml_collections reports an unknown config
key or an unreadable config file with a traceback of its own; here it becomes one line that names
the flag.
"""

import argparse
import re
import runpy
import sys
from collections.abc import Callable, Sequence

from absl import flags

from arp_jax.training.sections import check_keys


def exit_status(
    command: Callable[[], int | None],
    traceback: bool,
    errors: tuple[type[Exception], ...] = (ValueError,),
) -> int:
    """Runs a command.

    Args:
        command: does the work; returns an exit status, None for 0.
        traceback: let errors pass, for their traceback.
        errors: what counts as wrong usage.

    Returns:
        The exit status: 2, after one line, for wrong usage.
    """
    try:
        return command() or 0
    except errors as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def run_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command on a run; `--help` prints its module's docstring as it stands."""
    return argparse.ArgumentParser(
        f"python -m {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every command on a run: which parameters, and --traceback."""
    add = parser.add_argument
    add("--step", type=int, help="checkpoint of this training step instead of the newest")
    add("--no_ema", action="store_true", help="last parameters instead of their moving average")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")


def check_only_flags(argv: Sequence[str]) -> None:
    """Raises ValueError naming the first argument that is not a flag."""
    if len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}; flags start with --")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses `argv` into absl's flags; `app.run(main, flags_parser=parse_flags)`.

    Returns:
        The program's name and what is not a flag.

    Raises:
        SystemExit: status 2, after one line, when --config names a file that cannot be read or
            --config.KEY a key that is not in it.
    """
    try:
        return _parse(argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
        # A config file that cannot be read shows only when the value is used.
        if flags.FLAGS["config"].value is not None:
            flags.FLAGS["config"].value.to_dict()
    except flags.Error as error:
        raise ValueError(f"{error}; see --help") from error
    except OSError as error:
        path = _value(argv, "config")
        raise ValueError(f"--config={path}: {str(error).splitlines()[-1].strip()}") from error
    except (AttributeError, KeyError) as error:
        # ml_collections stops before the flag has a value, so the file is read once more.
        file, _, variant = _value(argv, "config").partition(":")
        get_config = runpy.run_path(file)["get_config"]
        _name_unknown_key(argv, get_config(*([variant] if variant else [])).to_dict())
        raise error
    return rest


def _value(argv: Sequence[str], name: str) -> str:
    found = [re.fullmatch(f"--?{name}=(.*)", argument) for argument in argv]
    return next((match.group(1) for match in reversed(found) if match), "")


def _name_unknown_key(argv: Sequence[str], config: dict) -> None:
    """Raises ValueError for the first --config.a.b whose path is not in the config."""
    for argument in argv:
        match = re.match(r"--?config\.([\w.]+)", argument)
        section, where = config, "--config"
        for key in match.group(1).split(".") if match else ():
            check_keys([key], section, where)
            section, where = section[key], f"{where}.{key}"
            if not isinstance(section, dict):
                break
