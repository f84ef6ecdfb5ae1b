"""A Python that has ESPnet imported: what the stages start as `python3 -m ...` is forked from it, and begins at once.

The commands are the real ones; only their imports, ten seconds each, are shared. A process lives as long as the client
that asked for it: killing that, even with -9, kills it.
"""

import fcntl
import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# what loads torch; all else starts as quickly by itself
SHIM = """#!/usr/bin/env bash
case "$1 $2" in
    "-m espnet_ctx" | "-m espnet2."* | "-m espnet_ctx.bin."*_inference | "-m espnet_ctx.bin."*pack* | \\
    "-m espnet_ctx.bin.embed_context" | "-m espnet_ctx.bin.generate_context" | "-c "*espnet_ctx.nn*)
        exec {python} -IS {client} {address} "$@" ;;
esac
exec {python} "$@"
"""


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """Start one; gives a folder whose `python3`, put first on the PATH, makes use of it until the end."""
    paths = {"python": sys.executable, "client": Path(__file__).resolve(), "address": folder / "socket"}
    shim = folder / "bin/python3"
    shim.parent.mkdir(parents=True)
    shim.write_text(SHIM.format(**{name: shlex.quote(str(path)) for name, path in paths.items()}))
    shim.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening, open(folder / "log", "w") as log:
        listening.bind(str(paths["address"]))
        listening.listen()  # who comes while it imports waits
        command = [sys.executable, str(paths["client"]), "--serve", str(listening.fileno())]
        files = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log, "pass_fds": [listening.fileno()]}
        server = subprocess.Popen(command, **files)
    yield shim.parent
    server.stdin.close()  # with it, the server ends
    server.wait()


def serve(listening: socket.socket) -> list[str]:
    """Fork for every request until standard input ends; returns in the forked processes only, with their arguments."""
    import espnet2.bin.asr_inference  # noqa: F401
    import espnet2.bin.cls_inference  # noqa: F401
    import espnet2.bin.slu_inference  # noqa: F401
    import espnet_model_zoo.downloader  # noqa: F401
    from transformers import BertModel, GPT2LMHeadModel, HubertModel  # noqa: F401

    import espnet_ctx.context.text_encoder
    import espnet_ctx.context.transformers_llm
    import espnet_ctx.inference.recognizer  # noqa: F401

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            return answer(connection)
        connection.close()
    os._exit(0)


def answer(connection: socket.socket) -> list[str]:
    """Fork what the client asks for, which returns; this process tells the client how that has ended."""
    message, files, *_ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:  # the client is gone
            os._exit(1)
        message += more
    process = os.fork()
    if process:
        for file in (0, 1, 2, *files):
            os.close(file)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        try:
            connection.sendall(json.dumps(status).encode())
        finally:
            os._exit(0)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if select.select([connection], [], [], 0)[0]:  # it went before that
        os._exit(1)
    connection.detach()
    for file, own in zip(files, (0, 1, 2)):
        os.dup2(file, own)
        os.close(file)
    request = json.loads(message)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    return request["arguments"]


def run(arguments: list[str]) -> None:
    """As `python3 -m module ...` or `python3 -c command ...`."""
    kind, what, *rest = arguments
    sys.argv = [what if kind == "-m" else kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


def ask(address: str, arguments: list[str]) -> int:
    """The client: have a process made with this one's files, folder and environment; its exit status."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        status = json.loads(connection.recv(64) or "1")
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    address, *arguments = sys.argv[1:]
    if address != "--serve":
        sys.exit(ask(address, arguments))
    run(serve(socket.socket(fileno=int(arguments[0]))))
