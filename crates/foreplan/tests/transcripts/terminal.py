"""Runs a program at a terminal of its own: terminal.py [TEXT KEYS]... -- PROGRAM [ARGUMENT]...

Types KEYS once TEXT is shown; `^C` is what Ctrl-C sends. Prints what was shown, and exits as the program does.
"""

import os
import pty
import sys

split = sys.argv.index("--")
script, program = sys.argv[1:split], sys.argv[split + 1 :]
child, terminal = pty.fork()
if child == 0:
    os.execvp(program[0], program)
shown = b""
while True:
    try:
        more = os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed.
        break
    if not more:
        break
    shown += more
    if script and script[0].encode() in shown:
        os.write(terminal, b"\x03" if script[1] == "^C" else script[1].encode() + b"\n")
        script = script[2:]
sys.stdout.write(shown.decode(errors="replace"))
sys.stdout.flush()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(status if status >= 0 else 128 - status)
