"""Runs a program that a model wrote: executed in the sandbox, by a bare Python from 3.8 on.

It is started for every program, so it imports next to nothing. It talks over its first two
descriptors, which candidate code does not get to see, in one of three modes:

- ``stdin``: a fresh process a test, given the input, asked for its output;
- ``call``: one process that defines the function and answers calls with plain data;
- ``assert``: one process that runs the test code, and another with the candidate (`assertions`).

In the sandbox, where nothing of this package is, `messages`, `candidates`, `assertions` and this
file are one program, one after the other (`sandbox.runner_command`).
"""

import posix
import sys

if __name__ != "__main__":  # in the sandbox they are one program
    from stages.verifiers.code.inside.assertions import run_assert
    from stages.verifiers.code.inside.candidates import limit, run_call, run_stdin, take_over
    from stages.verifiers.code.inside.messages import Gone, receive, send


def main() -> None:
    requests, replies = take_over(0, 60), take_over(1, 61)
    null = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)
    posix.close(null)
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    first = receive(requests)
    limit(first["limits"])
    send(replies, {"status": "ready"})
    try:
        code = compile(first["program"], "solution.py", "exec", dont_inherit=True)
    except BaseException as error:
        send(replies, {"status": type(error).__name__})
        return
    send(replies, {"status": "compiled"})
    try:
        modes = {"stdin": run_stdin, "call": run_call, "assert": run_assert}
        modes[first["mode"]](requests, replies, first, code)
    except Gone:
        pass


if __name__ == "__main__":
    main()
