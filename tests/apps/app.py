"""A program that does to its descriptors what it is told, a line at a time.

Each line on stdin is a verb with arguments; each answer is one line: `ok VALUE...` or
`error TEXT`. Descriptors are bare numbers, so that nothing here closes one by accident. The
program ends when stdin does.
"""

import array
import ctypes
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

children = {}
streams = {}


@contextmanager
def borrowed(fd):
    """A socket object for `fd` that does not close it."""
    sock = socket.socket(fileno=int(fd))
    try:
        yield sock
    finally:
        sock.detach()


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def connect(host, port):
    sock = socket.socket(family(host))
    sock.connect((host, int(port)))
    return sock.detach()


def connect_open(host, port):
    """Connects with a socket that was never close-on-exec: the interpreter makes none."""
    libc = ctypes.CDLL(None, use_errno=True)
    sock = socket.socket(fileno=libc.socket(family(host), socket.SOCK_STREAM, 0))
    sock.connect((host, int(port)))
    return sock.detach()


def connect_many(count, host, port):
    return " ".join(str(connect(host, port)) for _ in range(int(count)))


def connect_start(host, port):
    """connect(2) that does not wait for the answer."""
    sock = socket.socket(family(host))
    sock.setblocking(False)
    sock.connect_ex((host, int(port)))
    return sock.detach()


def unconnected(host):
    return socket.socket(family(host)).detach()


def listen(host, backlog):
    sock = socket.socket(family(host))
    if host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, 0))
    sock.listen(int(backlog))
    port = sock.getsockname()[1]
    return f"{sock.detach()} {port}"


def accept(fd):
    with borrowed(fd) as sock:
        return sock.accept()[0].detach()


def read(fd, count):
    """Reads until `count` bytes have come, or the end."""
    with borrowed(fd) as sock:
        left = int(count)
        while left > 0 and (data := sock.recv(min(left, 65536))):
            left -= len(data)
        return int(count) - left


def write(fd, count):
    with borrowed(fd) as sock:
        sock.sendall(b"x" * int(count))


def send(fd, *parts):
    """Sends bytes in hexadecimal, each part in a segment of its own."""
    with borrowed(fd) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            sock.sendall(bytes.fromhex(part))


def limit(count):
    """From now on at most `count` descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count), hard))


def fill(count):
    """As `limit`, and takes all of them; the answer is one that can be given back."""
    limit(count)
    last = -1
    try:
        while True:
            last = os.dup(0)
    except OSError:
        return last


def errno_of(verb, *words):
    """The number of the error that `verb` ends in, 0 for none."""
    try:
        verbs[verb](*words)
        return 0
    except OSError as error:
        return error.errno


def bound(host, source, port):
    """Connects from this local port."""
    sock = socket.socket(family(host))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, int(source)))
    sock.connect((host, int(port)))
    return sock.detach()


def everything():
    """Two pipes' ends, three sockets that are no TCP, two files and three others."""
    local = [end.detach() for end in socket.socketpair()]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    files = [os.open(path, os.O_RDONLY) for path in ("/", __file__, "/dev/null")]
    epoll = select.epoll()
    # A bare number, as all others: the object would close its own.
    others = [os.eventfd(0), os.dup(epoll.fileno())]
    epoll.close()
    return " ".join(map(str, [*os.pipe(), *local, datagrams, *files, *others]))


def shutdown(fd):
    with borrowed(fd) as sock:
        sock.shutdown(socket.SHUT_WR)


def linger(fd):
    """The next close of `fd` sends RST."""
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def keepalive(fd):
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def stream(verb, fd, count, pause):
    """Reads or writes `count` bytes every `pause` seconds, until told to stop."""
    stop = threading.Event()

    def work():
        with borrowed(fd) as sock:
            while not stop.wait(float(pause)):
                sock.recv(int(count)) if verb == "read" else sock.sendall(b"x" * int(count))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    streams[fd] = (stop, worker)


def stream_stop(fd):
    stop, worker = streams.pop(fd)
    stop.set()
    worker.join()


def close(fd):
    os.close(int(fd))


def close_range(first, last):
    """close_range(2) itself, number 436 everywhere, and not a loop over close(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(436, ctypes.c_uint(int(first)), ctypes.c_uint(int(last)), 0) != 0:
        raise OSError(ctypes.get_errno(), "close_range")


def dup(fd):
    return os.dup(int(fd))


def dup2(fd, target):
    return os.dup2(int(fd), int(target), inheritable=False)


def reuse(fd, host, port):
    """Closes `fd` and connects again at once: the new socket gets the same number."""
    os.close(int(fd))
    return connect(host, port)


def inherit(fd):
    os.set_inheritable(int(fd), True)


def exec_self():
    os.execv(sys.executable, [sys.executable, __file__, "after-exec"])


def lose_main_thread():
    """Goes on in another thread and ends the first one alone, by exit(2) and not exit_group(2)."""
    threading.Thread(target=serve, args=(sys.stdin, sys.stdout)).start()
    print("ok", flush=True)
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)


def connect_as(name, host, port):
    """Connects in a thread of another name: prctl(PR_SET_NAME), 15."""
    made = []

    def work():
        ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
        made.append(connect(host, port))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return made[0]


def fork():
    """A child that understands the same verbs, by `in PID VERB ...`."""
    mine, its = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        mine.close()
        for other in children.values():
            other.close()
        children.clear()
        serve(its.makefile("r"), its.makefile("w"))
        os._exit(0)
    its.close()
    children[str(pid)] = mine
    return pid


def handover(fd):
    """What sshd and inetd do: a child for the connection, the parent closes it at once."""
    pid = fork()
    os.close(int(fd))
    return pid


def spawn():
    """Runs another program that gets every inheritable descriptor and knows nothing of them."""
    child = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, close_fds=False
    )
    # It ends when its stdin does.
    children[str(child.pid)] = child.stdin
    return child.pid


def upgrade(*fds):
    """A graceful restart: the new version gets these under their numbers and nothing else. The bit
    is cleared in the child, between fork and exec."""
    child = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[int(fd) for fd in fds]
    )
    children[str(child.pid)] = child.stdin
    return child.pid


def exec_after(seconds):
    """A child that takes so long from fork to exec, where it holds a copy of everything."""
    its, mine = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(its, 0)
        time.sleep(float(seconds))
        os.execvp("cat", ["cat"])
    os.close(its)
    children[str(pid)] = os.fdopen(mine, "wb")
    return pid


def inetd(fd):
    """Runs another program for the connection, as inetd does: on stdin and stdout."""
    child = subprocess.Popen(["cat"], stdin=int(fd), stdout=int(fd))
    os.close(int(fd))
    return child.pid


def detach():
    """Becomes a daemon: a child goes on in its place."""
    if os.fork() != 0:
        os._exit(0)
    return os.getpid()


def tell_child(pid, *words):
    link = children[pid]
    link.sendall((" ".join(words) + "\n").encode())
    answer = b""
    while not answer.endswith(b"\n"):
        more = link.recv(65536)
        if not more:
            raise OSError("the child ended")
        answer += more
    done, _, value = answer.decode().strip().partition(" ")
    if done != "ok":
        raise OSError(value)
    return value


def reap(pid):
    """Ends a child and waits for it."""
    children.pop(pid).close()
    os.waitpid(int(pid), 0)


def fork_as(pid):
    """Forks a child with this very pid, which the last one just gave back."""
    # Closed before the fork, so that the child has the numbers that the last one had.
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(int(pid) - 1))
    return fork()


def replace(pid, host, port):
    """Kills a child and forks another with the same pid; it connects. Answers with the pid that it
    got, its descriptor and the microseconds from death to birth."""
    os.kill(int(pid), 9)
    os.waitpid(int(pid), 0)
    dead = time.monotonic_ns()
    children.pop(pid).close()
    got = fork_as(pid)
    took = (time.monotonic_ns() - dead) // 1000
    fd = tell_child(str(got), "connect", host, port) if got == int(pid) else -1
    return f"{got} {fd} {took}"


def unix_bind(name):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind("\0" + name)
    return sock.detach()


def send_fd(name, fd):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [int(fd)]))]
    sock.sendmsg([b"x"], rights, 0, "\0" + name)
    sock.close()


def receive_fd(unix_fd):
    with borrowed(unix_fd) as sock:
        _, (rights,), _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4))
        return struct.unpack("i", rights[2])[0]


def forgetful_server(host):
    """A server as people write it: it reads to the end and then forgets to close."""
    server = socket.create_server((host, 0))
    forgotten = []

    def work():
        while True:
            sock, _ = server.accept()
            while sock.recv(4096):
                sock.sendall(b"answer")
            forgotten.append(sock)

    threading.Thread(target=work, daemon=True).start()
    return server.getsockname()[1]


verbs = {
    name.replace("_", "-"): verb
    for name, verb in {
        "connect": connect,
        "connect_open": connect_open,
        "connect_many": connect_many,
        "connect_start": connect_start,
        "connect_as": connect_as,
        "unconnected": unconnected,
        "listen": listen,
        "accept": accept,
        "read": read,
        "write": write,
        "send": send,
        "limit": limit,
        "fill": fill,
        "errno": errno_of,
        "bound": bound,
        "everything": everything,
        "shutdown": shutdown,
        "linger": linger,
        "keepalive": keepalive,
        "stream": stream,
        "stream_stop": stream_stop,
        "close": close,
        "close_range": close_range,
        "dup": dup,
        "dup2": dup2,
        "reuse": reuse,
        "inherit": inherit,
        "exec": exec_self,
        "lose_main_thread": lose_main_thread,
        "fork": fork,
        "handover": handover,
        "spawn": spawn,
        "upgrade": upgrade,
        "exec_after": exec_after,
        "inetd": inetd,
        "detach": detach,
        "in": tell_child,
        "reap": reap,
        "replace": replace,
        "unix_bind": unix_bind,
        "send_fd": send_fd,
        "receive_fd": receive_fd,
        "forgetful_server": forgetful_server,
    }.items()
}


def serve(orders, answers):
    for line in orders:
        verb, *words = line.split()
        if verb == "exit":
            os._exit(0)
        try:
            value = verbs[verb](*words)
            answer = "ok" if value is None else f"ok {value}"
        except Exception as error:
            answer = f"error {verb}: {error!r}"
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    print("ok" if "after-exec" in sys.argv else "ready", flush=True)
    serve(sys.stdin, sys.stdout)
