"""Run a module in a fork of the warm server, and end as it ends: `client.py ADDRESS -m MODULE …`.

It is started with `-I -S`, because this is several times faster; so it imports nothing but what is needed.
"""

import marshal
import os
import signal
import socket
import sys


def main(address: str, *arguments: str) -> int:
    """Send what a process inherits to the server; the exit status of the fork, negative for a signal."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"\0"], [0, 1, 2])
        server.sendall(marshal.dumps((arguments, os.getcwd(), dict(os.environ))))
        answer = server.recv(4)
    if not answer:
        sys.exit("the warm interpreter has ended")
    return os.waitstatus_to_exitcode(int.from_bytes(answer, "big"))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main(*sys.argv[1:])
    if status < 0:
        if -status != signal.SIGKILL:  # its handling cannot be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
