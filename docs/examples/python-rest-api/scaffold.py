"""The tools that no single command does: writing a file from its template, and the health check.

    python3 scaffold.py VERB      JSON on stdin, JSON on stdout
"""

import json
import os
import queue
import string
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 10


class Failure(Exception):
    """A failure with a stable code that replan rules can match."""

    def __init__(self, code, message, retryable=False):
        super().__init__(message)
        self.error = {"code": code, "message": message, "retryable": retryable, "effect": "none"}


def inside(folder, path):
    """Returns the path below `folder`; a plan must not write anywhere else."""
    full = (folder / path).resolve()
    if not full.is_relative_to(folder):
        raise Failure("outside", f"{path} is outside of {folder.name}/")
    return full


def write(root, file, values):
    source = inside(HERE / "templates", file)
    if not source.is_file():
        raise Failure("unknown_template", f"there is no template {file}")
    text = string.Template(source.read_text()).safe_substitute(values)
    target = inside(HERE / "out", f"{root}/{file}")
    draft = target.with_name(f".{target.name}.draft")
    draft.write_text(text)
    os.replace(draft, target)
    return {"path": f"out/{root}/{file}", "bytes": len(text.encode())}


def first_line(stream):
    """Returns the first line, or nothing if none comes in time."""
    lines = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=START_SECONDS).strip()
    except queue.Empty:
        return ""


def check_health(root):
    folder = inside(HERE / "out", root)
    server = subprocess.Popen(
        [folder / ".venv/bin/python", "-m", "app.main"],
        cwd=folder,
        env={"PORT": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = first_line(server.stdout)
        if not line.startswith("listening on "):
            server.kill()
            raise Failure("no_start", f"the server did not start: {server.stderr.read()[-500:] or line}")
        url = f"http://{line.removeprefix('listening on ')}/health"
        with urllib.request.urlopen(url, timeout=START_SECONDS) as answer:
            return {"status": answer.status, "body": json.load(answer)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": {}}
    except (OSError, ValueError) as error:
        raise Failure("no_answer", f"the server does not answer: {error}", retryable=True) from error
    finally:
        server.kill()
        server.wait()


VERBS = {f.__name__: f for f in (write, check_health)}


def main():
    try:
        print(json.dumps(VERBS[sys.argv[1]](**json.load(sys.stdin))))
    except Failure as failure:
        print(json.dumps({"error": failure.error}))
        sys.exit(1)


if __name__ == "__main__":
    main()
