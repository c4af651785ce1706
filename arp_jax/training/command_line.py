"""Command-line flags with one clear line for each way to be wrong.

Flows in: argv. Flows out: parsed absl flags. ml_collections reports an unknown config key or an
unreadable config file with a traceback of its own; here they become one line that names the flag.
"""

import re
import runpy
import sys
from collections.abc import Sequence

from absl import flags

from arp_jax.training.sections import check_keys


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
