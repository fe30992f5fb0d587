"""What all programs have in common: the scenario says when the mistake begins, and is told when it
is made."""

import sys
import time

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
address = ("127.0.0.1", port)


def say(word):
    print(word, flush=True)


def go():
    """Says that the program is ready, and waits until it is watched."""
    say("ready")
    if not sys.stdin.readline():
        sys.exit()


def leaked():
    """The mistake is made: nothing more happens."""
    say("leaked")
    rest()


def rest():
    while True:
        time.sleep(3600)
