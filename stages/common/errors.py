"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend: what happened, where (file, row, key), and what to do.

    Every command line prints it as one short message, without a traceback, and exits with 1.
    """
