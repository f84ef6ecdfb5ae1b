"""`python -m espnet_ctx -m espnet2.bin.asr_train ...`: a Python that knows our classes.

Takes what `python` takes: `-m module`, `-c command` or a script, and its arguments. ESPnet's recipes use it
as their interpreter: `--python "python3 -m espnet_ctx"`.
"""

import runpy
import sys

USAGE = "usage: python -m espnet_ctx (-m MODULE | -c COMMAND | SCRIPT) [ARGUMENT ...]"


def main(argv: list[str]) -> None:
    """Run the module, command or script named in `argv` as `__main__`."""
    if argv[:1] in ([], ["-h"], ["--help"]):
        print(USAGE)
        sys.exit(0 if argv else 2)
    if argv[0] in ("-m", "-c") and len(argv) < 2:
        print(f"{USAGE}\nerror: {argv[0]} needs an argument", file=sys.stderr)
        sys.exit(2)
    if argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    elif argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        exec(compile(argv[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
