"""The exception whose message is meant for users."""


class UserError(Exception):
    """A mistake that the user can fix: what happened, where (file, row, key), and what to do.

    Every step prints it as one short message, without a traceback, and exits with 1.
    """
